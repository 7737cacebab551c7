"""What is behind a CMID: rdma_cm_id, its events, and the messages that connect two of them (man rdma_cm(7)).

REQ, REP, RTU, REJ and DREQ as IBA volume 1, chapter 12, has them; for datagrams SIDR REQ and REP. They travel
beside the queue pairs' traffic and are repeated when they get lost (`simmig.verbs.sim.cm.Post`).
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simmig.verbs.pyverbs import cm_enums as ce
from simmig.verbs.pyverbs import enums as e
from simmig.verbs.pyverbs import session
from simmig.verbs.pyverbs.qp_attr import QPAttr
from simmig.verbs.sim.addr import GID, AHAttr, GlobalRoute
from simmig.verbs.sim.cm import DATAGRAM_BYTES, RESPONSE_TIMEOUT_NS, Post
from simmig.verbs.sim.link import PATH_MTUS
from simmig.verbs.sim.nic import SimDevice
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError
from simmig.verbs.sim.qp_rules import STEPS

UDP_QKEY = 0x01234567
"""RDMA_UDP_QKEY: the key of datagrams that rdma_cm sets up."""
MULTICAST_QPN = 0xFFFFFF
_TIMEOUT, _RNR_TIMER = 14, 0
_PSN_MASK = 0xFFFFFF


def device_of(ip: str) -> SimDevice:
    """The device with that address; raises PyverbsRDMAError (ENODEV)."""
    world = session.world()
    for name, interface in world.interfaces.items():
        if interface.ip == ip:
            return world.device(name)
    raise PyverbsRDMAError(f"No simulated device has the address {ip}", errno.ENODEV)


def group_of(ip: str) -> str:
    """The multicast GID of an IPv4 group on RoCE."""
    octets = [int(octet) for octet in ip.split(".")]
    return "ff0e:0000:0000:0000:0000:ffff:{:02x}{:02x}:{:02x}{:02x}".format(*octets)


@dataclass
class Datagrams:
    """What an event tells about whom to send datagrams to."""

    qp_num: int
    qkey: int
    dgid: str
    sgid_index: int


@dataclass
class Event:
    """Something that happened to an identifier."""

    kind: int
    ident: Ident
    private_data: bytes = b""
    ud: Datagrams | None = None


@dataclass
class Parameters:
    """Of a connection: what `ConnParam` says."""

    qp_num: int = 0
    responder_resources: int = 1
    initiator_depth: int = 1
    retry_count: int = 5
    rnr_retry_count: int = 5
    private_data: bytes = b""


@dataclass(eq=False)
class Ident:
    """An end of a connection, a listener, or a sender of datagrams."""

    events: deque[Event]
    port_space: int
    device: SimDevice | None = None
    qp: Any = None
    """The queue pair rdma_cm made, as the program sees it."""
    peer: Ident | None = None
    target: tuple[str, int] | None = None
    port: int = 0
    parameters: Parameters = field(default_factory=Parameters)
    timeout: int = _TIMEOUT
    listening: bool = False
    down: bool = False
    first_psn: int = field(default_factory=lambda: (session.world().number() << 8) & _PSN_MASK)

    @property
    def is_datagram(self) -> bool:
        """Whether it sends datagrams."""
        return self.port_space in (ce.RDMA_PS_UDP, ce.RDMA_PS_IPOIB)

    def tell(
        self, kind: int, private_data: bytes = b"", ud: Datagrams | None = None, ident: Ident | None = None
    ) -> None:
        """Queue an event."""
        self.events.append(Event(int(kind), ident or self, private_data, ud))

    def known_device(self) -> SimDevice:
        """Its device; raises PyverbsRDMAError while it is bound to none."""
        if self.device is None:
            raise PyverbsRDMAError("The CMID is bound to no device", errno.EINVAL)
        return self.device

    def _post(self, other: SimDevice) -> Post:
        """The way to another device, or to this one."""
        device = self.known_device()
        return Post(device.routes[other.gids[-1]], DATAGRAM_BYTES, RESPONSE_TIMEOUT_NS)

    def _send(self, arrived: Callable[..., None], *args: Any) -> None:
        assert self.peer is not None
        self._post(self.peer.known_device()).send(arrived, *args)

    # --- connecting -------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Take requests; raises PyverbsRDMAError (EADDRINUSE)."""
        listeners = session.world().listeners
        key = (None if self.device is None else self.device.name, self.port_space, self.port)
        if key in listeners:
            raise PyverbsRDMAError("Listen Failed", errno.EADDRINUSE)
        listeners[key] = self
        self.listening = True

    def connect(self, parameters: Parameters) -> None:
        """Send a request."""
        if self.target is None:
            raise PyverbsRDMAError("Failed to Connect", errno.EINVAL)
        self.parameters = parameters
        if self.qp is not None:
            parameters.qp_num = self.qp.qp_num
        target = device_of(self.target[0])
        self._post(target).send(self._requested, target)

    def _requested(self, target: SimDevice) -> None:
        assert self.target is not None
        listeners, where = session.world().listeners, (self.port_space, self.target[1])
        listener = listeners.get((target.name, *where)) or listeners.get((None, *where))
        if listener is None:
            Post(target.routes[self.known_device().gids[-1]], DATAGRAM_BYTES, RESPONSE_TIMEOUT_NS).send(
                self._rejected, b""
            )
            return
        child = Ident(listener.events, self.port_space, target, peer=self)
        self.peer = child
        child.tell(ce.RDMA_CM_EVENT_CONNECT_REQUEST, self.parameters.private_data, self._datagrams_of(self))

    def accept(self, parameters: Parameters) -> None:
        """Answer a request with a reply."""
        if self.peer is None:
            raise PyverbsRDMAError("Failed to Accept Connection", errno.EINVAL)
        self.parameters = parameters
        if self.qp is not None:
            parameters.qp_num = self.qp.qp_num
            if not self.is_datagram:
                self.move(self.qp)
        self._send(self.peer._replied)

    def _replied(self) -> None:
        if self.down:
            return
        assert self.peer is not None
        data = self.peer.parameters.private_data
        if self.is_datagram:
            self.tell(ce.RDMA_CM_EVENT_ESTABLISHED, data, self._datagrams_of(self.peer))
        elif self.qp is None:
            self.tell(ce.RDMA_CM_EVENT_CONNECT_RESPONSE, data)
        else:
            self.move(self.qp)
            self.tell(ce.RDMA_CM_EVENT_ESTABLISHED, data)
            self.establish()

    def establish(self) -> None:
        """Tell the peer that this end is ready to use."""
        if self.peer is None:
            raise PyverbsRDMAError("Failed to Complete an active connection request", errno.EINVAL)
        self._send(self.peer.tell, ce.RDMA_CM_EVENT_ESTABLISHED)

    def reject(self, private_data: bytes) -> None:
        """Turn a request down."""
        if self.peer is None:
            raise PyverbsRDMAError("Failed to Reject Connection", errno.EINVAL)
        self._send(self.peer._rejected, private_data)

    def _rejected(self, private_data: bytes) -> None:
        self.tell(ce.RDMA_CM_EVENT_REJECTED, private_data)

    def disconnect(self) -> None:
        """Take the connection down: both queue pairs enter ERR, both ends are told."""
        if self.peer is None:
            raise PyverbsRDMAError("Failed to Disconnect", errno.EINVAL)
        if not self.down:
            self._take_down()
            self._send(self.peer._disconnected)

    def _disconnected(self) -> None:
        if not self.down:
            self._take_down()
            self._send(self.peer._take_note)  # type: ignore[union-attr]
            self.tell(ce.RDMA_CM_EVENT_DISCONNECTED)

    def _take_note(self) -> None:
        self.tell(ce.RDMA_CM_EVENT_DISCONNECTED)

    def _take_down(self) -> None:
        self.down = True
        if self.qp is not None and not self.qp._closed:
            self.qp.sim.enter_error()

    def forget(self) -> None:
        """Its owner gives it up."""
        listeners = session.world().listeners
        for key in [key for key, ident in listeners.items() if ident is self]:
            del listeners[key]

    # --- queue pairs ------------------------------------------------------------------------------------------

    def _datagrams_of(self, whom: Ident) -> Datagrams:
        device = whom.known_device()
        number = whom.parameters.qp_num
        return Datagrams(number, UDP_QKEY, device.gids[-1], len(self.known_device().gids) - 1)

    def attributes(self, state: int) -> tuple[QPAttr, int]:
        """What a queue pair needs to come into that state, and which of it counts; man rdma_init_qp_attr(3)."""
        attr = QPAttr(qp_state=int(state))
        attr.qp_access_flags = 15  # all remote access, as the kernel grants when it has resources for reads
        at = {int(e.IBV_QPS_INIT): 0, int(e.IBV_QPS_RTR): 1, int(e.IBV_QPS_RTS): 2}.get(int(state))
        if at is None or (at and self.peer is None):
            raise PyverbsRDMAError("Failed to get QP attributes", errno.EINVAL)
        mask = int(STEPS[int(e.IBV_QPT_RC)][at] | e.IBV_QP_STATE)
        if at:
            assert self.peer is not None
            device, other = self.known_device(), self.peer.known_device()
            theirs, ours = self.peer.parameters, self.parameters
            route = GlobalRoute(GID(other.gids[-1]), sgid_index=len(device.gids) - 1)
            attr.ah_attr = AHAttr(is_global=1, gr=route)
            attr.path_mtu = PATH_MTUS[min(device.mtu, other.mtu)]
            attr.dest_qp_num = theirs.qp_num
            attr.rq_psn, attr.sq_psn = self.peer.first_psn, self.first_psn
            attr.max_dest_rd_atomic = ours.responder_resources
            attr.max_rd_atomic = ours.initiator_depth
            attr.min_rnr_timer = _RNR_TIMER
            attr.timeout = self.timeout
            attr.retry_cnt, attr.rnr_retry = ours.retry_count, ours.rnr_retry_count
        return attr, mask

    def move(self, qp: Any) -> None:
        """Bring a queue pair of this end to RTS."""
        for state in (e.IBV_QPS_RTR, e.IBV_QPS_RTS):
            qp.modify(*self.attributes(int(state)))

    # --- groups -----------------------------------------------------------------------------------------------

    def join(self, ip: str) -> None:
        """Have the queue pair receive what is sent to a group."""
        if self.qp is None:
            raise PyverbsRDMAError("Failed to Join multicast", errno.EINVAL)
        group = group_of(ip)
        self.qp.attach_mcast(group)
        ud = Datagrams(MULTICAST_QPN, UDP_QKEY, group, len(self.known_device().gids) - 1)
        self.tell(ce.RDMA_CM_EVENT_MULTICAST_JOIN, ud=ud)
