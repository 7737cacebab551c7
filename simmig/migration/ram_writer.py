"""RAM by one-sided writes: merging runs, registration, posting, and how much is pending.

This is the sender's hot path: `merge` and `try_flush` are called for every chunk, and wait for nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from simmig.guest.api import PAGE_BYTES, Guest, RamBlock
from simmig.migration import wire
from simmig.migration.config import CHUNK_BYTES, CHUNK_PAGES, MigrationError
from simmig.migration.control import ControlChannel
from simmig.migration.lane import KIND_WRITE, Lane
from simmig.migration.ram import BlockIndex, HeldRun
from simmig.migration.registration import WHOLE_BLOCK, Registry
from simmig.migration.wire import Message, RemoteBlock, Type
from simmig.trace.events import DrainBegan, DrainEnded, PagesSaved, WorkCompleted, WorkPosted
from simmig.verbs.api import SendWR
from simmig.verbs.runtime import Work

BLOCK_SHIFT = 16
CHUNK_SHIFT = 30
_BLOCK_MASK = (1 << CHUNK_SHIFT - BLOCK_SHIFT) - 1

UpcomingChunks = Callable[[int, int], list[tuple[int, int]]]


class RamWriter:
    """Writes runs of guest pages into the destination's memory.

    At most one write is in flight per chunk, so a work request's identifier (kind, block, chunk) is unique.
    `local` are the source's regions, `remote` the destination's blocks in the source's order. A `stock_peer`, a
    QEMU, answers one command a message: a batch is one command then, for chunks that lie side by side.
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
        stock_peer: bool,
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
        self._batch = registration_batch
        self._stock_peer = stock_peer
        self._upcoming_chunks = upcoming_chunks
        self._keys: dict[int, tuple[int, int]] = {}  # lkey and rkey of a chunk, by its wr_id
        self._pinned: list[tuple[int, int]] = []  # the same of each block, with pin-all
        if pin_all:
            regions = [local.regions[block, WHOLE_BLOCK, 0] for block in range(len(remote))]
            self._pinned = [(r.lkey, described.rkey) for r, described in zip(regions, remote, strict=True)]
        self._sge = lane.verbs.SGE
        self._send_wr = lane.verbs.SendWR
        self._write: int = enums.IBV_WR_RDMA_WRITE
        self._signaled: int = enums.IBV_SEND_SIGNALED
        self._in_flight: dict[int, int] = {}  # wr_id -> bytes
        self.posted_bytes = 0
        self.completed_bytes = 0
        self.pending_bytes = 0
        self._forced = False  # a drain forced by the control channel is under way
        self._held = HeldRun()
        self._enter_block(0)
        lane.on_write = self._completed

    def merge(self, first_page: int, count: int) -> bool:
        """Add a run of one chunk to the run held back; False when it has to be flushed first."""
        held = self._held
        if not (held.count or held.block_first <= first_page < held.block_end):
            self._enter_block(first_page)
        return held.merge(first_page, count)

    def left_by(self, first_page: int) -> bool:
        """Whether going on with that page leaves the chunk of the run held back."""
        return self._held.is_left_by(first_page)

    def try_flush(self) -> bool:
        """Write the run held back if that takes no waiting; False when `flush` has to."""
        wr_id = self._wr_id
        if wr_id in self._in_flight or self._lane.full:
            return False
        keys = self._block_keys or self._keys.get(wr_id)
        if keys is None:
            return False
        try:
            self._lane.qp.post_send(self._work_request(wr_id, keys))
        except self._lane.verbs.PyverbsError:
            return False  # `flush` finds out why
        self._lane.posted()
        self._posted(wr_id, keys[1])
        return True

    async def flush(self) -> bool:
        """Write the run held back: as zero pages, or as one RDMA WRITE once its chunk is free and registered.

        Returns whether there was one.
        """
        held = self._held
        if not held.count:
            return False
        lane = self._lane
        wr_id = self._wr_id
        while wr_id in self._in_flight:
            await lane.wait(lane.sends, lambda: wr_id not in self._in_flight, "completion")
        keys = self._block_keys or self._keys.get(wr_id)
        if keys is None:
            if self._is_zero(held.first, held.count):
                await self._send_zero()
                return True
            await self._register(held.first, wr_id)
            keys = self._keys[wr_id]
        await lane.post_send(self._work_request(wr_id, keys))
        self._posted(wr_id, keys[1])
        return True

    def poll(self) -> None:
        """See which writes have completed."""
        self._lane.poll()

    @property
    def _wr_id(self) -> int:
        return self._block_wr_id | self._held.chunk << CHUNK_SHIFT

    def _enter_block(self, page: int) -> None:
        block = self._index.block_of(page)
        ram = self._blocks[block]
        self._block = block
        self._held.block_first = ram.first_page
        self._held.block_end = ram.first_page + ram.pages
        self._block_wr_id = KIND_WRITE | block << BLOCK_SHIFT
        self._block_address = ram.address
        self._block_remote_address = self._remote[block].host_address
        self._block_keys = self._pinned[block] if self._pinned else None

    def _work_request(self, wr_id: int, keys: tuple[int, int]) -> SendWR:
        held = self._held
        offset = (held.first - held.block_first) * PAGE_BYTES
        wr = self._send_wr(
            wr_id=wr_id,
            opcode=self._write,
            num_sge=1,
            sg=[self._sge(self._block_address + offset, held.count * PAGE_BYTES, keys[0])],
            send_flags=self._signaled,
        )
        wr.set_wr_rdma(keys[1], self._block_remote_address + offset)
        self._lane.runtime.work(Work.WRITE, 1)
        return wr

    def _posted(self, wr_id: int, rkey: int) -> None:
        held, lane = self._held, self._lane
        count = held.count
        length = count * PAGE_BYTES
        held.count = 0
        self._in_flight[wr_id] = length
        self.pending_bytes += length
        self.posted_bytes += length
        if lane.emit is not None:
            now_ns = lane.runtime.now_ns()
            offset = (held.first - held.block_first) * PAGE_BYTES
            lane.emit(PagesSaved(now_ns, "source", held.first, count, "data"))
            lane.emit(WorkPosted(now_ns, "source", lane.qp_num, wr_id, "write", length, self._block, offset, rkey))

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

    async def _send_zero(self) -> None:
        lane, block, held = self._lane, self._block, self._held
        first, count = held.first, held.count
        held.count = 0
        offset = (first - held.block_first) * PAGE_BYTES
        command = wire.Compress(0, block, self._remote[block].offset + offset, count * PAGE_BYTES)
        if lane.emit is not None:
            lane.emit(PagesSaved(lane.runtime.now_ns(), "source", first, count, "zero"))
        await self._control.send(Message(Type.COMPRESS, wire.encode_compress(command)))

    async def _register(self, first: int, wr_id: int) -> None:
        """Have the chunk of `wr_id` registered on both ends, with up to a batch's worth of those coming next."""
        wanted = [wr_id]
        if self._batch > 1:
            for block, chunk in self._upcoming_chunks(first, self._batch - 1):
                other = KIND_WRITE | block << BLOCK_SHIFT | chunk << CHUNK_SHIFT
                if self._stock_peer and other != wanted[-1] + (1 << CHUNK_SHIFT):
                    break
                if other not in self._keys and not self._is_zero(*self._chunk_pages(block, chunk)):
                    wanted.append(other)
        commands = []
        for each in wanted[:1] if self._stock_peer else wanted:
            block, chunk = each >> BLOCK_SHIFT & _BLOCK_MASK, each >> CHUNK_SHIFT
            extra_chunks = len(wanted) - 1 if self._stock_peer else 0
            address = self._remote[block].offset + chunk * CHUNK_BYTES
            commands.append(wire.Register(address, block, extra_chunks))
        request = Message(Type.REGISTER_REQUEST, wire.encode_registers(commands), len(commands))
        answer = await self._control.send(request, answer=Type.REGISTER_RESULT)
        assert answer is not None
        results = wire.decode_results(answer.data)
        if len(results) != len(commands):
            raise MigrationError(f"{len(commands)} registrations were asked for, the peer answered {len(results)}")
        if self._stock_peer:
            results *= len(wanted)  # one region, one key
        for each, result in zip(wanted, results, strict=True):
            block, chunk = each >> BLOCK_SHIFT & _BLOCK_MASK, each >> CHUNK_SHIFT
            region = self._local.register_chunk(block, chunk)
            self._keys[each] = (region.lkey, result.rkey)

    def _chunk_pages(self, block: int, chunk: int) -> tuple[int, int]:
        ram = self._blocks[block]
        first = chunk * CHUNK_PAGES
        return ram.first_page + first, min(CHUNK_PAGES, ram.pages - first)
