"""The RDMA stream, both ends: RAM by one-sided writes, everything else as QEMU FILE control messages."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Sequence

from simmig.guest.api import PAGE_BYTES, Guest, RamBlock
from simmig.migration import savevm, wire
from simmig.migration.config import CHUNK_BYTES, CHUNK_PAGES, Cancelled, MigrationConfig, MigrationError
from simmig.migration.control import PATIENCE_NS, ControlChannel
from simmig.migration.lane import Lane, give_back
from simmig.migration.ram_writer import RamWriter, UpcomingChunks
from simmig.migration.registration import WHOLE_BLOCK, Registry
from simmig.migration.stream import MAX_ENDING_BYTES, Stream, StreamError
from simmig.migration.wire import Message, RegisterResult, RemoteBlock, Type
from simmig.verbs.runtime import PEER_LEFT, Work

PIN_BYTES_S = 32 << 20
"""A destination that pins slower than this counts as hung. The slowest device measured pins 70 MiB/s."""
LINGER_NS = 10_000_000_000
ABORT_PATIENCE_NS = 1_000_000_000
HANG_UP_NS = 100_000_000


class RdmaStream(Stream):
    """What both ends share. `ram` and `control` are the same lane, or two (`control_qp` "own")."""

    def __init__(self, mode: str, ram: Lane, control: ControlChannel, control_lane: Lane) -> None:
        super().__init__(mode)
        self._ram_lane = ram
        self._control_lane = control_lane
        self._control = control
        self._registry: Registry | None = None
        self._closed = False

    @property
    def _lanes(self) -> list[Lane]:
        shared = self._ram_lane is self._control_lane
        return [self._control_lane] if shared else [self._control_lane, self._ram_lane]

    async def abort(self) -> None:
        """Tell the peer that this side failed, where it can still be told."""
        lane = self._control_lane
        if not lane.broken and not lane.connection.lost:
            lane.cancel = None
            lane.error = ""
            if self.mode == "wb":  # without a RECV posted at the peer, message and connection would be lost
                with contextlib.suppress(MigrationError, lane.verbs.PyverbsError):
                    await self._control.granted("ERROR", ABORT_PATIENCE_NS)
            with contextlib.suppress(MigrationError, lane.verbs.PyverbsError):  # it was the last thing to try
                await self._control.post(Message(Type.ERROR))
                await self._control.settle()

    async def close(self) -> None:
        """Disconnect and give everything back."""
        if self._closed:
            return
        self._closed = True
        for lane in self._lanes:
            lane.connection.disconnect()
            lane.close()
        self._control.close()
        if self._registry is not None:
            self._registry.close()
        for lane in self._lanes:
            give_back(lane.verbs, lane.pd.close)

    async def put_buffer(self, data: bytes) -> int:
        """One QEMU FILE message, after the RAM run held back."""
        raise self.fail(errno.EINVAL, "not opened for writing")

    async def get_buffer(self, size: int) -> bytes:
        """What is left of the last QEMU FILE message, or the next."""
        raise self.fail(errno.EINVAL, "not opened for reading")


class RdmaSource(RdmaStream):
    """The sending end."""

    def __init__(
        self,
        config: MigrationConfig,
        guest: Guest,
        ram: Lane,
        control: ControlChannel,
        control_lane: Lane,
        pin_all: bool,
        stock_peer: bool,
        upcoming_chunks: UpcomingChunks,
    ) -> None:
        super().__init__("wb", ram, control, control_lane)
        self._config = config
        self._guest = guest
        self._pin_all = pin_all
        self._stock_peer = stock_peer
        self._upcoming_chunks = upcoming_chunks
        self._writer: RamWriter | None = None

    @property
    def posted_bytes(self) -> int:
        """RAM bytes posted as writes; zero pages are no wire bytes, a retried post counts once."""
        return self._writer.posted_bytes if self._writer else 0

    @property
    def completed_bytes(self) -> int:
        """RAM bytes whose completion was polled."""
        return self._writer.completed_bytes if self._writer else 0

    @property
    def pages(self) -> RamWriter:
        """Pages go as RDMA WRITEs."""
        assert self._writer is not None
        return self._writer

    async def flush_pages(self) -> bool:
        """Write the run held back."""
        return self._writer is not None and await self._writer.flush()

    async def drain(self, pending_bytes: int) -> None:
        """Poll until at most that many bytes are pending."""
        if self._writer is not None:
            await self._writer.drain(pending_bytes)

    async def put_buffer(self, data: bytes) -> int:
        """One QEMU FILE message, after the RAM run held back."""
        try:
            await self.flush_pages()
        except Cancelled:
            raise
        except MigrationError as error:
            raise self.fail(errno.EIO, str(error)) from error
        try:
            await self._control.send(Message(Type.QEMU_FILE, data))
        except Cancelled:
            raise
        except MigrationError as error:
            raise self.fail(errno.EINVAL, str(error)) from error
        return len(data)

    async def begin_ram_section(self) -> None:
        """Send the destination into registration mode."""
        self.put(savevm.flag(savevm.FLAG_HOOK))
        await self.flush()

    async def end_ram_section(self) -> None:
        """Let the destination out of registration mode; the first time, exchange the RAM blocks before."""
        await self.flush_pages()
        if self._writer is None:
            self._writer = await self._exchange_blocks()
        await self._control.send(Message(Type.REGISTER_FINISHED))

    async def flush_last(self) -> None:
        """Send the end of the stream, in one message, and see it arrive; from here on cancelling comes too late.

        The destination's READY, without which nothing is sent, says that it has loaded all the rest.
        """
        try:
            await self._control.granted()
            for lane in self._lanes:
                lane.cancel = None
            await self._send_last()
        except Cancelled:
            raise
        except MigrationError as error:
            raise self.fail(errno.EINVAL, str(error)) from error

    async def _send_last(self) -> None:
        """Whatever fails once it is posted, only its own completion says whether it has arrived."""
        control = self._control
        before = control.posts
        try:
            await self.flush(MAX_ENDING_BYTES)
            await control.settle()
        except (MigrationError, OSError, self._control_lane.verbs.PyverbsError):
            if control.posts == before or not await control.settle_in_spite():
                raise

    async def _exchange_blocks(self) -> RamWriter:
        blocks = list(self._guest.blocks)
        registry = self._registry = Registry(self._ram_lane, blocks, remote=False)
        patience_ns = PATIENCE_NS
        if self._pin_all:
            patience_ns += sum(b.length_bytes for b in blocks) * 1_000_000_000 // PIN_BYTES_S
        answer = await self._control.send(
            Message(Type.RAM_BLOCKS_REQUEST),
            answer=Type.RAM_BLOCKS_RESULT,
            meanwhile=registry.register_all if self._pin_all else None,
            patience_ns=patience_ns,
        )
        assert answer is not None
        remote = wire.decode_blocks(answer.data)
        if [b.length for b in remote] != [b.length_bytes for b in blocks]:
            raise MigrationError("the destination describes other RAM blocks than the source has")
        writer = RamWriter(
            self._ram_lane,
            self._control,
            self._guest,
            registry,
            remote,
            self._pin_all,
            self._config.registration_batch,
            self._stock_peer,
            self._upcoming_chunks,
        )
        if self._ram_lane is self._control_lane:
            self._control.before_wait = writer.begin_forced_drain
            self._control.after_wait = writer.end_forced_drain
        return writer


class RdmaDestination(RdmaStream):
    """The receiving end; `blocks` must be set, in the source's order, once the stream has listed them."""

    def __init__(
        self, guest: Guest, ram: Lane, control: ControlChannel, control_lane: Lane, pin_all: bool
    ) -> None:
        super().__init__("rb", ram, control, control_lane)
        self._guest = guest
        self._pin_all = pin_all
        self._left = b""
        self._all_loaded = False
        self.blocks: Sequence[RamBlock] = ()

    async def get_buffer(self, size: int) -> bytes:
        """What is left of the last QEMU FILE message; blocks for the next when that is nothing."""
        while not self._left:
            try:
                message = await self._receive()
            except Cancelled:
                raise
            except MigrationError as error:
                raise self.fail(errno.EIO, str(error)) from error
            if message.type is not Type.QEMU_FILE:
                raise self.fail(errno.EIO, f"the source sent {message.type.name} where QEMU_FILE was due")
            self._left = message.data
        data, self._left = self._left[:size], self._left[size:]
        return data

    async def _receive(self) -> Message:
        """The next message.

        When it may be the stream's last one, the source may have let go of the guest already. Then neither failure
        nor cancellation decides, but whether the message was there when this side took the queue pair down.
        """
        lane = self._control_lane
        try:
            return await self._control.receive()
        except (MigrationError, lane.verbs.PyverbsError):
            if not self._all_loaded:
                raise
            lane.connection.disconnect()
            message = await self._control.receive_in_spite()
            if message is None:
                raise
            return message

    async def read_some(self) -> bytes:
        """What comes next; b"" when the source has disconnected instead, as one that has said all does."""
        lane = self._control_lane
        try:
            return await super().read_some()
        except StreamError:
            # What was posted meanwhile may have failed before the connection manager says why.
            await lane.runtime.wait(lane.connection, deadline_ns=lane.runtime.now_ns() + HANG_UP_NS)
            if lane.connection.lost != PEER_LEFT:
                raise
            return b""

    async def acknowledge(self) -> None:
        """Asking for the next message says it; from then on the source may let go of the guest."""
        self._all_loaded = True

    async def linger(self) -> None:
        """Keep the queue pair until the source lets go of it, lest its last message goes unacknowledged."""
        lane = self._control_lane
        try:
            await self._control.settle()
        except (MigrationError, lane.verbs.PyverbsError):  # the source may have let go already
            await self._control.settle_in_spite()
        await lane.runtime.wait(lane.connection, deadline_ns=lane.runtime.now_ns() + LINGER_NS)

    async def load_hook(self) -> None:
        """Registration mode: serve the source's commands until REGISTER FINISHED."""
        if self._registry is None:
            self._registry = Registry(self._ram_lane, list(self.blocks), remote=True)
        while True:
            message = await self._control.receive()
            match message.type:
                case Type.REGISTER_FINISHED:
                    return
                case Type.RAM_BLOCKS_REQUEST:
                    answer = Message(Type.RAM_BLOCKS_RESULT, self._describe_blocks(), len(self.blocks))
                case Type.COMPRESS:
                    self._zero(wire.decode_compress(message.data))
                    continue
                case Type.REGISTER_REQUEST:
                    answer = self._register(message)
                case Type.UNREGISTER_REQUEST:
                    answer = self._unregister(message)
                case _:
                    raise MigrationError(f"the source sent {message.type.name} in registration mode")
            await self._control.post(answer)

    def _describe_blocks(self) -> bytes:
        assert self._registry is not None
        if self._pin_all:
            self._registry.register_all()
        described = []
        for index, block in enumerate(self.blocks):
            rkey = self._registry.regions[index, WHOLE_BLOCK, 0].rkey if self._pin_all else 0
            described.append(RemoteBlock(block.address, block.offset_bytes, block.length_bytes, rkey))
        return wire.encode_blocks(described)

    def _zero(self, command: wire.Compress) -> None:
        block = self._block(command.block)
        offset = command.offset - block.offset_bytes
        if command.value != 0:
            raise MigrationError(f"COMPRESS with value {command.value}; only zero is supported")
        if offset < 0 or offset % PAGE_BYTES or command.length % PAGE_BYTES or not command.length:
            raise MigrationError(f"COMPRESS of {command.length} bytes at {command.offset} is not page-aligned")
        if offset + command.length > block.length_bytes:
            raise MigrationError(f"COMPRESS of {command.length} bytes at {command.offset} leaves {block.name!r}")
        pages = command.length // PAGE_BYTES
        self._guest.zero(block.first_page + offset // PAGE_BYTES, pages)
        self._ram_lane.runtime.work(Work.ZERO_TEST_PAGE, pages)  # like QEMU: memory that is zero is not written

    def _register(self, message: Message) -> Message:
        assert self._registry is not None
        results = []
        for command in wire.decode_registers(message):
            chunk = self._chunk(command)
            region = self._registry.register_chunk(command.block, chunk, command.extra_chunks)
            results.append(RegisterResult(region.rkey, self.blocks[command.block].address))
        return Message(Type.REGISTER_RESULT, wire.encode_results(results), len(results))

    def _unregister(self, message: Message) -> Message:
        assert self._registry is not None
        for command in wire.decode_registers(message):
            self._registry.deregister(command.block, self._chunk(command), command.extra_chunks)
        return Message(Type.UNREGISTER_FINISHED)

    def _block(self, index: int) -> RamBlock:
        if index >= len(self.blocks):
            raise MigrationError(f"the source names RAM block {index}, there are {len(self.blocks)}")
        return self.blocks[index]

    def _chunk(self, command: wire.Register) -> int:
        block = self._block(command.block)
        offset = command.address - block.offset_bytes
        chunk = offset // CHUNK_BYTES
        chunks = -(-block.pages // CHUNK_PAGES)
        if not 0 <= offset < block.length_bytes or chunk + command.extra_chunks >= chunks:
            raise MigrationError(
                f"{command.extra_chunks + 1} chunks at {command.address:#x} leave RAM block {block.name!r}"
            )
        return chunk


def reason_of(error: Exception) -> str:
    """What a person is told of an error."""
    return error.strerror or str(error) if isinstance(error, StreamError) else str(error) or type(error).__name__
