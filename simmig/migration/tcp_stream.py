"""The socket stream: the baseline. Pages travel in the stream; there is nothing to drain.

Its framing of pages is our own (one place a run, not one a page). The destination answers with one byte when it
has loaded everything and with another when it has read the end: the credit that RDMA's control channel has anyway.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from simmig.guest.api import PAGE_BYTES, Guest, RamBlock
from simmig.migration import savevm
from simmig.migration.config import Cancelled
from simmig.migration.ram import BlockIndex
from simmig.migration.stream import MAX_ENDING_BYTES, Stream
from simmig.trace.events import Emit, PagesSaved
from simmig.verbs.runtime import Runtime, Signal, Socket, Work

_ACKNOWLEDGEMENT = b"\x06"


class _SocketStream(Stream):
    def __init__(self, mode: str, socket: Socket, guest: Guest, runtime: Runtime, cancel: Signal) -> None:
        super().__init__(mode)
        self._socket = socket
        socket.cancel = cancel
        self._guest = guest
        self._runtime = runtime
        self._index = BlockIndex(guest.blocks)

    async def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    async def abort(self) -> None:
        """A socket has no message for it: closing before the end of the stream says it."""

    async def _get(self, size: int) -> bytes:
        try:
            return await self._socket.receive(size)
        except OSError as error:
            raise self._failed(errno.EIO, error) from error

    async def _send(self, data: bytes) -> None:
        try:
            await self._socket.send(data)
        except OSError as error:
            raise self._failed(errno.EINVAL, error) from error

    def _failed(self, code: int, error: OSError) -> Exception:
        """What to raise for an error of the socket's."""
        return Cancelled("cancelled") if error.errno == errno.ECANCELED else self.fail(code, str(error))

    def _where(self, first_page: int) -> tuple[int, RamBlock]:
        index = self._index.block_of(first_page)
        return index, self._guest.blocks[index]


class SocketSource(_SocketStream):
    """The sending end."""

    def __init__(self, socket: Socket, guest: Guest, runtime: Runtime, cancel: Signal, emit: Emit | None) -> None:
        super().__init__("wb", socket, guest, runtime, cancel)
        self.cancel: Signal | None = cancel
        self._pages = SocketPages(self, emit)
        self._ram_bytes = 0

    @property
    def posted_bytes(self) -> int:
        """Page bytes handed to the socket."""
        return self._ram_bytes

    @property
    def pages(self) -> SocketPages:
        """Pages go into the stream."""
        return self._pages

    async def flush_pages(self) -> bool:
        """Send the run held back."""
        return await self._pages.flush()

    async def send_run(self, first_page: int, count: int, emit: Emit | None) -> None:
        """Send a run: its place, then its pages; an all-zero run is its place alone."""
        zero = self._guest.is_zero(first_page, count)
        self._runtime.work(Work.ZERO_TEST_PAGE, count if zero else 1)  # the test ends at the first other word
        index, block = self._where(first_page)
        page = first_page - block.first_page
        self.put(savevm.flag(savevm.FLAG_ZERO if zero else savevm.FLAG_PAGE))
        self.put(savevm.RUN.pack(index, page, count))
        await self.flush()
        if emit is not None:
            now_ns = self._runtime.now_ns()
            emit(PagesSaved(now_ns, "source", first_page, count, "zero" if zero else "data"))
        if not zero:
            try:
                await self._socket.send_memory(block.address + page * PAGE_BYTES, count * PAGE_BYTES)
            except OSError as error:
                raise self._failed(errno.EIO, error) from error
            self._ram_bytes += count * PAGE_BYTES
        await self._runtime.checkpoint()

    async def put_buffer(self, data: bytes) -> int:
        """Send bytes."""
        if self.cancel is not None and self.cancel.is_set:
            raise Cancelled("cancelled")
        await self._send(data)
        return len(data)

    async def flush_last(self) -> None:
        """Send the end once the destination has loaded the rest, and wait until it has read it."""
        await self._await_acknowledgement()
        self.cancel = self._socket.cancel = None
        await self.flush(MAX_ENDING_BYTES)
        await self._await_acknowledgement()

    async def _await_acknowledgement(self) -> None:
        if await self._get(1) != _ACKNOWLEDGEMENT:
            raise self.fail(errno.EIO, "the destination closed the connection")

    async def get_buffer(self, size: int) -> bytes:
        """Not on this end."""
        raise self.fail(errno.EINVAL, "not opened for reading")


class SocketPages:
    """Takes the runs for a socket: one at a time, nothing merges."""

    def __init__(self, stream: SocketSource, emit: Emit | None) -> None:
        self._stream = stream
        self._emit = emit
        self._held: tuple[int, int] | None = None

    def merge(self, first_page: int, count: int) -> bool:
        """Take a run; the next has to wait until it is sent."""
        if self._held is not None:
            return False
        self._held = (first_page, count)
        return True

    def left_by(self, first_page: int) -> bool:
        """Every run counts as a chunk."""
        return True

    def try_flush(self) -> bool:
        """Sending may have to wait for the socket buffer."""
        return False

    async def flush(self) -> bool:
        """Send the run held back; whether there was one."""
        if self._held is None:
            return False
        (first_page, count), self._held = self._held, None
        await self._stream.send_run(first_page, count, self._emit)
        return True

    def poll(self) -> None:
        """A socket has no completions."""


class SocketDestination(_SocketStream):
    """The receiving end."""

    def __init__(self, socket: Socket, guest: Guest, runtime: Runtime, cancel: Signal) -> None:
        super().__init__("rb", socket, guest, runtime, cancel)
        self.blocks: Sequence[RamBlock] = ()

    async def get_buffer(self, size: int) -> bytes:
        """The next bytes of the stream."""
        return await self._get(size)

    async def acknowledge(self) -> None:
        """Tell the source that everything so far is here and good. Raises Cancelled instead if it is to be so."""
        if self._socket.cancel is not None and self._socket.cancel.is_set:
            raise Cancelled("cancelled")
        await self._send(_ACKNOWLEDGEMENT)

    async def linger(self) -> None:
        """Nothing: the source has been told."""

    async def put_buffer(self, data: bytes) -> int:
        """Not on this end."""
        raise self.fail(errno.EINVAL, "not opened for writing")

    async def load_pages(self, first_page: int, count: int) -> None:
        """Pages from the socket straight into guest memory."""
        _, block = self._where(first_page)
        address = block.address + (first_page - block.first_page) * PAGE_BYTES
        try:
            await self._socket.receive_memory(address, count * PAGE_BYTES)
        except OSError as error:
            raise self._failed(errno.EIO, error) from error
