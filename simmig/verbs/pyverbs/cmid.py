"""rdma_cm (module pyverbs.cmid): identifiers, events, what they are told."""

from __future__ import annotations

import errno
from collections import deque
from typing import Any

from simmig.verbs.pyverbs import cm_enums as ce
from simmig.verbs.pyverbs import enums as e
from simmig.verbs.pyverbs import session
from simmig.verbs.pyverbs.addr import AH, AHAttr
from simmig.verbs.pyverbs.base import (
    PyverbsObject,
    PyverbsRDMAError,
    PyverbsUserError,
    Resource,
    WeakSet,
    close_all,
    only,
)
from simmig.verbs.pyverbs.cm_parameters import AddrInfo, ConnParam, JoinMCAttrEx
from simmig.verbs.pyverbs.cq import CQ, WC
from simmig.verbs.pyverbs.device import Context
from simmig.verbs.pyverbs.mr import MR
from simmig.verbs.pyverbs.pd import PD
from simmig.verbs.pyverbs.qp import ECE, QP, QPAttr, QPInitAttr
from simmig.verbs.pyverbs.rdmacm import UDP_QKEY, Event, Ident, device_of, group_of
from simmig.verbs.pyverbs.wr import SGE, RecvWR, SendWR


class CMEventChannel(Resource):
    """Where events arrive."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self._closed = False

    def close(self) -> None:
        """Destroy it."""
        self._closed = True


class CMEvent(Resource):
    """The next event of a channel, waited for."""

    def __init__(self, channel: CMEventChannel) -> None:
        events = only(channel, CMEventChannel, "channel").events
        session.world().wait(lambda: events, "Failed to create CMEvent")
        self.event: Event = events.popleft()
        self._closed = False

    @property
    def event_type(self) -> int:
        """What happened."""
        return self.event.kind

    @property
    def private_data(self) -> bytes:
        """What the peer had to say."""
        return self.event.private_data

    def event_str(self) -> str:
        """The event's name."""
        return str(ce.rdma_cm_event_type(self.event.kind).name)

    def ack_cm_event(self) -> None:
        """Give it back."""
        self._closed = True

    def close(self) -> None:
        """Give it back."""
        self._closed = True

    def datagrams(self) -> Any:
        """Whom it says to send datagrams to."""
        return self.event.ud


class UDParam(PyverbsObject):
    """Whom an event says to send datagrams to."""

    def __init__(self, cm_event: CMEvent) -> None:
        known = cm_event.datagrams()
        if known is None:
            raise PyverbsUserError("the event is not about datagrams")
        self.qp_num: int = known.qp_num
        self.qkey: int = known.qkey
        self.dgid: str = known.dgid
        self.sgid_index: int = known.sgid_index

    @property
    def ah_attr(self) -> AHAttr:
        """Their address."""
        attr = AHAttr()
        attr.init_from_ud_param(self)
        return attr


class CMID(Resource):
    """An identifier: of AddrInfo (its calls wait), of a CMEventChannel (events tell), of a request's event."""

    def __init__(
        self,
        creator: Any = None,
        qp_init_attr: QPInitAttr | None = None,
        pd: PD | None = None,
        port_space: int = ce.RDMA_PS_TCP,
        listen_id: CMID | None = None,
    ) -> None:
        self._mrs: WeakSet[MR] = WeakSet()
        self._ctx: Context | None = None
        self._pd = pd
        self._channel: CMEventChannel | None = None
        self._init_attr = qp_init_attr
        self._qp: QP | None = None
        if isinstance(creator, AddrInfo):
            self.ident = Ident(deque(), creator.port_space)
            if creator.flags & ce.RAI_PASSIVE:
                self._bind(creator)
            else:
                self._resolve(creator)
                self._make_endpoint()
        elif isinstance(creator, CMEventChannel):
            self._channel = creator
            self.ident = Ident(creator.events, int(port_space))
        elif isinstance(creator, CMEvent):
            if listen_id is None:
                raise PyverbsUserError("listen ID not provided")
            self.ident = creator.event.ident
            self._channel = listen_id._channel
            self._ctx, self._pd = listen_id._ctx, listen_id._pd
        elif isinstance(creator, Ident):
            self.ident = creator
            self._make_endpoint()
        else:
            raise PyverbsRDMAError(f"Cannot create CM ID from {type(creator)}", errno.EINVAL)
        self._closed = False

    @property
    def sim_device(self) -> Any:
        """The device it is bound to."""
        return self.ident.known_device()

    @property
    def dev_name(self) -> str:
        """That device's name."""
        return str(self.ident.known_device().name)

    @property
    def port_num(self) -> int:
        """1 when it is bound to a device."""
        return int(self.ident.device is not None)

    @property
    def event_channel(self) -> CMEventChannel | None:
        """Where its events arrive; None when its calls wait."""
        return self._channel

    @property
    def context(self) -> Context | None:
        """The device, open."""
        return self._ctx

    @property
    def pd(self) -> PD | None:
        """Its domain."""
        return self._pd

    @property
    def qpn(self) -> int | None:
        """Its queue pair's number."""
        return None if self._qp is None else self._qp.qp_num

    def add_mr(self, mr: MR) -> None:
        """A region was registered through it."""
        self._mrs.add(mr)

    def _bind(self, info: AddrInfo) -> None:
        if info.src is not None:
            self.ident.device = device_of(info.src)
        self.ident.port = info.src_port

    def _resolve(self, info: AddrInfo) -> None:
        if info.dst is None:
            raise PyverbsRDMAError("Failed to Resolve Address", errno.EINVAL)
        is_group = 224 <= int(info.dst.split(".")[0]) < 240
        if info.src is None and is_group and self.ident.device is None:
            raise PyverbsRDMAError("Failed to Resolve Address", errno.ENODEV)
        target = None if is_group else device_of(info.dst)
        if info.src is not None:
            self.ident.device = device_of(info.src)
        elif self.ident.device is None:
            others = [d for d in session.world().fabric.devices.values() if d is not target]
            self.ident.device = others[0] if others else target
        self.ident.target = (info.dst, info.dst_port)

    def _open(self) -> None:
        if self._ctx is None:
            self._ctx = Context(cmid=self)
        if self._pd is None:
            self._pd = PD(self)

    def _make_endpoint(self) -> None:
        """Context, domain and queue pair, of the kind that goes with the port space (man rdma_create_ep(3))."""
        self._open()
        if self._init_attr is not None:
            self._init_attr.qp_type = int(e.IBV_QPT_UD if self.ident.is_datagram else e.IBV_QPT_RC)
            self._make_qp(self._init_attr)

    def _make_qp(self, init: QPInitAttr) -> None:
        assert self._ctx is not None
        depth = max(init.max_send_wr, 1), max(init.max_recv_wr, 1)
        for name, size in zip(("send_cq", "recv_cq"), depth, strict=True):
            if getattr(init, name) is None:
                setattr(init, name, CQ(self._ctx, size))
        attr = QPAttr()
        attr.qkey = UDP_QKEY
        attr.qp_access_flags = 15
        self._qp = self.ident.qp = QP(self._pd, init, attr)
        init.send_cq = init.recv_cq = None

    def _next(self, kind: int, what: str) -> Event:
        """For calls that wait: the next event, which must be that one."""
        events = self.ident.events
        session.world().wait(lambda: events, what)
        event = events.popleft()
        if event.kind != kind:
            refused = event.kind == ce.RDMA_CM_EVENT_REJECTED
            raise PyverbsRDMAError(what, errno.ECONNREFUSED if refused else errno.EINVAL)
        return event

    def bind_addr(self, lai: AddrInfo) -> None:
        """Bind it to the device with that address."""
        self._bind(lai)
        if self.ident.device is not None:
            self._open()

    def resolve_addr(self, rai: AddrInfo, timeout_ms: int = 2000) -> None:
        """Find the peer's address."""
        self._resolve(rai)
        self.ident.tell(ce.RDMA_CM_EVENT_ADDR_RESOLVED)

    def resolve_route(self, timeout_ms: int = 2000) -> None:
        """Find the way to it."""
        if self.ident.target is None:
            raise PyverbsRDMAError("Failed to Resolve Route", errno.EINVAL)
        self.ident.tell(ce.RDMA_CM_EVENT_ROUTE_RESOLVED)
        self._open()

    def listen(self, backlog: int = 0) -> None:
        """Take requests."""
        self.ident.listen()

    def get_request(self) -> CMID:
        """Wait for a request; returns its end of the connection."""
        event = self._next(ce.RDMA_CM_EVENT_CONNECT_REQUEST, "Failed to get request, no connection established")
        child = event.ident
        child.events = deque()
        return CMID(child, self._init_attr)

    def connect(self, param: ConnParam | None = None) -> None:
        """Ask the peer to connect; without a channel, wait until it has accepted."""
        self.ident.connect((param or ConnParam()).parameters())
        if self._channel is None:
            self._next(ce.RDMA_CM_EVENT_ESTABLISHED, "Failed to Connect")

    def accept(self, param: ConnParam | None = None) -> None:
        """Accept a request; without a channel, wait until the peer is ready."""
        self.ident.accept((param or ConnParam()).parameters())
        if self._channel is None:
            self._next(ce.RDMA_CM_EVENT_ESTABLISHED, "Failed to Accept Connection")

    def reject(self, private_data: bytes | None = None) -> None:
        """Turn a request down."""
        self.ident.reject(private_data or b"")

    def establish(self) -> None:
        """Complete a connection of a queue pair that rdma_cm did not make."""
        self.ident.establish()

    def disconnect(self) -> None:
        """Take the connection down."""
        self.ident.disconnect()

    def join_multicast(
        self, addr: AddrInfo | None = None, mc_attr: JoinMCAttrEx | None = None, context: int = 0
    ) -> None:
        """Join a group."""
        if addr is None and mc_attr is None:
            raise PyverbsUserError("Join to multicast must have AddrInfo or JoinMCAttrEx arguments")
        where = mc_attr.addr if mc_attr is not None else addr
        assert where is not None
        self.ident.join(str(where.src))

    def leave_multicast(self, addr: AddrInfo) -> None:
        """Leave it."""
        if self._qp is not None:
            self._qp.detach_mcast(group_of(str(addr.src)))

    def set_local_ece(self, ece: ECE) -> None:
        """Options of the connection: none are passed on."""

    def get_remote_ece(self) -> ECE:
        """The peer's: none."""
        return ECE()

    def create_qp(self, qp_init: QPInitAttr) -> None:
        """Make its queue pair, and CQs if there are none."""
        if self._qp is not None:
            raise PyverbsRDMAError("Failed to Create QP", errno.EINVAL)
        self._open()
        self._make_qp(only(qp_init, QPInitAttr, "qp_init"))

    def query_qp(self, attr_mask: int) -> tuple[QPAttr, QPInitAttr]:
        """Ask its queue pair."""
        return self._known_qp().query(attr_mask)

    def init_qp_attr(self, qp_state: int) -> tuple[QPAttr, int]:
        """What a queue pair that rdma_cm did not make needs to come into that state."""
        return self.ident.attributes(int(qp_state))

    def set_option(self, level: int, optname: int, optval: int, optlen: int) -> None:
        """Set the acknowledgement timeout's exponent."""
        if optname != ce.RDMA_OPTION_ID_ACK_TIMEOUT:
            raise PyverbsUserError("Currently only RDMA_OPTION_ID_ACK_TIMEOUT is supported in Pyverbs.")
        self.ident.timeout = int(optval) & 31

    def reg_msgs(self, size: int) -> MR:
        """A region for messages."""
        return MR(self, size, e.IBV_ACCESS_LOCAL_WRITE)

    def reg_read(self, size: int = 0) -> MR:
        """A region that the peer may read."""
        return MR(self, size, e.IBV_ACCESS_REMOTE_READ)

    def reg_write(self, size: int = 0) -> MR:
        """A region that the peer may write."""
        return MR(self, size, e.IBV_ACCESS_REMOTE_WRITE)

    def _known_qp(self) -> QP:
        if self._qp is None:
            raise PyverbsRDMAError("The CMID has no queue pair", errno.EINVAL)
        return self._qp

    def post_recv(self, mr: MR, length: int | None = None) -> None:
        """Post a receive."""
        self._known_qp().post_recv(RecvWR(0, 1, [SGE(mr.buf, length or mr.length, mr.lkey)]))

    def _send(self, opcode: int, mr: MR, length: int | None, flags: int, wr_id: int = 0) -> SendWR:
        return SendWR(wr_id, opcode, 1, 0, [SGE(mr.buf, length or mr.length, mr.lkey)], int(flags))

    def post_send(self, mr: MR, flags: int = e.IBV_SEND_SIGNALED, length: int | None = None) -> None:
        """Post a send."""
        self._known_qp().post_send(self._send(e.IBV_WR_SEND, mr, length, flags))

    def post_read(self, mr: MR, length: int, remote_addr: int, rkey: int, flags: int = 0) -> None:
        """Post a read."""
        wr = self._send(e.IBV_WR_RDMA_READ, mr, length, flags)
        wr.set_wr_rdma(rkey, remote_addr)
        self._known_qp().post_send(wr)

    def post_write(self, mr: MR, length: int, remote_addr: int, rkey: int, flags: int = 0) -> None:
        """Post a write."""
        wr = self._send(e.IBV_WR_RDMA_WRITE, mr, length, flags)
        wr.set_wr_rdma(rkey, remote_addr)
        self._known_qp().post_send(wr)

    def post_ud_send(
        self,
        mr: MR,
        ah: AH,
        rqpn: int = 0,
        flags: int = e.IBV_SEND_SIGNALED,
        length: int | None = None,
    ) -> None:
        """Post a datagram."""
        wr = self._send(e.IBV_WR_SEND, mr, length, flags)
        wr.set_wr_ud(ah, rqpn, UDP_QKEY)
        self._known_qp().post_send(wr)

    def get_recv_comp(self) -> WC:
        """Wait for a receive's completion."""
        return self._completion(1)

    def get_send_comp(self) -> WC:
        """Wait for a send's completion."""
        return self._completion(0)

    def _completion(self, which: int) -> WC:
        cq = self._known_qp().init_attr_cqs[which]
        session.world().wait(lambda: cq.sim.entries, "Failed to retrieve completion")
        return WC.of(cq.sim.take(1)[0])

    def close(self) -> None:
        """Destroy it, and what it made."""
        if self._closed:
            return
        self._closed = True
        close_all(self._mrs)
        if self._qp is not None:
            self._qp.close()
        self.ident.forget()
        self._ctx = self._pd = None


__all__ = [
    "CMID",
    "AddrInfo",
    "CMEvent",
    "CMEventChannel",
    "ConnParam",
    "JoinMCAttrEx",
    "UDParam",
]
