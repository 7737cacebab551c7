"""The real guest: a process that writes memory shared with this one."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from simmig.guest.api import PAGE_BYTES
from simmig.guest.machine import Machine
from simmig.guest.real import RealGuest, different_pages
from simmig.guest.vcpu import contents
from simmig.guest.workload import BATCH_WRITES, Hotspot, Idle, Sweep, Uniform, Workload
from simmig.trace.events import AnyEvent, PagesDirtied
from simmig.verbs.rdma.runtime import RdmaRuntime

MIB = 1 << 20
UNIFORM = Uniform(4 * MIB, 40 * MIB, 1)


def _machine(workload: Workload = UNIFORM) -> Machine:
    return Machine((("ram", 6 * MIB), ("rom", MIB // 2)), 0.3, workload, 4096)


def _run(coroutine: Coroutine[Any, Any, Any]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


@asynccontextmanager
async def _guest(machine: Machine, **options: Any) -> AsyncIterator[RealGuest]:
    guest = RealGuest(RdmaRuntime(), machine, **options)
    try:
        yield guest
    finally:
        guest.close()


def _replayed(machine: Machine, writes: int) -> Any:
    """Memory as it must be after that many writes."""
    numbers = np.zeros(machine.pages, dtype=np.uint64)
    first = 0
    for _, length_bytes in machine.blocks:
        pages = length_bytes // PAGE_BYTES
        end = first + machine.zero_from(pages)
        numbers[first:end] = np.arange(first + 1, end + 1)
        first += pages
    for write in range(writes):
        page = machine.workload.batch(write // BATCH_WRITES)[write % BATCH_WRITES]
        numbers[page] = machine.pages + 1 + write
    memory = contents(numbers)
    memory[numbers == 0] = 0
    return memory


@pytest.mark.parametrize(
    "workload",
    [Idle(), UNIFORM, Sweep(3 * MIB, 60 * MIB), Hotspot(4 * MIB, 30 * MIB, 1 * MIB, 0.9, 7)],
    ids=lambda workload: type(workload).__name__,
)
def test_memory_is_what_the_workload_says(workload: Workload) -> None:
    async def body() -> None:
        machine = _machine(workload)
        events: list[AnyEvent] = []
        async with _guest(machine, emit=events.append) as guest:
            for _ in range(3):
                await guest.resume()
                await asyncio.sleep(0.05)
                await guest.stop()
            progress = machine.decode_state(await guest.save_device_state())
            assert progress is not None
            writes = workload.writes_by(progress.guest_ns)
            assert progress.guest_ns > 0
            assert writes == int(guest.memory.writes[0])
            assert sum(event.writes for event in events if isinstance(event, PagesDirtied)) == writes
            assert np.array_equal(guest.memory.pages, _replayed(machine, writes))

    _run(body())


def test_rate_is_honoured() -> None:
    async def body() -> None:
        async with _guest(_machine(Uniform(4 * MIB, 10 * MIB, 1))) as guest:
            began = time.monotonic()
            await guest.resume()
            await asyncio.sleep(0.5)
            await guest.stop()
            elapsed = time.monotonic() - began
            written = int(guest.memory.writes[0]) * PAGE_BYTES
            assert guest.late_ns == 0
            assert 0.8 * 0.5 * 10 * MIB <= written <= elapsed * 10 * MIB

    _run(body())


def test_copying_what_the_log_says_ends_with_equal_memory() -> None:
    """The lost-update test: pages are copied while they are being written, as a device would."""

    async def body() -> None:
        machine = _machine(Uniform(4 * MIB, 400 * MIB, 3))
        async with _guest(machine) as guest, _guest(machine, incoming=True) as copy:
            await guest.resume()
            guest.start_dirty_log()
            bitmap = np.ones(machine.pages, dtype=np.bool_)
            dirtied = 0
            for _ in range(30):
                await asyncio.sleep(0.003)
                copy.memory.pages[bitmap] = guest.memory.pages[bitmap]
                bitmap[:] = False
                turned_on = guest.sync_dirty(bitmap)
                assert turned_on == np.count_nonzero(bitmap)
                dirtied += turned_on
            assert dirtied > 100
            await guest.stop()
            guest.sync_dirty(bitmap)
            copy.memory.pages[bitmap] = guest.memory.pages[bitmap]
            assert different_pages(guest.memory, copy.memory) == 0
            copy.memory.pages[5, 511] ^= np.uint64(1)
            assert different_pages(guest.memory, copy.memory) == 1

    _run(body())


def test_the_log_forgets_what_it_told_and_records_only_when_asked() -> None:
    async def body() -> None:
        machine = _machine()
        async with _guest(machine) as guest:
            bitmap = np.zeros(machine.pages, dtype=np.bool_)
            await guest.resume()
            await asyncio.sleep(0.05)
            assert guest.sync_dirty(bitmap) == 0
            guest.start_dirty_log()
            await asyncio.sleep(0.05)
            await guest.stop()
            assert guest.sync_dirty(bitmap) > 0
            bitmap[:] = False
            assert guest.sync_dirty(bitmap) == 0
            assert not bitmap.any()

    _run(body())


def test_a_log_of_larger_pages_tells_of_all_of_each() -> None:
    """The memory's second block has half a larger page: its log tells of that half alone."""

    async def body() -> None:
        unit = MIB // PAGE_BYTES
        blocks = (("ram", 6 * MIB), ("rom", MIB // 2))
        machine = Machine(blocks, 0.3, Uniform(4 * MIB, MIB, 1), 4096, dirty_log_page_bytes=MIB)
        async with _guest(machine) as guest:
            guest.start_dirty_log()
            await guest.resume()
            await asyncio.sleep(0.05)
            guest.memory.last_writes[6 * unit] += 1  # as if its processor had written there
            await guest.stop()
            bitmap = np.zeros(machine.pages, dtype=np.bool_)
            guest.sync_dirty(bitmap)
            written = Uniform(4 * MIB, MIB, 1).batch(0)[: int(guest.memory.writes[0])]
            expected = {page // unit for page in written.tolist()} | {6}
            assert {page // unit for page in np.flatnonzero(bitmap)} == expected
            assert np.count_nonzero(bitmap) == unit * (len(expected) - 1) + unit // 2

    _run(body())


def test_a_stopped_guest_writes_nothing_and_its_state_goes_on_elsewhere() -> None:
    async def body() -> None:
        machine = _machine()
        async with _guest(machine) as guest, _guest(machine, incoming=True) as taker:
            await guest.resume()
            with pytest.raises(RuntimeError, match="stop it first"):
                await guest.save_device_state()
            with pytest.raises(RuntimeError, match="before its device state is loaded"):
                await taker.resume()
            await asyncio.sleep(0.05)
            await guest.stop()
            await guest.stop()
            memory = guest.memory.pages.copy()
            await asyncio.sleep(0.05)
            assert np.array_equal(memory, guest.memory.pages)
            state = await guest.save_device_state()
            with pytest.raises(ValueError, match="no device state"):
                await taker.load_device_state(bytes([state[0] ^ 1]) + state[1:])
            with pytest.raises(ValueError, match="checksum"):
                await taker.load_device_state(state[:90] + bytes([state[90] ^ 1]) + state[91:])
            assert not await taker.load_device_state(state[:200])
            assert await taker.load_device_state(state)
            taker.memory.pages[:] = guest.memory.pages
            await taker.resume()
            await asyncio.sleep(0.05)
            await taker.stop()
            writes = int(taker.memory.writes[0])
            assert writes > int(guest.memory.writes[0])
            assert np.array_equal(taker.memory.pages, _replayed(machine, writes))

    _run(body())


def test_zero_pages_are_seen_and_made() -> None:
    async def body() -> None:
        machine = _machine(Idle())
        async with _guest(machine) as guest:
            begin = machine.zero_from(6 * MIB // PAGE_BYTES)
            assert guest.is_zero(begin, 3)
            assert not guest.is_zero(begin - 1, 2)
            guest.memory.pages[begin + 2, 511] = 1
            assert not guest.is_zero(begin, 3)
            guest.zero(begin - 1, 4)
            assert guest.is_zero(begin - 1, 4)
            assert not guest.is_zero(begin - 2, 1)

    _run(body())


OWNER = """
import asyncio, time
from simmig.guest.machine import Machine
from simmig.guest.real import RealGuest
from simmig.guest.workload import Uniform
from simmig.verbs.rdma.runtime import RdmaRuntime
async def main():
    guest = RealGuest(RdmaRuntime(), Machine((("ram", 1 << 20),), 0.0, Uniform(1 << 20, 1 << 20, 1), 4096))
    await guest.resume()
    print(guest._process, flush=True)
    time.sleep(600)
asyncio.run(main())
"""


def test_the_process_dies_with_its_owner() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    owner.stdout.close()
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the guest's processor outlived its owner")
