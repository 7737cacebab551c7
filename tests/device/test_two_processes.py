"""The two ends in two processes: the same outcome, and what becomes of one when the other dies."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable

import numpy as np

from simmig.guest.machine import Machine
from simmig.guest.real import RealGuest
from simmig.guest.vcpu import contents
from simmig.guest.workload import BATCH_WRITES, Sweep
from simmig.migration import destination, source
from simmig.migration.config import MigrationConfig, Outcome
from simmig.migration.policies import Point, Sender
from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import Binding
from simmig.verbs.rdma.endpoint import RdmaDialer, RdmaListener
from simmig.verbs.rdma.runtime import RdmaRuntime
from tests.device.conftest import DESTINATION, PATIENCE_S, PORT, SOURCE

MIB = 1 << 20
MACHINE = Machine((("ram", 6 * MIB),), 0.2, Sweep(MIB, MIB // 2), 64 << 10)
CONFIG = MigrationConfig(pin_all=True, max_bandwidth_bytes_s=None, downtime_limit_ns=1_000_000_000)
ENDLESS = MigrationConfig(pin_all=True, max_bandwidth_bytes_s=None, downtime_limit_ns=1000, max_rounds=1 << 30)
_EXIT_STATUS = {"completed": 0, "failed": 11, "cancelled": 12, "not-converging": 13}
_DIFFERENT = 14


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


async def _receive(verbs: Binding, listening: Callable[[], None]) -> int:
    runtime = RdmaRuntime()
    guest = RealGuest(runtime, MACHINE, incoming=True)
    listener = RdmaListener(verbs, runtime, device.address(verbs, DESTINATION).ip, PORT)
    different: list[bool] = []

    def compare() -> None:
        guest_ns = guest._progress.guest_ns
        different.append(not np.array_equal(guest.memory.pages, _expected(guest_ns)))

    listening()
    outcome = await destination.receive(
        CONFIG, guest, verbs, runtime, listener, runtime.signal(), before_resume=compare
    )
    ran = guest.running
    listener.close()
    guest.close()
    if outcome.status == "completed" and (different != [False] or not ran):
        return _DIFFERENT
    return _EXIT_STATUS[outcome.status]


def _fork_destination(verbs: Binding) -> int:
    """The process of a destination that listens."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            coroutine = _receive(verbs, lambda: os.close(writing))
            status = asyncio.run(asyncio.wait_for(coroutine, PATIENCE_S))
        finally:
            os._exit(status)
    os.close(writing)
    os.read(reading, 1)  # the end of the pipe: it listens
    os.close(reading)
    return child


async def _send(verbs: Binding, config: MigrationConfig) -> tuple[Outcome, bool]:
    runtime = RdmaRuntime()
    guest = RealGuest(runtime, MACHINE)
    dialer = RdmaDialer(verbs, runtime, device.address(verbs, DESTINATION).ip, PORT, SOURCE)
    await guest.resume()
    outcome = await source.migrate(config, guest, verbs, runtime, dialer, DrainEverySlice(), runtime.signal())
    running = guest.running
    dialer.close()
    guest.close()
    return outcome, running


def _sent(verbs: Binding, config: MigrationConfig) -> tuple[Outcome, bool]:
    return asyncio.run(asyncio.wait_for(_send(verbs, config), PATIENCE_S))


def test_the_guest_goes_from_one_process_to_the_other(verbs: Binding) -> None:
    child = _fork_destination(verbs)
    outcome, running = _sent(verbs, CONFIG)
    _, status = os.waitpid(child, 0)
    assert (outcome.status, outcome.reason, running) == ("completed", "", False)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_destination_that_is_killed_leaves_the_source_running(verbs: Binding) -> None:
    child = _fork_destination(verbs)
    timer = threading.Timer(3.0, os.kill, (child, signal.SIGKILL))
    timer.start()
    outcome, running = _sent(verbs, ENDLESS)
    timer.join()
    os.waitpid(child, 0)
    assert outcome.status == "failed"
    assert outcome.reason
    assert running
