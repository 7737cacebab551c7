"""Sockets over a link: TCP as far as the time and the bandwidth of a bulk transfer depend on it.

Modelled: one round trip to connect, headers, copying on both hosts, a send buffer and a receive window, end of
stream, reset, retransmission, giving up. What is sent travels a megabyte or so at a time, as one message of the
link, so that it costs a few events. Memory travels as snapshots: no page becomes bytes.

Not modelled: congestion control; the window is open from the start and stays so. Data of which segments were lost
waits for one fast retransmission (the duplicate acknowledgement's way back and the segment's way there), as with
SACK; while nothing gets through, for retransmission timeouts. Acknowledgements take no bandwidth. A window's grain
is a megabyte too: where bandwidth times round trip comes near the window, throughput is up to a quarter low.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from functools import partial

from simmig.verbs.runtime import Signal
from simmig.verbs.sim.link import Direction
from simmig.verbs.sim.memory import Payload, payload_bytes, payload_length
from simmig.verbs.sim.runtime import SimRuntime
from simmig.verbs.sim.tcp_pipe import PIECE_BYTES, RETRANSMISSION_NS, Pipe, later, wire_bytes
from simmig.verbs.sim.waiting import Waitable

GIVE_UP_NS = 100_000_000_000
"""A peer not heard of for that long is given up: the least that RFC 1122 (4.2.3.5) allows."""

_SYN_TIMEOUT_NS = 1_000_000_000  # RFC 6298; doubles each time


class SimSocket(Waitable):
    """One end of a connection; implements `simmig.verbs.runtime.Socket`. Made by `connect`."""

    __slots__ = (
        "_broken_ns",
        "_closed",
        "_direction",
        "_errno",
        "_host",
        "_in",
        "_out",
        "_peer",
        "_runtime",
        "cancel",
        "lost",
    )

    def __init__(self, runtime: SimRuntime, direction: Direction) -> None:
        super().__init__()
        self.lost = ""
        self.cancel: Signal | None = None
        self._errno = 0
        self._closed = False
        self._runtime = runtime
        self._host = runtime.host
        self._direction = direction
        self._broken_ns = -1
        self._peer = self  # until `join`, as the pipes
        self._in: Pipe
        self._out: Pipe

    def join(self, peer: SimSocket) -> None:
        """Make these two the ends of one connection."""
        self._peer = peer
        peer._peer = self
        self._out = peer._in = Pipe(self._direction, peer, peer.refuses)
        self._in = peer._out = Pipe(peer._direction, self, self.refuses)
        for one, other in ((self, peer), (peer, self)):
            one._direction.link.watchers.append(one.path_changed)
            one._host.watchers.append(other.path_changed)

    @property
    def ready(self) -> bool:
        """Whether `receive` returns (or raises) at once."""
        return self._in.unread or self._in.at_end or self._closed or bool(self.lost)

    async def send(self, data: bytes) -> None:
        """Send all of it, waiting while the send buffer is full; raises OSError when lost or closed."""
        await self._send(len(data), lambda start, length: data[start : start + length])

    async def send_memory(self, address: int, length_bytes: int) -> None:
        """Send a range of this host's memory as it is when it is copied; EFAULT when it is not mapped."""
        mapping = self._host.memory.find(address, length_bytes)
        if mapping is None:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        await self._send(length_bytes, lambda start, length: mapping.read(address + start, length))

    async def receive(self, length_bytes: int) -> bytes:
        """Wait for data; at most that many bytes of it, ``b""`` at the end of the stream."""
        if not await self._until_unread():
            return b""
        return payload_bytes(self._read(length_bytes))

    async def receive_memory(self, address: int, length_bytes: int) -> None:
        """Receive that many bytes into this host's memory. OSError: lost, the stream ends before, EFAULT."""
        mapping = self._host.memory.find(address, length_bytes)
        if mapping is None:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        end = address + length_bytes
        while address < end:
            if not await self._until_unread():
                raise OSError(errno.ECONNRESET, f"the stream ended {end - address} bytes early")
            part = self._read(end - address)
            mapping.write(address, part)
            address += payload_length(part)

    def close(self) -> None:
        """Close both directions: what was sent still goes out, what was not read resets the peer. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._in.unread:
            self._reset_peer()
            self._out.stop()
        elif not self.lost:
            self._out.send(None)
        self.wake_waiters()

    def refuses(self, length_bytes: int) -> bool:
        """Whether data that arrives now finds nobody to read it; if so the peer is told."""
        if length_bytes and (self._closed or self.lost):
            self._reset_peer()
            return True
        return False

    def path_changed(self) -> None:
        """The link went up or down, or the peer's host died: give up when nothing mends it in time."""
        env = self._host.env
        if self._direction.link.up and self._peer._host.alive:
            self._broken_ns = -1
            self._in.acknowledge()
        elif self._broken_ns < 0 and not (self._closed and self._peer._in.at_end):  # nothing left to send or hear
            self._broken_ns = int(env._now)
            later(env, GIVE_UP_NS, self._give_up)

    def _give_up(self) -> None:
        if self._broken_ns >= 0 and self._host.env._now - self._broken_ns >= GIVE_UP_NS:
            self._lose(errno.ETIMEDOUT, "the peer does not answer")

    def _was_reset(self) -> None:
        self._lose(errno.ECONNRESET, "connection reset by peer")

    def _lose(self, code: int, reason: str) -> None:
        if not self.lost:
            self.lost = reason
            self._errno = code
            self._out.stop()
            self.wake_waiters()

    def _reset_peer(self) -> None:
        direction, peer = self._direction, self._peer

        def lost() -> None:  # the peer's next data or keep-alive probe draws another
            if not (peer.lost or peer._closed) and peer._host.alive and self._host.alive:
                later(direction.env, RETRANSMISSION_NS, self._reset_peer)

        direction.transmit(wire_bytes(direction.spec, 0), peer._was_reset, on_loss=lost)

    def _check(self) -> None:
        if self.lost:
            raise OSError(self._errno, self.lost)
        if self._closed:
            raise OSError(errno.EBADF, "the socket is closed")

    async def _send(self, length_bytes: int, part: Callable[[int, int], Payload]) -> None:
        self._check()
        for start in range(0, length_bytes, PIECE_BYTES):
            count = min(PIECE_BYTES, length_bytes - start)
            self._out.needed_bytes = count
            while not self._out.ready:
                await wait_unless_cancelled(self._runtime, self._out, self.cancel)
            self._host.charge(self._host.costs.tcp_byte_ns * count)
            await self._runtime.checkpoint()  # it leaves when it has been copied
            self._check()
            self._out.send(part(start, count))

    async def _until_unread(self) -> bool:
        """Wait for data: True; False when there will be none. Raises OSError when lost or closed."""
        while not self._in.unread:
            if self._in.at_end and not self._closed:
                return False
            self._check()
            await wait_unless_cancelled(self._runtime, self, self.cancel)
        if self._closed:
            self._check()
        return True

    def _read(self, limit_bytes: int) -> Payload:
        part = self._in.read(limit_bytes)
        self._host.charge(self._host.costs.tcp_byte_ns * payload_length(part))
        return part


class SocketQueue(Waitable):
    """Connections made to a listening address and not yet accepted."""

    __slots__ = ("_sockets", "closed", "runtime")

    def __init__(self, runtime: SimRuntime) -> None:
        super().__init__()
        self.runtime = runtime
        self._sockets: deque[SimSocket] = deque()
        self.closed = False

    @property
    def ready(self) -> bool:
        """Whether `accept` returns (or raises) at once."""
        return bool(self._sockets) or self.closed

    async def accept(self, deadline_ns: int | None = None, cancel: Signal | None = None) -> SimSocket:
        """The next connection; raises TimeoutError at the deadline, OSError when closed or cancelled."""
        while not self._sockets:
            if self.closed:
                raise OSError(errno.EBADF, "not listening any more")
            if not await wait_unless_cancelled(self.runtime, self, cancel, deadline_ns):
                raise TimeoutError(errno.ETIMEDOUT, "nobody opened a connection in time")
        return self._sockets.popleft()

    def close(self) -> None:
        """Listen no more: connections not accepted are closed, new ones refused. Idempotent."""
        self.closed = True
        while self._sockets:
            self._sockets.popleft().close()
        self.wake_waiters()

    def add(self, socket: SimSocket) -> None:
        """A connection has been made."""
        if self.closed:
            socket.close()
        else:
            self._sockets.append(socket)
            self.wake_waiters()


class _Opening(Waitable):
    """A connection being made: the three-way handshake, each part of it sent until it arrives."""

    __slots__ = ("_direction", "_find", "_runtime", "over", "socket")

    def __init__(self, runtime: SimRuntime, direction: Direction, find: Callable[[], SocketQueue | None]) -> None:
        super().__init__()
        self._runtime = runtime
        self._direction = direction
        self._find = find
        self.over = False
        self.socket: SimSocket | None = None  # remains so when refused
        self._send(direction, self._asked)

    @property
    def ready(self) -> bool:
        """Whether the peer has answered."""
        return self.over

    def _send(self, direction: Direction, arrived: Callable[[], None], attempts: int = 0) -> None:
        def lost() -> None:
            if not self.over:
                again = partial(self._send, direction, arrived, attempts + 1)
                later(direction.env, _SYN_TIMEOUT_NS << attempts, again)

        direction.transmit(wire_bytes(direction.spec, 0), arrived, on_loss=lost)

    def _asked(self) -> None:
        """At the listening host."""
        queue = self._find()
        back = self._direction.reverse
        if queue is None or queue.closed:
            self._send(back, self._answered)
        else:
            self._send(back, lambda: self._accepted(queue))

    def _accepted(self, queue: SocketQueue) -> None:
        """At the asking host: established here; at the other when it hears of it."""
        if self.over:
            return
        self.socket = SimSocket(self._runtime, self._direction)
        server = SimSocket(queue.runtime, self._direction.reverse)
        server.join(self.socket)
        later(self._direction.env, self._direction.latency_ns, lambda: queue.add(server))
        self._answered()

    def _answered(self) -> None:
        self.over = True
        self.wake_waiters()


async def wait_unless_cancelled(
    runtime: SimRuntime, source: Waitable, cancel: Signal | None, deadline_ns: int | None = None
) -> bool:
    """Wait for the source; False at the deadline. Raises OSError (ECANCELED) once `cancel` is set."""
    if cancel is None:
        return await runtime.wait(source, deadline_ns=deadline_ns)
    in_time: bool = await runtime.wait(source, cancel, deadline_ns=deadline_ns)
    if cancel.is_set:
        raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
    return in_time


async def connect(
    runtime: SimRuntime, direction: Direction, find: Callable[[], SocketQueue | None], timeout_ns: int
) -> SimSocket:
    """Open a connection to the other end of `direction`; `find` says who listens there when the request arrives.

    Raises TimeoutError when nothing comes back in time, ConnectionRefusedError when nobody listens.
    """
    await runtime.checkpoint()
    opening = _Opening(runtime, direction, find)
    deadline_ns = runtime.now_ns() + timeout_ns
    while not opening.over:
        if not await runtime.wait(opening, deadline_ns=deadline_ns):
            opening.over = True
            raise TimeoutError(errno.ETIMEDOUT, "nobody answered in time")
    if opening.socket is None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    return opening.socket
