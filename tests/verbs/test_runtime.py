"""The runtime of a simulated host: time, debt, waiting, tasks."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from simmig.verbs.runtime import Work
from simmig.verbs.sim.fabric import Fabric
from simmig.verbs.sim.host import Host, HostCosts
from simmig.verbs.sim.runtime import SimRuntime, SimTask, TaskCancelled
from simmig.verbs.sim.timeline import Timeline


class World:
    def __init__(self, costs: HostCosts | None = None) -> None:
        self.env = Timeline()
        self.host: Host = Fabric(self.env).add_host("host", costs or HostCosts())
        self.runtime = SimRuntime(self.host)
        self.log: list[Any] = []

    def note(self, what: str) -> None:
        self.log.append((self.env.now, what))

    def run(self, *coroutines: Coroutine[Any, Any, Any]) -> list[SimTask]:
        tasks = [self.runtime.start(coroutine, f"task {index}") for index, coroutine in enumerate(coroutines)]
        self.env.run()
        return tasks


def test_sleep_and_time() -> None:
    world = World()

    async def task() -> None:
        await world.runtime.sleep(100)
        assert world.runtime.now_ns() == 100
        await world.runtime.sleep(0)
        assert world.runtime.now_ns() == 100
        with pytest.raises(ValueError, match="-1"):
            await world.runtime.sleep(-1)

    (done,) = world.run(task())
    assert done.done
    assert done._error is None


def test_work_is_charged_and_paid_at_the_next_wait() -> None:
    world = World(HostCosts(scan_page_ns=0.5, sync_page_ns=2, zero_test_page_ns=100, message_ns=1_000))
    runtime = world.runtime

    async def task() -> None:
        runtime.work(Work.SCAN_PAGE, 3)
        assert (world.env.now, runtime.now_ns(), world.host.debt_ns) == (0, 1, 1)
        runtime.work(Work.SCAN_PAGE, 1)  # halves add up
        assert runtime.now_ns() == 2
        await runtime.checkpoint()
        assert (world.env.now, world.host.debt_ns) == (2, 0)
        runtime.work(Work.MESSAGE, 2)
        await runtime.sleep(10)
        assert world.env.now == 2_012
        runtime.work(Work.ZERO_TEST_PAGE, 1)
        assert not await runtime.wait(deadline_ns=2_000)  # already over, and yet the work takes its time
        assert world.env.now == 2_112
        runtime.work(Work.SYNC_PAGE, 4)
        signal = runtime.signal()
        signal.set()
        assert await runtime.wait(signal)
        assert world.env.now == 2_120
        await runtime.checkpoint()
        assert world.env.now == 2_120

    (done,) = world.run(task())
    assert done._error is None


@pytest.mark.parametrize(("debt", "set_at", "woken_at"), [(0, 500, 530), (100, 500, 530), (700, 500, 700)])
def test_waking_takes_time_unless_the_task_was_still_busy(debt: int, set_at: int, woken_at: int) -> None:
    world = World(HostCosts(wake_ns=30))
    signal = world.runtime.signal()

    async def waiter() -> None:
        world.host.charge(debt)
        assert await world.runtime.wait(signal)
        world.note("woken")

    async def setter() -> None:
        await world.runtime.sleep(set_at)
        signal.set()

    # The setter on a host of its own, so that it pays for nothing of the waiter's.
    other = SimRuntime(Host(world.env, "other", HostCosts()))
    world.runtime.start(waiter(), "waiter")
    other.start(setter(), "setter")
    world.env.run()
    assert world.log == [(woken_at, "woken")]


def test_wait_returns_at_once_when_something_is_ready() -> None:
    world = World()
    ready, never = world.runtime.signal(), world.runtime.signal()
    ready.set()
    ready.set()

    async def task() -> None:
        for sources in ((ready,), (never, ready), (ready, never)):
            assert await world.runtime.wait(*sources)
            assert world.env.now == 0

    assert world.run(task())[0]._error is None


def test_wait_gives_up_at_the_deadline() -> None:
    world = World()
    signal = world.runtime.signal()

    async def task() -> None:
        for deadline in (300, 100, 700, 650):
            assert not await world.runtime.wait(signal, deadline_ns=deadline)
            world.note(str(deadline))

    world.run(task())
    assert world.log == [(300, "300"), (300, "100"), (700, "700"), (700, "650")]


def test_deadlines_of_earlier_waits_do_not_disturb_later_ones() -> None:
    world = World()
    first, second = world.runtime.signal(), world.runtime.signal()

    async def waiter() -> None:
        assert await world.runtime.wait(first, deadline_ns=1_000)
        assert not await world.runtime.wait(second, deadline_ns=3_000)
        world.note("later")
        assert await world.runtime.wait(second, deadline_ns=9_000)
        world.note("set")

    async def setter() -> None:
        await world.runtime.sleep(10)
        first.set()
        await world.runtime.sleep(5_000)
        second.set()

    world.run(waiter(), setter())
    assert world.log == [(3_000, "later"), (5_010, "set")]


def test_a_million_deadlines_leave_no_heap_behind() -> None:
    """A wait that ends early must not leave its alarm in the queue: alarms are set again when they ring early."""
    world = World()
    signals = [world.runtime.signal() for _ in range(2_000)]
    sizes: list[int] = []

    async def waiter() -> None:
        for signal in signals:
            assert await world.runtime.wait(signal, deadline_ns=world.runtime.now_ns() + 10**10)
            sizes.append(len(world.env.heap))

    async def setter() -> None:
        for signal in signals:
            await world.runtime.sleep(10)
            signal.set()

    world.run(waiter(), setter())
    assert max(sizes) < 10


def test_all_waiters_of_a_source_wake() -> None:
    world = World()
    signal = world.runtime.signal()

    async def waiter(name: str) -> None:
        await world.runtime.wait(signal)
        world.note(name)

    async def setter() -> None:
        await world.runtime.sleep(5)
        signal.set()

    world.run(waiter("a"), waiter("b"), setter())
    assert world.log == [(5, "a"), (5, "b")]
    assert signal.waiters == []


def test_join_gives_the_result_or_the_error() -> None:
    world = World()

    async def works() -> str:
        await world.runtime.sleep(10)
        return "done"

    async def fails() -> None:
        await world.runtime.sleep(20)
        raise KeyError("gone")

    async def parent() -> str:
        good, bad = world.runtime.start(works(), "works"), world.runtime.start(fails(), "fails")
        assert not good.done
        with pytest.raises(KeyError, match="gone"):
            await bad.join()
        assert good.done
        return str(await good.join())

    (task,) = world.run(parent())
    assert task._result == "done"


def test_cancel_ends_a_task_at_its_wait() -> None:
    world = World()
    signal = world.runtime.signal()

    async def victim() -> None:
        try:
            await world.runtime.wait(signal)
        except Exception:
            world.note("caught as an error, which it is not")
        finally:
            world.note("finally")

    async def killer() -> None:
        task = world.runtime.start(victim(), "victim")
        await world.runtime.sleep(10)
        task.cancel()
        task.cancel()
        with pytest.raises(TaskCancelled):
            await task.join()
        signal.set()
        task.cancel()
        world.note("over")

    (done,) = world.run(killer())
    assert done._error is None
    assert world.log == [(10, "finally"), (10, "over")]
    assert signal.waiters == []


@pytest.mark.parametrize("how", ["wait", "sleep"])
def test_a_cancelled_task_cannot_wait_any_more(how: str) -> None:
    world = World()
    signal = world.runtime.signal()

    async def wait() -> None:
        if how == "wait":
            await world.runtime.wait(signal, deadline_ns=1_000)
        else:
            await world.runtime.sleep(1_000)

    async def victim() -> None:
        try:
            await wait()
        except TaskCancelled:
            await wait()
            world.note("waited")

    async def killer() -> None:
        task = world.runtime.start(victim(), "victim")
        await world.runtime.sleep(10)
        task.cancel()
        with pytest.raises(TaskCancelled):
            await task.join()
        world.note("over")

    (done,) = world.run(killer())
    assert done._error is None
    assert world.log == [(10, "over")]


def test_a_task_may_cancel_itself() -> None:
    world = World()
    tasks: list[SimTask] = []

    async def victim() -> None:
        await world.runtime.sleep(1)
        tasks[0].cancel()
        world.note("still here")
        await world.runtime.sleep(1)
        world.note("not here")

    tasks += [world.runtime.start(victim(), "victim")]
    world.env.run()
    assert world.log == [(1, "still here")]
    assert tasks[0].done


def test_killing_a_host_ends_its_tasks() -> None:
    world = World()

    async def forever() -> None:
        while True:
            await world.runtime.sleep(100)

    tasks = [world.runtime.start(forever(), name) for name in "ab"]
    world.env.run(until=250)
    world.host.kill()
    world.host.kill()
    world.env.run()
    assert all(task.done for task in tasks)
    assert world.env.now <= 300
    assert not world.host.tasks
    assert not world.host.waiters


def test_waiting_outside_a_task_is_an_error() -> None:
    world = World()
    coroutine = world.runtime.sleep(1)
    with pytest.raises(RuntimeError, match=r"SimRuntime.start"):
        coroutine.send(None)


@pytest.mark.parametrize("name", ["register_ns", "wake_ns", "resume_ns"])
def test_negative_costs_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        HostCosts(**{name: -1.0})
    with pytest.raises(ValueError, match=name):
        HostCosts(**{name: float("nan")})
