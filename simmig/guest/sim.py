"""A guest on a simulated host: its memory is mapped there, its workload runs on that host's clock."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from simmig.guest.api import PAGE_BYTES, RamBlock
from simmig.guest.dirty import DirtyLog, Flags
from simmig.guest.machine import MACHINE_NAME, Machine, Progress
from simmig.guest.memory import ODD, BlockMemory, MachineMemory, PagePayload
from simmig.guest.workload import BATCH_WRITES
from simmig.trace.events import Emit, PagesDirtied, Side
from simmig.verbs.runtime import Runtime
from simmig.verbs.sim.host import Host
from simmig.verbs.sim.memory import Payload, payload_bytes

_NEVER_NS = 1 << 62
_TOLD_IDS = 1 << 24  # content ids kept for pages the guest is told to write; the workload has the ones below
_BLOCK_ALIGNMENT_BYTES = 256 << 10  # QEMU lays RAM blocks out at multiples of 64 pages


class RamSegment:
    """One RAM block as the host's devices see it: they read and write what is there at that moment."""

    __slots__ = ("_block", "_guest", "length_bytes")

    def __init__(self, guest: SimGuest, block: BlockMemory) -> None:
        self._guest = guest
        self._block = block
        self.length_bytes = block.pages * PAGE_BYTES

    def dma_read(self, offset: int, length: int) -> Payload:
        """A snapshot of that stretch (whole pages as their content ids)."""
        guest = self._guest
        now_ns: int = guest.env._now
        if now_ns >= guest.due_ns:
            guest.advance(now_ns)
        if (offset | length) % PAGE_BYTES:
            return self._block.read_bytes(offset, length)
        return self._block.read(offset // PAGE_BYTES, length // PAGE_BYTES)

    def dma_write(self, offset: int, payload: Payload) -> None:
        """Store what `dma_read` gave, or any bytes. The dirty log does not see it: no vCPU wrote."""
        guest = self._guest
        now_ns: int = guest.env._now
        if now_ns >= guest.due_ns:
            guest.advance(now_ns)
        if type(payload) is PagePayload and not offset % PAGE_BYTES:
            self._block.write(offset // PAGE_BYTES, payload)
        else:
            self._block.write_bytes(offset, payload_bytes(payload))


class SimGuest:
    """A `Guest` (simmig.guest.api) on a simulated host.

    It runs from now on, or, `incoming`, stands with zero memory until a device state is loaded and it is resumed;
    its workload then goes on where the state says. `order` names the RAM blocks in the order in which this host
    has them. Each dirty-log sync and each stop emits `PagesDirtied` when pages were written.

    Writes happen lazily: `advance` brings memory up to a moment, and everybody who looks at memory calls it first.
    """

    def __init__(
        self,
        host: Host,
        runtime: Runtime,
        machine: Machine,
        *,
        incoming: bool = False,
        order: Sequence[str] | None = None,
        emit: Emit | None = None,
    ) -> None:
        self.env = host.env
        self.due_ns = _NEVER_NS  # before then `advance` has nothing to do
        self._host = host
        self._runtime = runtime
        self._machine = machine
        self._emit = emit
        self._side: Side = "destination" if incoming else "source"
        self._has_state = not incoming
        self._running = False
        self._progress = Progress()  # as of the last stop
        self._began_ns = 0  # host time minus guest time, while running
        self._writes = 0  # of the workload, so far
        self._told_writes = 0
        self._reported_writes = 0
        self._batch_index = -1
        self._batch: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._batch_ids: NDArray[np.uint32] = np.empty(0, dtype=np.uint32)
        self._log: DirtyLog | None = None
        self._ballooned: Flags | None = None
        # Content ids: 0 zero, 1 to pages what the machine begins with, then the workload's writes, then told ones.
        self._first_write_id = machine.pages + 1
        block_pages = [length_bytes // PAGE_BYTES for _, length_bytes in machine.blocks]
        self._memory = MachineMemory(block_pages, [0 if incoming else machine.zero_from(n) for n in block_pages])
        self._lay_out(order)
        if not incoming:
            self._run()

    def _lay_out(self, order: Sequence[str] | None) -> None:
        """Map the blocks and number their pages in this host's order."""
        names = [name for name, _ in self._machine.blocks]
        order = names if order is None else order
        if sorted(order) != sorted(names):
            raise ValueError(f"block order {list(order)} does not name each of {names} once")
        self._slots = [names.index(name) for name in order]  # this host's order to the machine's
        self._blocks: list[RamBlock] = []
        offset_bytes = first_page = 0
        for slot in self._slots:
            memory = self._memory.blocks[slot]
            length_bytes = memory.pages * PAGE_BYTES
            address = self._host.memory.map(RamSegment(self, memory), length_bytes)
            self._blocks.append(RamBlock(names[slot], address, length_bytes, offset_bytes, first_page))
            offset_bytes += -(-length_bytes // _BLOCK_ALIGNMENT_BYTES) * _BLOCK_ALIGNMENT_BYTES
            first_page += memory.pages
        self._first_pages = [block.first_page for block in self._blocks]

    @property
    def blocks(self) -> Sequence[RamBlock]:
        """RAM blocks in this host's order."""
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

    def ballooned(self) -> Flags:
        """One flag a page, in this host's order: given back by the guest (a copy)."""
        flags = np.zeros(self._machine.pages, dtype=np.bool_)
        if self._ballooned is not None:
            for block, first, end in self._windows():
                flags[block.first_page : block.first_page + block.pages] = self._ballooned[first:end]
        return flags

    def start_dirty_log(self) -> None:
        """Record page writes from now on."""
        self.advance(self._host.now_ns())
        self._log = DirtyLog(self._machine.pages)
        span = self._machine.workload.span
        self._log.widen(span.start, span.stop)

    @property
    def dirty_log_is_on(self) -> bool:
        """Whether page writes are being recorded, which costs a real guest an exit for every first write."""
        return self._log is not None

    def stop_dirty_log(self) -> None:
        """Stop recording."""
        self._log = None

    def sync_dirty(self, bitmap: Flags) -> int:
        """Merge the log into `bitmap` (this host's page order) and forget it; returns how many bits turned on.

        Pages given back are turned off. Without a log nothing happens. Raises ValueError for another length.
        """
        if len(bitmap) != self._machine.pages:
            raise ValueError(f"bitmap of {len(bitmap)} pages for a guest of {self._machine.pages}")
        self.advance(self._host.now_ns())
        self._report_writes()
        if self._log is None:
            return 0
        if self._machine.log_page_pages > 1:
            self._log.spread(
                ((first, end - first) for _, first, end in self._windows()), self._machine.log_page_pages
            )
        if self._ballooned is not None:
            self._log.forget(self._ballooned)
        turned_on = 0
        for block, first, end in self._windows():
            window = bitmap[block.first_page : block.first_page + block.pages]
            turned_on += self._log.merge(window, first)
            if self._ballooned is not None:
                np.greater(window, self._ballooned[first:end], out=window)  # on and not given back
        return turned_on

    def is_zero(self, first_page: int, count: int) -> bool:
        """Whether these pages of one block are all zero now."""
        self.advance(self._host.now_ns())
        memory, first, _ = self._locate(first_page, count)
        return memory.is_zero(first, count)

    def zero(self, first_page: int, count: int) -> None:
        """Make these pages of one block all zero. The dirty log does not see it: no vCPU wrote."""
        self.advance(self._host.now_ns())
        memory, first, _ = self._locate(first_page, count)
        memory.clear(first, count)

    async def stop(self) -> None:
        """Stop it, which takes the host `stop_ns`; it writes until that is over."""
        await self._take(self._host.costs.stop_ns if self._running else 0)
        if not self._running:
            return
        now_ns = self._host.now_ns()
        self.advance(now_ns)
        self._report_writes()
        self._progress = Progress(now_ns - self._began_ns, self._told_writes)
        self._running = False
        self.due_ns = _NEVER_NS

    async def resume(self) -> None:
        """Let it run (again), which takes the host `resume_ns`. RuntimeError when it has no state to run from."""
        if not self._has_state:
            raise RuntimeError("an incoming guest cannot run before its device state is loaded")
        await self._take(self._host.costs.resume_ns if not self._running else 0)
        if not self._running:
            self._run()

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
        self._told_writes = self._progress.told_writes
        self._writes = self._machine.workload.writes_by(self._progress.guest_ns)
        self._reported_writes = self._writes + self._told_writes
        self._has_state = True
        return True

    def write(self, first_page: int, count: int = 1) -> None:
        """Have the guest write these pages of one block now, each with contents of its own."""
        pages = self._tell(first_page, count)
        ids = ODD - 1 - (self._told_writes + np.arange(count, dtype=np.int64)) % _TOLD_IDS
        self._memory.ids[pages] = ids
        self._told_writes += count

    def write_zeros(self, first_page: int, count: int = 1) -> None:
        """Have the guest write zeros to these pages of one block now."""
        self._memory.ids[self._tell(first_page, count)] = 0
        self._told_writes += count

    def balloon(self, first_page: int, count: int) -> None:
        """Have the guest give these pages of one block back: the host drops what is in them."""
        self.advance(self._host.now_ns())
        memory, first, machine_page = self._locate(first_page, count)
        if self._ballooned is None:
            self._ballooned = np.zeros(self._machine.pages, dtype=np.bool_)
        self._ballooned[machine_page : machine_page + count] = True
        memory.clear(first, count)

    def deflate(self, first_page: int, count: int) -> None:
        """Have the guest take these pages of one block back: it finds them zero, and dirties them in doing so.

        (Whoever asked the guest's allocator for a page clears or fills it; that write is taken to happen here.)
        """
        pages = self._tell(first_page, count)
        if self._ballooned is not None:
            self._ballooned[pages] = False
        self._memory.ids[pages] = 0
        self._told_writes += count

    def advance(self, now_ns: int) -> None:
        """Bring memory and log up to that host time. In what steps this happens makes no difference."""
        if now_ns < self.due_ns:
            return
        self.due_ns = now_ns + 1
        done = self._writes
        target = self._machine.workload.writes_by(now_ns - self._began_ns)
        if done == target:
            return
        self._writes = target
        while done < target:
            index, start = divmod(done, BATCH_WRITES)
            if index != self._batch_index:
                self._load_batch(index)
            stop = min(BATCH_WRITES, start + target - done)
            pages = self._batch[start:stop]
            self._memory.ids[pages] = self._batch_ids[start:stop]  # of a page named twice the last one stays
            if self._log is not None:
                self._log.mark(pages)
            done += stop - start

    def _load_batch(self, index: int) -> None:
        """Have the pages and the content ids of the workload's next writes at hand."""
        self._batch_index = index
        self._batch = self._machine.workload.batch(index)
        writes = np.arange(index * BATCH_WRITES, (index + 1) * BATCH_WRITES, dtype=np.int64)
        # After some 2^32 writes ids come again. Only the very page written then and now could be mistaken.
        ids = self._first_write_id + writes % (ODD - _TOLD_IDS - self._first_write_id)
        self._batch_ids = ids.astype(np.uint32)

    def _run(self) -> None:
        self._running = True
        self._began_ns = self._host.now_ns() - self._progress.guest_ns
        span = self._machine.workload.span
        if span:
            self._memory.store(span.start, span.stop)
            self.due_ns = self._host.now_ns()

    async def _take(self, cost_ns: float) -> None:
        if cost_ns:
            await self._runtime.sleep(round(cost_ns))

    def _tell(self, first_page: int, count: int) -> slice:
        """Prepare a write of the guest's outside its workload; returns the pages in the machine's order."""
        if not self._running:
            raise RuntimeError("a stopped guest writes nothing")
        self.advance(self._host.now_ns())
        memory, first, machine_page = self._locate(first_page, count)
        memory.store(first, first + count)
        pages = slice(machine_page, machine_page + count)
        if self._log is not None:
            self._log.widen(pages.start, pages.stop)
            self._log.mark(pages)
        return pages

    def _report_writes(self) -> None:
        """Tell the trace how many pages were written since the last time."""
        writes = self._writes + self._told_writes
        if self._emit is not None and writes > self._reported_writes:
            self._emit(PagesDirtied(self._host.now_ns(), self._side, writes - self._reported_writes))
        self._reported_writes = writes

    def _locate(self, first_page: int, count: int) -> tuple[BlockMemory, int, int]:
        """The block that these pages lie in, and the first one's place there and in the machine's order."""
        place = bisect_right(self._first_pages, first_page) - 1
        block = self._blocks[place]
        first = first_page - block.first_page
        if first < 0 or count < 1 or first + count > block.pages:
            raise ValueError(f"pages {first_page} to {first_page + count - 1} do not lie in one RAM block")
        slot = self._slots[place]
        return self._memory.blocks[slot], first, self._memory.firsts[slot] + first

    def _windows(self) -> Iterator[tuple[RamBlock, int, int]]:
        """Every block with the pages, first and past the last, that it has in the machine's order."""
        for block, slot in zip(self._blocks, self._slots, strict=True):
            first = self._memory.firsts[slot]
            yield block, first, first + block.pages

    def different_pages(self, other: SimGuest) -> int:
        """Compare with the same machine elsewhere, now: how many pages differ, those given back left out."""
        if other._machine.blocks != self._machine.blocks:
            raise ValueError("the two guests do not have the same RAM blocks")
        self.advance(self._host.now_ns())
        other.advance(other._host.now_ns())
        different = 0
        for memory, first, theirs in zip(
            self._memory.blocks, self._memory.firsts, other._memory.blocks, strict=True
        ):
            excluded = None if self._ballooned is None else self._ballooned[first : first + memory.pages]
            different += memory.count_different(theirs, excluded)
        return different


def different_pages(source: SimGuest, destination: SimGuest) -> int:
    """How many pages of the destination's memory are not what the source has now.

    Every page is looked at but those that the source has given back. Raises ValueError for different machines.
    """
    return source.different_pages(destination)
