"""The connection manager: finding a peer, connecting two queue pairs, taking the connection down.

The messages and their order are those of IBA volume 1, chapter 12 (REQ, REP, RTU; REJ; DREQ): management datagrams
beside the queue pairs' traffic, repeated when they get lost. The attributes of the queue pairs are what Linux'
rdma_cm settles on, with QEMU's parameters (7.2): responder resources and initiator depth 2, retry count 5, no RNR
retries.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from simmig.verbs import api
from simmig.verbs.runtime import PEER_LEFT, Signal
from simmig.verbs.sim import enums as e
from simmig.verbs.sim import tcp
from simmig.verbs.sim.addr import GID, AHAttr, GlobalRoute
from simmig.verbs.sim.device import Context
from simmig.verbs.sim.link import PATH_MTUS, Direction
from simmig.verbs.sim.nic import SimDevice
from simmig.verbs.sim.parts import Adapter
from simmig.verbs.sim.qp import QP
from simmig.verbs.sim.qp_attr import QPAttr
from simmig.verbs.sim.runtime import SimRuntime
from simmig.verbs.sim.waiting import LightEvent, Waitable
from simmig.verbs.sim.work import PSN_MASK

RESPONSE_TIMEOUT_NS = 4096 << 20
"""After which a lost message is repeated: Linux' CMA_CM_RESPONSE_TIMEOUT."""
REPEATS = 15
"""Linux' CMA_MAX_CM_RETRIES."""
ADDRESS_TIMEOUT_NS = 1_000_000_000
"""After which a lost address request is repeated (ARP)."""

DATAGRAM_BYTES = 256  # a management datagram, headers apart
ARP_BYTES = 64
_READS = 2
_RETRY_COUNT = 5
ACK_TIMEOUT = 14
"""The queue pairs' timeout exponent (R37): 67 ms."""
_MIN_RNR_TIMER = 0  # 655 ms, which matters to nobody: RNR is fatal
_GID_INDEX = 1


class Post:
    """Sends messages of `size_bytes` and repeats what is lost, after `interval_ns` and `REPEATS` times."""

    __slots__ = ("_direction", "_interval_ns", "_wire_bytes", "closed")

    def __init__(self, direction: Direction, size_bytes: int, interval_ns: int) -> None:
        self._direction = direction
        self._interval_ns = interval_ns
        self._wire_bytes = size_bytes + direction.spec.header_bytes
        self.closed = False

    def send(self, arrived: Callable[..., None], *args: Any, repeat: int = 0) -> None:
        """Have `arrived(*args)` called at the other end."""

        def again(event: Any) -> None:
            if not self.closed:
                self.send(arrived, *args, repeat=repeat + 1)

        def lost(*_: Any) -> None:
            if repeat < REPEATS:
                env = self._direction.env
                env.at(env._now + self._interval_ns, LightEvent(again))

        self._direction.transmit(self._wire_bytes, arrived, *args, on_loss=lost)


class _Word(Waitable):
    """Something that the peer has yet to say."""

    __slots__ = ("said",)

    def __init__(self) -> None:
        super().__init__()
        self.said = False

    @property
    def ready(self) -> bool:
        """Whether it has been said."""
        return self.said

    def say(self) -> None:
        """It is said now."""
        self.said = True
        self.wake_waiters()


class SimConnection(Waitable):
    """One end of a connection; implements `simmig.verbs.runtime.Connection`."""

    __slots__ = (
        "_answer",
        "_device",
        "_direction",
        "_find",
        "_peer",
        "_post",
        "_qp",
        "_refused",
        "_runtime",
        "context",
        "lost",
        "private_data",
        "ready",
    )

    def __init__(
        self, device: Adapter, direction: Direction, find: Callable[[], SimListener | None], private_data: bytes
    ) -> None:
        super().__init__()
        self.context = Context(device=device)
        self.private_data = private_data
        self.lost = ""
        self.ready = False  # turns true with `lost`
        self._device = device
        self._direction = direction
        self._find = find
        self._runtime = SimRuntime(device.host)
        self._post = Post(direction, DATAGRAM_BYTES, RESPONSE_TIMEOUT_NS)
        self._answer = _Word()
        self._refused = False
        self._peer: SimConnection | None = None
        self._qp: QP | None = None

    def prepare(self, qp: api.QPHandle) -> None:
        """Bring the queue pair to INIT, open to remote reads and writes as rdma_cm leaves it."""
        attr = QPAttr()
        attr.qp_access_flags = e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_REMOTE_READ
        cast(QP, qp).to_init(attr)

    async def connect(self, qp: api.QPHandle, private_data: bytes, timeout_ns: int) -> bytes:
        """Ask for the connection and wait for the peer to accept; returns its private data.

        Raises ConnectionRefusedError when nobody listens or the peer rejects, TimeoutError when nobody answers,
        ConnectionAbortedError when disconnected meanwhile.
        """
        self._device.host.charge(self._device.host.costs.connect_ns)
        await self._runtime.checkpoint()
        self._qp = cast(QP, qp)
        self._post.send(_request, self, private_data)
        deadline_ns = self._runtime.now_ns() + timeout_ns
        if not await self._runtime.wait(self._answer, self, deadline_ns=deadline_ns):
            self._lose("the peer did not answer")
            raise TimeoutError(errno.ETIMEDOUT, "the peer did not answer the connection request in time")
        if self._refused:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the peer refused the connection")
        peer = self._established()
        self._post.send(peer._confirmed)
        return self.private_data

    async def accept(self, qp: api.QPHandle, private_data: bytes) -> None:
        """Accept the request; returns when the peer confirms.

        Raises TimeoutError when it never does, ConnectionAbortedError when disconnected meanwhile.
        """
        await self._runtime.checkpoint()
        self._qp = cast(QP, qp)
        peer = self._established()
        self._post.send(peer._accepted, self, private_data)
        deadline_ns = self._runtime.now_ns() + (REPEATS + 1) * RESPONSE_TIMEOUT_NS
        if not await self._runtime.wait(self._answer, self, deadline_ns=deadline_ns):
            self.disconnect()
            raise TimeoutError(errno.ETIMEDOUT, "the peer did not confirm the connection")
        self._check_not_lost()

    def reject(self) -> None:
        """Turn the request down."""
        assert self._peer is not None
        self._post.send(self._peer._rejected)
        self._lose("rejected")

    def disconnect(self) -> None:
        """Take the connection down: both queue pairs enter ERR, the peer sees `lost`. Idempotent."""
        if self.lost:
            return
        self._lose("disconnected")
        if self._peer is not None:
            Post(self._direction, DATAGRAM_BYTES, RESPONSE_TIMEOUT_NS).send(self._peer._lose, PEER_LEFT)

    def _established(self) -> SimConnection:
        """Bring the queue pair to RTS, towards the peer's."""
        self._check_not_lost()
        qp, peer = self._qp, self._peer
        assert qp is not None
        assert peer is not None
        assert peer._qp is not None
        attr, _ = qp.query(e.IBV_QP_ACCESS_FLAGS)
        attr.path_mtu = PATH_MTUS[self._direction.spec.mtu]
        attr.dest_qp_num = peer._qp.qp_num
        attr.rq_psn = _first_psn(peer._qp)
        attr.sq_psn = _first_psn(qp)
        attr.max_rd_atomic = attr.max_dest_rd_atomic = _READS
        attr.min_rnr_timer = _MIN_RNR_TIMER
        attr.retry_cnt = _RETRY_COUNT
        attr.rnr_retry = 0
        attr.timeout = ACK_TIMEOUT
        route = GlobalRoute(GID(peer._device.gids[_GID_INDEX]), sgid_index=_GID_INDEX)
        attr.ah_attr = AHAttr(is_global=1, gr=route)
        qp.to_rts(attr)
        return peer

    def _check_not_lost(self) -> None:
        if self.lost:
            raise ConnectionAbortedError(errno.ECONNABORTED, f"connection lost: {self.lost}")

    # --- what the peer's messages do ----------------------------------------------------------------------------

    def _accepted(self, peer: SimConnection, private_data: bytes) -> None:
        """REP has come."""
        if self.lost:
            self._post.send(peer._lose, "the peer gave up")
            return
        self._peer = peer
        self.private_data = private_data
        self._answer.say()

    def _confirmed(self) -> None:
        """RTU has come."""
        self._answer.say()

    def _rejected(self) -> None:
        """REJ has come."""
        self._refused = True
        self._answer.say()

    def _lose(self, reason: str) -> None:
        if self.lost:
            return
        self.lost = reason
        self.ready = True
        if self._qp is not None:
            self._qp.enter_error()
        self.wake_waiters()

    def requested(self, private_data: bytes) -> None:
        """REQ has come to the other end: to the listener there, if there is one."""
        listener = self._find()
        back = self._direction.reverse
        if listener is None:
            Post(back, DATAGRAM_BYTES, RESPONSE_TIMEOUT_NS).send(self._rejected)
            return
        server = SimConnection(self._direction.target, back, self._find, private_data)
        server._peer = self
        listener.add(server)


def _request(connection: SimConnection, private_data: bytes) -> None:
    connection.requested(private_data)


def _first_psn(qp: QP) -> int:
    return (qp.qp_num << 8) & PSN_MASK


class SimDialer:
    """The way from a device to whoever listens on `address` at the other end; implements `Dialer`.

    An address is any string both ends agree on.
    """

    def __init__(self, device: SimDevice, address: str) -> None:
        if not device.links:
            raise ValueError(f"device {device.name!r} has no link to dial over")
        self.device = device
        self.address = address
        self._runtime = SimRuntime(device.host)

    async def dial(self, timeout_ns: int) -> SimConnection:
        """Resolve the address: one round trip; raises TimeoutError when nobody answers."""
        await self._runtime.checkpoint()
        direction = self._direction()
        answer = _Word()
        ask = Post(direction, ARP_BYTES, ADDRESS_TIMEOUT_NS)
        reply = Post(direction.reverse, ARP_BYTES, ADDRESS_TIMEOUT_NS)
        ask.send(reply.send, answer.say)
        deadline_ns = self._runtime.now_ns() + timeout_ns
        if not await self._runtime.wait(answer, deadline_ns=deadline_ns):
            ask.closed = reply.closed = True
            raise TimeoutError(errno.ETIMEDOUT, f"nobody answers for {self.address}")
        return SimConnection(self.device, direction, self._listener, b"")

    async def dial_socket(self, timeout_ns: int) -> tcp.SimSocket:
        """Open a byte stream; raises TimeoutError or ConnectionRefusedError."""
        return await tcp.connect(self._runtime, self._direction(), self._sockets, timeout_ns)

    def _direction(self) -> Direction:
        """Towards a listener if one of the links leads there, else the first."""
        directions = list(dict.fromkeys(self.device.routes.values()))
        return next((way for way in directions if self.address in way.target.listeners), directions[0])

    def _listener(self) -> SimListener | None:
        return self._direction().target.listeners.get(self.address)

    def _sockets(self) -> tcp.SocketQueue | None:
        listener = self._listener()
        return None if listener is None else listener.sockets


class SimListener(Waitable):
    """Where connection requests and byte streams to an address of a device arrive; implements `Listener`.

    Raises OSError (EADDRINUSE) when the device listens there already.
    """

    __slots__ = ("_refusing", "_requests", "_runtime", "address", "cancel", "device", "sockets")

    def __init__(self, device: SimDevice, address: str) -> None:
        super().__init__()
        if address in device.listeners:
            raise OSError(errno.EADDRINUSE, f"{device.name} listens on {address} already")
        device.listeners[address] = self
        self.device = device
        self.address = address
        self._runtime = SimRuntime(device.host)
        self._requests: deque[SimConnection] = deque()
        self._refusing = False
        self.cancel: Signal | None = None
        self.sockets = tcp.SocketQueue(self._runtime)

    @property
    def ready(self) -> bool:
        """Whether a request is there."""
        return bool(self._requests)

    def add(self, connection: SimConnection) -> None:
        """A request has come."""
        if self._refusing:
            connection.reject()
            return
        self._requests.append(connection)
        self.wake_waiters()

    async def request(self, deadline_ns: int | None = None) -> SimConnection:
        """The next connection request; raises TimeoutError at the deadline."""
        while not self._requests:
            if not await tcp.wait_unless_cancelled(self._runtime, self, self.cancel, deadline_ns):
                raise TimeoutError(errno.ETIMEDOUT, f"nobody connected to {self.address} in time")
        return self._requests.popleft()

    async def socket(self, deadline_ns: int | None = None) -> tcp.SimSocket:
        """The next byte stream; raises TimeoutError at the deadline."""
        return await self.sockets.accept(deadline_ns, self.cancel)

    def refuse_others(self) -> None:
        """Reject every request from now on."""
        self._refusing = True
        while self._requests:
            self._requests.popleft().reject()

    def close(self) -> None:
        """Stop listening; requests not taken are rejected. Idempotent."""
        if self.device.listeners.get(self.address) is self:
            del self.device.listeners[self.address]
            while self._requests:
                self._requests.popleft().reject()
            self.sockets.close()
