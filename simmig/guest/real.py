"""A guest in real memory, run by a process of its own: what a migration over real RDMA moves."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simmig.guest.api import PAGE_BYTES, RamBlock
from simmig.guest.dirty import spread_marks
from simmig.guest.machine import MACHINE_NAME, Machine, Progress
from simmig.guest.vcpu import SharedMemory, Stopped, contents, fork
from simmig.trace.events import Emit, PagesDirtied, Side
from simmig.verbs.runtime import Runtime

_BLOCK_ALIGNMENT_BYTES = 256 << 10  # QEMU lays RAM blocks out at multiples of 64 pages
_PIECE_PAGES = 4096


class _Pipe:
    """The processor's answers, as a source that the runtime can wait for."""

    lost = ""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.fd: int = connection.fileno()


class RealGuest:
    """A `Guest` (simmig.guest.api) in memory shared with the process that runs it.

    It stands until `resume`; an `incoming` one can only be resumed once a device state is loaded. Each dirty-log
    sync and each stop emits `PagesDirtied` when pages were written. `close` ends the process and unmaps the
    memory.
    """

    def __init__(
        self, runtime: Runtime, machine: Machine, *, incoming: bool = False, emit: Emit | None = None
    ) -> None:
        self._runtime = runtime
        self._machine = machine
        self._emit = emit
        self._side: Side = "destination" if incoming else "source"
        self._has_state = not incoming
        self._running = False
        self._progress = Progress()
        self._reported_writes = 0
        self._seen: NDArray[np.uint32] | None = None  # the dirty log as last looked at
        self.late_ns = 0
        """How much longer than its workload allows the guest needed: it could not keep its rate."""
        pages = machine.pages
        self.descriptor = os.memfd_create("simmig-guest")
        os.ftruncate(self.descriptor, SharedMemory.length_bytes(pages))
        self.memory = SharedMemory(self.descriptor, pages)
        self._lay_out()
        if not incoming:
            self._fill()
        self._start()

    def _lay_out(self) -> None:
        self._blocks: list[RamBlock] = []
        first_page = offset_bytes = 0
        for name, length_bytes in self._machine.blocks:
            address = self.memory.address + first_page * PAGE_BYTES
            self._blocks.append(RamBlock(name, address, length_bytes, offset_bytes, first_page))
            first_page += length_bytes // PAGE_BYTES
            offset_bytes += -(-length_bytes // _BLOCK_ALIGNMENT_BYTES) * _BLOCK_ALIGNMENT_BYTES

    def _fill(self) -> None:
        """Pages unlike each other, but for those that begin as zero pages: they stay untouched."""
        for block in self._blocks:
            end = block.first_page + self._machine.zero_from(block.pages)
            for first in range(block.first_page, end, _PIECE_PAGES):
                last = min(first + _PIECE_PAGES, end)
                self.memory.pages[first:last] = contents(np.arange(first + 1, last + 1, dtype=np.uint64))

    def _start(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        self._process = fork(self.memory, self._machine, theirs)
        theirs.close()
        self._pipe = _Pipe(ours)

    @property
    def blocks(self) -> Sequence[RamBlock]:
        """RAM blocks."""
        return self._blocks

    @property
    def machine_name(self) -> str:
        """Simmig's own."""
        return MACHINE_NAME

    @property
    def running(self) -> bool:
        """Whether the guest executes."""
        return self._running

    def admit(self, machine_name: str, blocks: Sequence[tuple[str, int]]) -> Sequence[RamBlock]:
        """The blocks, in the order of the source's; ValueError when they are others."""
        return self._machine.admit(self._blocks, machine_name, blocks)

    def ballooned(self) -> NDArray[np.bool_]:
        """No page: this guest has no balloon."""
        return np.zeros(self._machine.pages, dtype=np.bool_)

    def start_dirty_log(self) -> None:
        """Record page writes from now on."""
        self._seen = self.memory.last_writes.copy()

    def stop_dirty_log(self) -> None:
        """Stop recording."""
        self._seen = None

    def sync_dirty(self, bitmap: NDArray[np.bool_]) -> int:
        """Merge the pages written since the last call into `bitmap`; returns how many bits turned on."""
        if len(bitmap) != self._machine.pages:
            raise ValueError(f"bitmap of {len(bitmap)} pages for a guest of {self._machine.pages}")
        self._report_writes()
        if self._seen is None:
            return 0
        now = self.memory.last_writes.copy()
        written = now != self._seen
        self._seen = now
        if self._machine.log_page_pages > 1:
            for block in self._blocks:
                spread_marks(written[block.first_page :][: block.pages], self._machine.log_page_pages)
        turned_on = int(np.count_nonzero(written & ~bitmap))
        bitmap |= written
        return turned_on

    def is_zero(self, first_page: int, count: int) -> bool:
        """Whether these pages are all zero now."""
        pages = self.memory.pages
        return not pages[first_page, 0] and not pages[first_page : first_page + count].any()

    def zero(self, first_page: int, count: int) -> None:
        """Make these pages all zero."""
        self.memory.pages[first_page : first_page + count] = 0

    async def stop(self) -> None:
        """Stop it: no write happens after this returns."""
        if not self._running:
            return
        self._pipe.connection.send(None)
        await self._runtime.wait(self._pipe)  # type: ignore[arg-type]
        stopped: Stopped = self._pipe.connection.recv()
        self._running = False
        self._progress = Progress(stopped.guest_ns)
        self.late_ns += stopped.late_ns
        self._report_writes()

    async def resume(self) -> None:
        """Let it run (again). RuntimeError when it has no state to run from."""
        if not self._has_state:
            raise RuntimeError("an incoming guest cannot run before its device state is loaded")
        if not self._running:
            self._running = True
            self._pipe.connection.send(self._progress.guest_ns)

    async def save_device_state(self) -> bytes:
        """The device state; RuntimeError while it runs."""
        if self._running:
            raise RuntimeError("the device state of a running guest is not settled: stop it first")
        return self._machine.encode_state(self._progress)

    async def load_device_state(self, state: bytes | bytearray) -> bool:
        """Take over that state, and with it the place in the workload, once all of its section has come.

        ValueError when it is no state of this machine.
        """
        if self._running:
            raise RuntimeError("a running guest has a device state already")
        progress = self._machine.decode_state(state)
        if progress is None:
            return False
        self._progress = progress
        self._reported_writes = self._machine.workload.writes_by(self._progress.guest_ns)
        self.memory.writes[0] = self._reported_writes
        self._has_state = True
        return True

    def close(self) -> None:
        """End its process, running or not, and unmap the memory (no region may be registered on it any more)."""
        self._running = False
        self._pipe.connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        self.memory.close()
        os.close(self.descriptor)

    def _report_writes(self) -> None:
        """Tell the trace how many pages were written since the last time."""
        writes = int(self.memory.writes[0])
        if self._emit is not None and writes > self._reported_writes:
            self._emit(PagesDirtied(self._runtime.now_ns(), self._side, writes - self._reported_writes))
        self._reported_writes = writes


def different_pages(source: SharedMemory, destination: SharedMemory) -> int:
    """How many pages of the two differ, byte by byte. Raises ValueError for memories of different size."""
    if source.pages.shape != destination.pages.shape:
        raise ValueError("the two guests do not have the same memory")
    different = 0
    for first in range(0, len(source.pages), _PIECE_PAGES):
        piece = slice(first, first + _PIECE_PAGES)
        different += int((source.pages[piece] != destination.pages[piece]).any(axis=1).sum())
    return different
