"""The migration stream: bytes both ways, RAM pages and a drain, whatever carries them.

What QEMU calls a QEMUFile. The stream's bytes and its RAM bytes share one position, which nothing outside moves.
"""

from __future__ import annotations

import abc
import errno
from typing import Protocol

BUFFER_BYTES = 32 << 10
"""The longest piece that `flush` hands to `put_buffer` (QEMU's file buffer)."""
MAX_ENDING_BYTES = 500 << 10
"""What can go in one piece nevertheless: the end of the stream, which must not arrive in part."""


class StreamError(OSError):
    """The stream failed and stays so: EIO for RAM pages that could not be flushed, EINVAL for bytes not sent."""


def check_mode(mode: str) -> None:
    """Raise ValueError unless `mode` is exactly "rb" or "wb"; called before anything is allocated."""
    if mode not in ("rb", "wb"):
        raise ValueError(f"a migration stream opens as 'rb' or 'wb', not {mode!r}")


class PageSender(Protocol):
    """Takes runs of pages that each lie within one chunk; may hold the last one back to merge it with the next."""

    def merge(self, first_page: int, count: int) -> bool:
        """Add a run to the one held back; False when that has to be flushed first."""

    def left_by(self, first_page: int) -> bool:
        """Whether going on with that page leaves the chunk of the run held back."""

    def try_flush(self) -> bool:
        """Send the run held back if that takes no waiting; False when `flush` has to."""

    async def flush(self) -> bool:
        """Send the run held back, whatever it takes; whether there was one."""

    def poll(self) -> None:
        """See what has completed meanwhile, without waiting."""


class Stream(abc.ABC):
    """Base of the transports: buffering, position, and errors that stick."""

    def __init__(self, mode: str) -> None:
        check_mode(mode)
        self.mode = mode
        self.error: StreamError | None = None
        self._stream_bytes = 0
        self._out = bytearray()

    # What a transport provides.

    @abc.abstractmethod
    async def put_buffer(self, data: bytes) -> int:
        """Send bytes that fit into one message, after the RAM writes queued so far; returns how many went."""

    @abc.abstractmethod
    async def get_buffer(self, size: int) -> bytes:
        """At least one and at most `size` bytes of what comes next; short counts are normal, b"" is the end."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Release everything. Again is a no-op."""

    def get_fd(self) -> int | None:
        """A descriptor to watch, where the transport has one."""
        return None

    # The pair of RAM operations: `pages` to save them, `drain` to wait until they have arrived.

    @property
    def pages(self) -> PageSender:
        """Where pages go; there once the setup is over."""
        raise NotImplementedError

    async def flush_pages(self) -> bool:
        """Send the run of pages held back; True when there was one."""
        return False

    @property
    def posted_bytes(self) -> int:
        """RAM bytes handed to the transport."""
        return 0

    @property
    def completed_bytes(self) -> int:
        """RAM bytes known to have arrived (a socket: to have been taken over by the kernel)."""
        return self.posted_bytes

    @property
    def pending_bytes(self) -> int:
        """RAM bytes that `drain` would wait for."""
        return self.posted_bytes - self.completed_bytes

    async def drain(self, pending_bytes: int) -> None:
        """Wait until at most that many RAM bytes are pending."""

    async def begin_ram_section(self) -> None:
        """A RAM section's header was put: pages follow."""

    async def end_ram_section(self) -> None:
        """The section's pages are sent."""

    async def load_hook(self) -> None:
        """The reader met the hook that `begin_ram_section` left in the stream: serve the sender until it ends."""
        raise self.fail(errno.EINVAL, "this transport has no registration mode")

    async def load_pages(self, first_page: int, count: int) -> None:
        """Read pages that come in the stream straight into guest memory."""
        raise self.fail(errno.EINVAL, "on this transport pages do not come in the stream")

    # What callers use.

    def tell(self) -> int:
        """Bytes sent or received, RAM included, each counted once."""
        return self._stream_bytes + len(self._out) + self.posted_bytes

    def put(self, data: bytes) -> None:
        """Append to what the next `flush` sends."""
        assert self.mode == "wb", "writing to a stream opened for reading"
        self._out += data

    async def flush(self, piece_bytes: int = BUFFER_BYTES) -> None:
        """Send what was put, in pieces. Raises StreamError with EIO (RAM pages) or EINVAL (bytes)."""
        self.check()
        while self._out:
            piece = bytes(self._out[:piece_bytes])
            sent = await self.put_buffer(piece)
            self._stream_bytes += sent
            del self._out[:sent]

    async def read(self, size: int) -> bytes:
        """Exactly `size` bytes; raises StreamError when the stream ends before."""
        assert self.mode == "rb", "reading from a stream opened for writing"
        data = b""
        while len(data) < size:
            self.check()
            piece = await self.get_buffer(size - len(data))
            if not piece:
                raise self.fail(errno.EIO, "the stream ended in the middle")
            data += piece
        self._stream_bytes += size
        return data

    async def read_some(self) -> bytes:
        """What comes next, as much as is there; b"" when the stream has ended."""
        self.check()
        piece = await self.get_buffer(BUFFER_BYTES)
        self._stream_bytes += len(piece)
        return piece

    def check(self) -> None:
        """Raise the error that the stream failed with, if it did."""
        if self.error is not None:
            raise self.error

    def fail(self, code: int, reason: str) -> StreamError:
        """Mark the stream failed (the first reason stays); returns the error to raise."""
        if self.error is None:
            self.error = StreamError(code, reason)
        return self.error
