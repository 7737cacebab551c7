"""The runtime that drives a SimPy environment: virtual time, waiting, tasks of a simulated host."""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from heapq import heappush
from typing import TYPE_CHECKING, Any, cast

from simpy.events import NORMAL
from simpy.exceptions import Interrupt

from simmig.verbs.sim.host import Host
from simmig.verbs.sim.waiting import TaskCancelled, Waitable, Waiter

if TYPE_CHECKING:
    import simpy


class SimSignal(Waitable):
    """A flag set once and for all."""

    __slots__ = ("is_set", "ready")

    def __init__(self) -> None:
        super().__init__()
        self.is_set = self.ready = False

    def set(self) -> None:
        """Raise the flag and wake every waiter; again is a no-op."""
        if not self.is_set:
            self.is_set = self.ready = True
            self.wake_waiters()


class SimTask(Waitable):
    """A coroutine run by a simpy process."""

    __slots__ = ("_error", "_host", "_process", "_result", "_runtime", "done", "name")

    def __init__(self, runtime: SimRuntime, coroutine: Coroutine[Any, Any, Any], name: str) -> None:
        super().__init__()
        self.name = name
        self.done = False
        self._runtime = runtime
        self._host = runtime.host
        self._result: Any = None
        self._error: BaseException | None = None
        self._process = self._host.env.process(cast(Any, coroutine))
        callbacks = cast(list[Any], self._process.callbacks)
        callbacks.append(self._ended)
        self._host.tasks.append(self)

    @property
    def ready(self) -> bool:
        """Whether it has ended."""
        return self.done

    def cancel(self) -> None:
        """End it at its current wait (its next one, when it cancels itself). After its end a no-op."""
        if self.done or not self._process.is_alive:
            return
        if self._process is self._host.env.active_process:
            self._runtime.waiter().cancelled()
        else:
            self._process.interrupt()

    async def join(self) -> Any:
        """Wait for its end; returns its value or raises what it raised (TaskCancelled if it was cancelled)."""
        await self._runtime.wait(self)
        if self._error is not None:
            raise self._error
        return self._result

    def _ended(self, process: simpy.Process) -> None:
        self.done = True
        self._host.tasks.remove(self)
        self._runtime.forget(process)
        if process.ok:
            self._result = process.value
        else:
            process.defused = True  # the error is join's to raise
            self._error = cast(BaseException, process.value)
        self.wake_waiters()


class SimRuntime:
    """Implements `simmig.verbs.runtime.Runtime` for the tasks of one host.

    Every wait first pays the host's debt, in the same event as the wait itself: a task that owes time is simply
    not woken before it has done its work.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.now_ns, self.work = host.now_ns, host.work
        self._env: Any = host.env

    async def sleep(self, duration_ns: int) -> None:
        """Wait for that long, after the work done since the last wait."""
        if duration_ns < 0:
            raise ValueError(f"cannot sleep for {duration_ns} ns")
        await self._pause(self.host.take_debt() + duration_ns)

    @property
    def lags(self) -> bool:
        """Whether anything happens in the world within the time that this host is ahead of it."""
        host = self.host
        queue = self._env.heap
        return bool(queue) and queue[0][0] <= host.now_ns()

    async def checkpoint(self) -> None:
        """Pay for the work done since the last wait, by letting that much time pass."""
        debt_ns = self.host.take_debt()
        if debt_ns:
            await self._pause(debt_ns)

    @types.coroutine
    def wait(self, *sources: Any, deadline_ns: int | None = None) -> Generator[Any, Any, bool]:
        """Wait until one of the sources is ready: True; or until the deadline has passed: False."""
        host = self.host
        debt_ns = host.take_debt()
        for source in sources:
            if source.ready:
                if debt_ns:
                    yield from self._sleep(self.waiter(), debt_ns)
                return True
        env: Any = self._env
        waiter = host.waiters.get(env.active_process) or self.waiter()
        if waiter.sources != sources:
            waiter.listen(sources)
        waiter.waiting = True
        waiter.paid_ns = env._now + debt_ns
        waiter.callbacks = []
        waiter.deadline_ns = deadline_ns
        if deadline_ns is not None:
            waiter.set_deadline(deadline_ns)
        try:
            return cast(bool, (yield waiter))
        except Interrupt:
            raise waiter.cancelled() from None

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> SimTask:
        """Run a coroutine beside the caller, from this host's present on."""
        return SimTask(self, coroutine, name)

    def signal(self) -> SimSignal:
        """A new signal, not set."""
        return SimSignal()

    def waiter(self) -> Waiter:
        """The waiter of the task that is running; raises RuntimeError outside any."""
        process = self._env.active_process
        if process is None:
            raise RuntimeError("waiting needs a task: run the coroutine with SimRuntime.start")
        waiter = self.host.waiters.get(process)
        if waiter is None:
            waiter = self.host.waiters[process] = Waiter(self._env, self.host.wake_ns)
        return waiter

    def forget(self, process: simpy.Process) -> None:
        """Drop the waiter of a task that has ended."""
        waiter = self.host.waiters.pop(process, None)
        if waiter is not None:
            waiter.cancelled()

    @types.coroutine
    def _pause(self, duration_ns: int) -> Generator[Any, Any, None]:
        yield from self._sleep(self.waiter(), duration_ns)

    def _sleep(self, waiter: Waiter, duration_ns: int) -> Generator[Any, Any, None]:
        """Let that much time pass; no source can cut it short."""
        waiter.listen(())
        env = self._env
        waiter.callbacks = []
        heappush(env.heap, (env._now + duration_ns, NORMAL, env.number(), waiter))
        try:
            yield waiter
        except Interrupt:
            raise waiter.cancelled() from None


__all__ = ["SimRuntime", "SimSignal", "SimTask", "TaskCancelled"]
