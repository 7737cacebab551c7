"""The two ends in two processes: the same outcome, and what becomes of one when the other dies.

The processes come from a fork server, which has never used a device. One forked from here would share what
librdmacm holds open here, and what it makes by that outlives it.
"""

import asyncio
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

import numpy as np
import pytest

from simmig.guest.machine import Machine
from simmig.guest.real import RealGuest
from simmig.guest.vcpu import contents
from simmig.guest.workload import BATCH_WRITES, Sweep
from simmig.migration import destination, source
from simmig.migration.config import MigrationConfig, Outcome
from simmig.migration.policies import Point, Sender
from simmig.trace.events import (
    AnyEvent,
    ControlReceived,
    ControlSent,
    DeviceStateSent,
    MemoryRegistered,
    MigrationBegan,
    VmStopped,
    WorkPosted,
)
from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import Binding, load
from simmig.verbs.rdma.endpoint import RdmaDialer, RdmaListener
from simmig.verbs.rdma.runtime import RdmaRuntime
from tests.device import link
from tests.device.conftest import DESTINATION, PATIENCE_S, PORT, SOURCE

MIB = 1 << 20
MACHINE = Machine((("ram", 6 * MIB),), 0.2, Sweep(MIB, MIB // 2), 64 << 10)
CONFIG = MigrationConfig(pin_all=True, max_bandwidth_bytes_s=None, downtime_limit_ns=1_000_000_000)
DYNAMIC = replace(CONFIG, pin_all=False)
BOUND_S = 120
"""Six times 2.1 s until a queue pair gives its peer up, 30 s for a control message; with room for emulation."""


@pytest.fixture
def nothing_left(verbs: Binding) -> Iterator[None]:
    """The devices are left as they were found."""
    before = link.objects()
    yield
    link.assert_no_more_than(before)


_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.device.test_two_processes"])


@dataclass(frozen=True)
class Told:
    """What an end says of how it ended: a destination also whether its guest's memory was as it had to be."""

    outcome: Outcome
    guest_ran: bool
    took_s: float
    same: bool = False
    registrations: int = 0


class DrainEverySlice:
    def drain(self, point: Point, sender: Sender) -> int | None:
        return 0 if point is Point.SLICE_END else None


def _expected(guest_ns: int) -> "np.ndarray[tuple[int, int], np.dtype[np.uint64]]":
    """What the guest's memory holds once it has run for so long: nobody needs to see the source's."""
    numbers = np.zeros(MACHINE.pages, dtype=np.uint64)
    end = MACHINE.zero_from(MACHINE.pages)
    numbers[:end] = np.arange(1, end + 1)
    for write in range(MACHINE.workload.writes_by(guest_ns)):
        page = MACHINE.workload.batch(write // BATCH_WRITES)[write % BATCH_WRITES]
        numbers[page] = MACHINE.pages + 1 + write
    memory = contents(numbers)
    memory[numbers == 0] = 0
    return memory


def _receive(ready: Callable[[], None], config: MigrationConfig, kill: tuple[str, int] | None) -> Told:
    assert kill is None
    verbs = load()

    async def body() -> tuple[Outcome, bool, list[bool]]:
        runtime = RdmaRuntime()
        guest = RealGuest(runtime, MACHINE, incoming=True)
        listener = RdmaListener(verbs, runtime, device.address(verbs, DESTINATION).ip, PORT)
        same: list[bool] = []

        def compare() -> None:
            same.append(np.array_equal(guest.memory.pages, _expected(guest._progress.guest_ns)))

        ready()
        outcome = await destination.receive(
            config, guest, verbs, runtime, listener, runtime.signal(), before_resume=compare
        )
        ran = guest.running
        listener.close()
        guest.close()
        return outcome, ran, same

    began_s = time.monotonic()
    outcome, ran, same = asyncio.run(asyncio.wait_for(body(), PATIENCE_S))
    return Told(outcome, ran, time.monotonic() - began_s, same == [True])


def _send(ready: Callable[[], None], config: MigrationConfig, kill: tuple[str, int] | None) -> Told:
    verbs = load()
    deadly = _kill_at(*kill) if kill is not None else None
    registrations = 0

    def emit(event: AnyEvent) -> None:
        nonlocal registrations
        registrations += isinstance(event, ControlReceived) and event.type == "REGISTER_RESULT"
        if deadly is not None:
            deadly(event)

    async def body() -> tuple[Outcome, bool]:
        runtime = RdmaRuntime()
        guest = RealGuest(runtime, MACHINE)
        dialer = RdmaDialer(verbs, runtime, device.address(verbs, DESTINATION).ip, PORT, SOURCE)
        await guest.resume()
        outcome = await source.migrate(
            config, guest, verbs, runtime, dialer, DrainEverySlice(), runtime.signal(), emit
        )
        running = guest.running
        dialer.close()
        guest.close()
        return outcome, running

    ready()
    began_s = time.monotonic()
    outcome, running = asyncio.run(asyncio.wait_for(body(), PATIENCE_S))
    return Told(outcome, running, time.monotonic() - began_s, registrations=registrations)


Body = Callable[[Callable[[], None], MigrationConfig, tuple[str, int] | None], Told]


def _live(
    pipe: Connection, body: Body, config: MigrationConfig, kill: tuple[str, int] | None, may_lock_bytes: int | None
) -> None:
    if may_lock_bytes is not None:
        _may_lock(may_lock_bytes)
    pipe.send(body(lambda: pipe.send(None), config, kill))


class End:
    """The process of one end."""

    def __init__(
        self,
        body: Body,
        config: MigrationConfig = CONFIG,
        kill: tuple[str, int] | None = None,
        may_lock_bytes: int | None = None,
    ) -> None:
        self._pipe, theirs = _SERVER.Pipe()
        self.process = _SERVER.Process(target=_live, args=(theirs, body, config, kill, may_lock_bytes))
        self.process.start()
        theirs.close()
        assert self._pipe.poll(PATIENCE_S)
        assert self._pipe.recv() is None

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def told(self) -> Told:
        """What it says in the end."""
        assert self._pipe.poll(PATIENCE_S)
        told = self._pipe.recv()
        assert isinstance(told, Told)
        return told

    def died(self) -> bool:
        """Whether it was killed."""
        self.process.join(PATIENCE_S)
        return self.process.exitcode == -signal.SIGKILL

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self._pipe.close()


@contextmanager
def _end(
    body: Body,
    config: MigrationConfig = CONFIG,
    kill: tuple[str, int] | None = None,
    may_lock_bytes: int | None = None,
) -> Iterator[End]:
    end = End(body, config, kill, may_lock_bytes)
    try:
        yield end
    finally:
        end.end()


def _may_lock(limit_bytes: int) -> None:
    """Give up the privilege to lock any amount of memory, and be limited (man getrlimit(2))."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit_bytes, limit_bytes))
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


def _check_failed(told: Told, guest_ran: bool) -> None:
    """In time, saying why, the guest at the source and nowhere else."""
    assert told.outcome.status == "failed"
    assert told.outcome.reason
    assert told.guest_ran is guest_ran
    assert told.took_s < BOUND_S


def _third_write() -> Callable[[AnyEvent], bool]:
    writes: list[AnyEvent] = []

    def is_third(event: AnyEvent) -> bool:
        if isinstance(event, WorkPosted) and event.opcode == "write":
            writes.append(event)
        return len(writes) == 3

    return is_third


PHASES: dict[str, Callable[[], Callable[[AnyEvent], bool]]] = {
    "before setup": lambda: lambda event: isinstance(event, MigrationBegan),
    "registration": lambda: lambda event: isinstance(event, MemoryRegistered),
    "block list": lambda: lambda event: isinstance(event, ControlSent) and event.type == "RAM_BLOCKS_REQUEST",
    "round": _third_write,
    "stop": lambda: lambda event: isinstance(event, VmStopped),
    "device state": lambda: lambda event: isinstance(event, DeviceStateSent),
}
"""Moments of a migration, by an event of its source."""


def _kill_at(phase: str, victim: int) -> Callable[[AnyEvent], None]:
    """Kills the victim (this process for 0) at the first event of that kind."""
    due = PHASES[phase]()
    done: list[AnyEvent] = []

    def kill(event: AnyEvent) -> None:
        if not done and due(event):
            done.append(event)
            os.kill(victim or os.getpid(), signal.SIGKILL)

    return kill


pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize("config", [CONFIG, DYNAMIC], ids=["pinned", "dynamic"])
def test_the_guest_goes_from_one_process_to_the_other(config: MigrationConfig) -> None:
    with _end(_receive, config) as there, _end(_send, config) as here:
        sent, received = here.told(), there.told()
    assert (sent.outcome.status, sent.outcome.reason, sent.guest_ran) == ("completed", "", False)
    assert (received.outcome.status, received.guest_ran, received.same) == ("completed", True, True)


@pytest.mark.parametrize("phase", PHASES)
def test_a_destination_that_is_killed_leaves_the_source_running(phase: str) -> None:
    with _end(_receive) as there, _end(_send, kill=(phase, there.pid)) as here:
        _check_failed(here.told(), guest_ran=True)
        assert there.died()


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "before setup"])
def test_a_source_that_is_killed_leaves_no_guest_at_the_destination(phase: str) -> None:
    with _end(_receive) as there, _end(_send, kill=(phase, 0)) as here:
        assert here.died()
        _check_failed(there.told(), guest_ran=False)


def test_a_destination_may_refuse_to_pin() -> None:
    """The source asks, the destination's answer decides: chunks are registered one by one."""
    with _end(_receive, DYNAMIC) as there, _end(_send, CONFIG) as here:
        sent, received = here.told(), there.told()
    assert (sent.outcome.status, sent.guest_ran) == ("completed", False)
    assert (received.outcome.status, received.same) == ("completed", True)
    assert sent.registrations >= 4


@pytest.mark.parametrize("poor", ["source", "destination"])
def test_an_end_that_cannot_register_the_guest(poor: str) -> None:
    limits = {poor: 3 * MIB}
    with (
        _end(_receive, may_lock_bytes=limits.get("destination")) as there,
        _end(_send, may_lock_bytes=limits.get("source")) as here,
    ):
        _check_failed(here.told(), guest_ran=True)
        _check_failed(there.told(), guest_ran=False)
