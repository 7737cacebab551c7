"""Byte streams over TCP: the transport that RDMA is held against."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import socket as sockets
from collections.abc import Awaitable
from typing import TypeVar, cast

from simmig.verbs.rdma.runtime import Watchable
from simmig.verbs.runtime import Signal

_T = TypeVar("_T")

SILENCE_S = 30
"""How long a peer's host may acknowledge nothing: as long as the peer itself may take for a control message."""
_PROBE_S = 5


class RdmaSocket:
    """Implements `simmig.verbs.runtime.Socket`. `fd` makes it a source that the runtime can wait for.

    A peer whose host is silent for `SILENCE_S` is lost, whether there was something to send or not (man tcp(7)).
    """

    def __init__(self, raw: sockets.socket) -> None:
        raw.setblocking(False)
        raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)  # the stream's messages are whole when sent
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
        raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_KEEPIDLE, _PROBE_S)
        raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_KEEPINTVL, _PROBE_S)
        raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_KEEPCNT, SILENCE_S // _PROBE_S - 1)
        raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_USER_TIMEOUT, SILENCE_S * 1000)
        self._raw = raw
        self._loop = asyncio.get_running_loop()
        self.fd = raw.fileno()
        self.lost = ""
        self.cancel: Signal | None = None

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
        """The operation's result, or OSError (ECANCELED) as soon as `cancel` is set."""
        try:
            return await (operation if self.cancel is None else _unless(self.cancel, operation))
        except OSError as error:
            self.lost = self.lost or str(error)
            raise


async def _unless(cancel: Signal, operation: Awaitable[_T]) -> _T:
    task = asyncio.ensure_future(operation)

    def stop() -> None:
        task.cancel()

    waking = cast(Watchable, cancel)
    waking.add_waiter(stop)
    try:
        if cancel.is_set:
            stop()
        return await task
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if not cancel.is_set or (current is not None and current.cancelling()):
            raise
        raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED)) from None
    finally:
        waking.remove_waiter(stop)


async def within(timeout_ns: int | None, operation: Awaitable[_T], what: str) -> _T:
    """The operation's result; raises TimeoutError, saying what it was that took too long."""
    try:
        return await asyncio.wait_for(operation, None if timeout_ns is None else timeout_ns / 1e9)
    except TimeoutError:
        raise TimeoutError(f"{what}: no answer within {(timeout_ns or 0) / 1e9:g} s") from None


def _memory(address: int, length_bytes: int) -> memoryview:
    return memoryview((ctypes.c_char * length_bytes).from_address(address)).cast("B")
