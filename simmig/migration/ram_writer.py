"""RAM by one-sided writes: merging runs, registration, posting, and how much is pending.

This is the sender's hot path: one pass through `save` and `flush` a chunk.
"""

from __future__ import annotations

from collections.abc import Callable

from simmig.guest.api import PAGE_BYTES, Guest, RamBlock
from simmig.migration import wire
from simmig.migration.config import CHUNK_BYTES, CHUNK_PAGES, MigrationError
from simmig.migration.control import ControlChannel
from simmig.migration.lane import KIND_WRITE, Lane
from simmig.migration.ram import BlockIndex
from simmig.migration.registration import WHOLE_BLOCK, Registry
from simmig.migration.wire import Message, RemoteBlock, Type
from simmig.trace.events import DrainBegan, DrainEnded, PagesSaved, WorkCompleted, WorkPosted
from simmig.verbs.runtime import Work

BLOCK_SHIFT = 16
CHUNK_SHIFT = 30
_BLOCK_MASK = (1 << CHUNK_SHIFT - BLOCK_SHIFT) - 1

UpcomingChunks = Callable[[int, int], list[tuple[int, int]]]


class RamWriter:
    """Writes runs of guest pages into the destination's memory.

    At most one write is in flight per chunk, so a work request's identifier (kind, block, chunk) is unique.
    `local` are the source's regions, `remote` the destination's blocks in the source's order.
    """

    def __init__(
        self,
        lane: Lane,
        control: ControlChannel,
        guest: Guest,
        local: Registry,
        remote: list[RemoteBlock],
        pin_all: bool,
        registration_batch: int,
        upcoming_chunks: UpcomingChunks,
    ) -> None:
        enums = lane.verbs.enums
        self._lane = lane
        self._control = control
        self._guest = guest
        self._blocks: list[RamBlock] = list(guest.blocks)
        self._index = BlockIndex(self._blocks)
        self._local = local
        self._remote = remote
        self._pin_all = pin_all
        self._batch = registration_batch
        self._upcoming_chunks = upcoming_chunks
        self._keys: dict[int, tuple[int, int]] = {}  # wr_id of a chunk (a block when pinned) -> lkey, rkey
        if pin_all:
            for block, described in enumerate(remote):
                region = local.regions[block, WHOLE_BLOCK, 0]
                self._keys[block] = (region.lkey, described.rkey)
        self._sge = lane.verbs.SGE
        self._send_wr = lane.verbs.SendWR
        self._write: int = enums.IBV_WR_RDMA_WRITE
        self._signaled: int = enums.IBV_SEND_SIGNALED
        self._in_flight: dict[int, int] = {}  # wr_id -> bytes
        self.posted_bytes = 0
        self.completed_bytes = 0
        self.pending_bytes = 0
        self.zero_pages = 0
        self._forced = False  # a drain forced by the control channel is under way
        # The run held back for merging, and where its chunk (or, before, its block) ends.
        self._first = 0
        self._count = 0
        self._limit = 0
        self._block = 0
        self._wr_id = 0
        lane.on_write = self._completed

    async def save(self, first_page: int, count: int) -> bool:
        """Merge a run of one chunk with the one held back, or flush that first; True when it left a chunk."""
        if self._count:
            if first_page == self._first + self._count and first_page != self._limit:
                self._count += count
                return False
            left = self._wr_id
            await self.flush()
        else:
            left = 0
        block = self._index.block_of(first_page)
        ram = self._blocks[block]
        first_of_block = ram.first_page
        chunk = (first_page - first_of_block) // CHUNK_PAGES
        self._first = first_page
        self._count = count
        self._block = block
        self._limit = first_of_block + min((chunk + 1) * CHUNK_PAGES, ram.pages)
        self._wr_id = KIND_WRITE | block << BLOCK_SHIFT | chunk << CHUNK_SHIFT
        return left not in (0, self._wr_id)

    async def flush(self) -> bool:
        """Write the run held back: as zero pages, or as one RDMA WRITE once its chunk is free and registered.

        Returns whether there was one.
        """
        count = self._count
        if not count:
            return False
        lane = self._lane
        first, block, wr_id = self._first, self._block, self._wr_id
        self._count = 0
        while wr_id in self._in_flight:
            await lane.wait(lane.sends, lambda: wr_id not in self._in_flight, "completion")
        keys = self._keys.get(block if self._pin_all else wr_id)
        if keys is None:
            if self._is_zero(first, count):
                await self._send_zero(first, count, block)
                return True
            await self._register(first, wr_id)
            keys = self._keys[wr_id]
        ram = self._blocks[block]
        offset = (first - ram.first_page) * PAGE_BYTES
        length = count * PAGE_BYTES
        wr = self._send_wr(
            wr_id=wr_id,
            opcode=self._write,
            num_sge=1,
            sg=[self._sge(ram.address + offset, length, keys[0])],
            send_flags=self._signaled,
        )
        wr.set_wr_rdma(keys[1], self._remote[block].host_address + offset)
        lane.runtime.work(Work.WRITE, 1)
        await lane.post_send(wr)
        self._in_flight[wr_id] = length
        self.pending_bytes += length
        self.posted_bytes += length
        if lane.emit is not None:
            now_ns = lane.runtime.now_ns()
            lane.emit(PagesSaved(now_ns, "source", first, count, "data"))
            lane.emit(WorkPosted(now_ns, "source", lane.qp_num, wr_id, "write", length, block, offset, keys[1]))
        await lane.runtime.checkpoint()
        lane.poll()
        return True

    async def drain(self, pending_bytes: int) -> None:
        """Wait until at most `pending_bytes` are posted and not completed."""
        if self.pending_bytes > pending_bytes:
            lane = self._lane
            await lane.wait(lane.sends, lambda: self.pending_bytes <= pending_bytes, "completion")

    def begin_forced_drain(self, point: str) -> None:
        """The control channel starts to wait: with writes pending on its queue pair that is a drain."""
        lane = self._lane
        if self.pending_bytes and lane.emit is not None and not self._forced:
            self._forced = True
            lane.emit(DrainBegan(lane.runtime.now_ns(), "source", "wire", point, self.pending_bytes, 0))

    def end_forced_drain(self) -> None:
        """The control channel's wait is over, or nothing is pending any more."""
        lane = self._lane
        if self._forced and lane.emit is not None:
            self._forced = False
            lane.emit(DrainEnded(lane.runtime.now_ns(), "source", "wire", self.pending_bytes))

    def _completed(self, wr_id: int) -> None:
        length = self._in_flight.pop(wr_id)
        self.pending_bytes -= length
        self.completed_bytes += length
        lane = self._lane
        if lane.emit is not None:
            lane.emit(WorkCompleted(lane.runtime.now_ns(), "source", lane.qp_num, wr_id, "write", length))
            if self._forced and not self.pending_bytes:
                self.end_forced_drain()

    def _is_zero(self, first: int, count: int) -> bool:
        zero = self._guest.is_zero(first, count)
        self._lane.runtime.work(Work.ZERO_TEST_PAGE, count if zero else 1)  # the test ends at the first other word
        return zero

    async def _send_zero(self, first: int, count: int, block: int) -> None:
        lane = self._lane
        offset = (first - self._blocks[block].first_page) * PAGE_BYTES
        command = wire.Compress(0, block, self._remote[block].offset + offset, count * PAGE_BYTES)
        self.zero_pages += count
        if lane.emit is not None:
            lane.emit(PagesSaved(lane.runtime.now_ns(), "source", first, count, "zero"))
        await self._control.send(Message(Type.COMPRESS, wire.encode_compress(command)))

    async def _register(self, first: int, wr_id: int) -> None:
        """Have the chunk of `wr_id` registered on both ends, with up to a batch's worth of those coming next."""
        wanted = [wr_id]
        if self._batch > 1:
            for block, chunk in self._upcoming_chunks(first, self._batch - 1):
                other = KIND_WRITE | block << BLOCK_SHIFT | chunk << CHUNK_SHIFT
                if other not in self._keys and not self._is_zero(*self._chunk_pages(block, chunk)):
                    wanted.append(other)
        commands = []
        for each in wanted:
            block, chunk = each >> BLOCK_SHIFT & _BLOCK_MASK, each >> CHUNK_SHIFT
            commands.append(wire.Register(self._remote[block].offset + chunk * CHUNK_BYTES, block))
        request = Message(Type.REGISTER_REQUEST, wire.encode_registers(commands), len(commands))
        answer = await self._control.send(request, answer=Type.REGISTER_RESULT)
        assert answer is not None
        results = wire.decode_results(answer.data)
        if len(results) != len(wanted):
            raise MigrationError(
                f"{len(wanted)} chunks were to be registered, the peer answered for {len(results)}"
            )
        for each, result in zip(wanted, results, strict=True):
            block, chunk = each >> BLOCK_SHIFT & _BLOCK_MASK, each >> CHUNK_SHIFT
            region = self._local.register_chunk(block, chunk)
            self._keys[each] = (region.lkey, result.rkey)

    def _chunk_pages(self, block: int, chunk: int) -> tuple[int, int]:
        ram = self._blocks[block]
        first = chunk * CHUNK_PAGES
        return ram.first_page + first, min(CHUNK_PAGES, ram.pages - first)
