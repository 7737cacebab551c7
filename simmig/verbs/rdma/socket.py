"""Byte streams over TCP: the transport that RDMA is held against."""

from __future__ import annotations

import asyncio
import ctypes
import socket as sockets
from collections.abc import Awaitable
from typing import TypeVar

from simmig.verbs.runtime import Signal

_T = TypeVar("_T")


class RdmaSocket:
    """Implements `simmig.verbs.runtime.Socket`. `fd` makes it a source that the runtime can wait for."""

    def __init__(self, raw: sockets.socket) -> None:
        raw.setblocking(False)
        raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)  # the stream's messages are whole when sent
        self._raw = raw
        self._loop = asyncio.get_running_loop()
        self.fd = raw.fileno()
        self.lost = ""
        self.cancel: Signal | None = None  # looked at between messages

    async def send(self, data: bytes) -> None:
        """Send all of it; raises OSError when the connection is gone."""
        await self._watch(self._loop.sock_sendall(self._raw, data))

    async def send_memory(self, address: int, length_bytes: int) -> None:
        """Send a range of this process's memory."""
        await self._watch(self._loop.sock_sendall(self._raw, _memory(address, length_bytes)))

    async def receive(self, length_bytes: int) -> bytes:
        """At most that many bytes, b"" at the end of the stream; raises OSError when the connection is gone."""
        data = await self._watch(self._loop.sock_recv(self._raw, length_bytes))
        if not data:
            self.lost = self.lost or "the peer closed the stream"
        return data

    async def receive_memory(self, address: int, length_bytes: int) -> None:
        """Receive exactly that many bytes into this process's memory; raises OSError when the stream ends."""
        view = _memory(address, length_bytes)
        while view:
            count = await self._watch(self._loop.sock_recv_into(self._raw, view))
            if not count:
                self.lost = self.lost or "the peer closed the stream"
                raise ConnectionResetError(self.lost)
            view = view[count:]

    def close(self) -> None:
        """Close both directions. Again is a no-op."""
        if self.fd >= 0:
            self.fd = -1
            self.lost = self.lost or "closed by this side"
            self._raw.close()

    async def _watch(self, operation: Awaitable[_T]) -> _T:
        try:
            return await operation
        except OSError as error:
            self.lost = self.lost or str(error)
            raise


async def within(timeout_ns: int | None, operation: Awaitable[_T], what: str) -> _T:
    """The operation's result; raises TimeoutError, saying what it was that took too long."""
    try:
        return await asyncio.wait_for(operation, None if timeout_ns is None else timeout_ns / 1e9)
    except TimeoutError:
        raise TimeoutError(f"{what}: no answer within {(timeout_ns or 0) / 1e9:g} s") from None


def _memory(address: int, length_bytes: int) -> memoryview:
    return memoryview((ctypes.c_char * length_bytes).from_address(address)).cast("B")
