"""Queue pairs that promise nothing: unreliable datagrams (UD) and unreliable connections (UC).

A message is sent and forgotten; what of it gets lost, finds no receive, or may not be placed is dropped without a
word (IBA volume 1, 9.8.2 and 9.8.3). A datagram is received behind 40 bytes of its routing header.
"""

from __future__ import annotations

import errno
import struct
from typing import Any, cast

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.buffers import gather, scatter
from simmig.verbs.sim.burst import Burst
from simmig.verbs.sim.cq import WC
from simmig.verbs.sim.link import Direction
from simmig.verbs.sim.nic import SimDevice
from simmig.verbs.sim.parts import Adapter
from simmig.verbs.sim.qp import QP
from simmig.verbs.sim.qp_attr import QPAttr
from simmig.verbs.sim.qp_rules import UC, UD
from simmig.verbs.sim.responder import Responder
from simmig.verbs.sim.send_queue import SendQueue
from simmig.verbs.sim.waiting import LightEvent
from simmig.verbs.sim.windows import execute
from simmig.verbs.sim.work import ReceiveWork, SendWork
from simmig.verbs.sim.wr import Destination, SendWR

GRH_BYTES = 40
_WRITE, _WRITE_IMM = int(e.IBV_WR_RDMA_WRITE), int(e.IBV_WR_RDMA_WRITE_WITH_IMM)
_SEND, _SEND_IMM = int(e.IBV_WR_SEND), int(e.IBV_WR_SEND_WITH_IMM)
_LOCAL = (int(e.IBV_WR_BIND_MW), int(e.IBV_WR_LOCAL_INV))
_OPCODES = {UD: (_SEND, _SEND_IMM), UC: (_SEND, _SEND_IMM, _WRITE, _WRITE_IMM, *_LOCAL)}
_REMOTE_WRITE = int(e.IBV_ACCESS_REMOTE_WRITE)


class _Packets(Burst):
    """Some of a message's packets."""

    __slots__ = ("first", "work")

    def __init__(self, flow: Sender, work: SendWork, first: int, count: int, packet_bytes: int, last: int) -> None:
        super().__init__(flow, count, packet_bytes, last)
        self.work = work
        self.first = first


class Sender(SendQueue):
    """The sending half: a flow of the direction that its oldest message takes."""

    device: SimDevice
    stream_min_bytes = 1 << 62

    def __init__(self, qp: UnreliableQP) -> None:
        super().__init__(qp)
        self.mtu = qp.device.mtu
        self.max_reads = 0
        self.gid = ""
        self.sending = False
        self._connected: Direction | None = None
        self._current: Direction | None = None

    def route(self, direction: Direction, mtu: int, gid: str) -> None:
        """Where a connected one's packets go."""
        self._connected, self.mtu, self.gid = direction, mtu, gid

    def start(self, first_psn: int, *_: int) -> None:
        """Entering RTS."""
        self.next_psn = first_psn
        self.sending = True

    def retime(self, *_: int) -> None:
        """Nobody waits for an answer."""

    def post(self, work: SendWork) -> None:
        """Add a message; its own time to be sent comes when the host has posted it."""
        self.next_psn = work.end_psn
        self.pending.append(work)
        self._wake()

    def _wake(self, event: LightEvent | None = None) -> None:
        self._blocked = False
        if not self.pending or not self.sending or self.queued:
            return
        work = self.pending[0]
        if work.visible_ns > self.env._now:
            self._ring_at(work.visible_ns)
            return
        direction = self._direction_of(work)
        if direction is None:  # it reaches nobody; so must what was posted before it
            self._ring_at(cast(int, self.env._now), self._vanish)
        else:
            self._current = direction
            direction.activate(cast(Any, self))

    def _direction_of(self, work: SendWork) -> Direction | None:
        if self.qp.qp_type == UC or work.extra is None or not work.packets:
            return self._connected or next(iter(self.device.routes.values()), None)
        gid = cast("Destination", work.extra).address.dgid
        if _is_group(gid):
            return self.device.routes.get(self.device.gids[0]) or next(iter(self.device.routes.values()), None)
        return self.device.routes.get(str(gid))

    def _vanish(self, event: LightEvent) -> None:
        if self.pending and self.sending and not self.queued:
            self._sent(self.pending.popleft())
            self._wake()

    def _ring_at(self, at_ns: int, then: Any = None) -> None:
        event = LightEvent(then or self._wake)
        self.env.at(at_ns, event)

    # --- the flow ---------------------------------------------------------------------------------------------

    def next_burst(self, whole: bool) -> _Packets | None:
        """What is left of the oldest message, if it goes this way."""
        while self.pending and self.sending and not self.draining:
            work = self.pending[0]
            if work.visible_ns > self.env._now or self._direction_of(work) is not self._current:
                self._ring_at(max(work.visible_ns, cast(int, self.env._now)))
                return None
            if work.next == 0:
                status = self._prepare(work)
                if status:
                    self._fail(status)
                    return None
                if not work.packets:
                    self._sent(self.pending.popleft())
                    continue
            return self._packets(work, whole)
        return None

    def _packets(self, work: SendWork, whole: bool) -> _Packets:
        header = cast("Direction", self._current).spec.header_bytes
        count = work.packets - work.next if whole else 1
        last = self.mtu
        if work.next + count == work.packets:
            last = work.length - (work.packets - 1) * self.mtu
        work.started = True
        return _Packets(self, work, work.next, count, self.mtu + header, last + header)

    def _prepare(self, work: SendWork) -> int:
        """Take a snapshot of what is sent; returns the status to fail with, or 0."""
        if not work.packets:
            return execute(self.qp, work)
        limit = self.mtu if self.qp.qp_type == UD else self.device.profile.max_message_bytes
        if work.length > limit:
            return int(e.IBV_WC_LOC_LEN_ERR)
        if work.inline is None:
            work.inline = gather(self.qp, work.sg, 0, work.length)
        return int(e.IBV_WC_LOC_PROT_ERR) if work.inline is None else 0

    def turn(self) -> None:
        """What it sends goes packet by packet where others send, too."""

    def departed(self, burst: _Packets) -> bool:
        """The message is over for its sender when its last packet has left."""
        work = burst.work
        if not self.pending or self.pending[0] is not work:
            return bool(self.pending)
        work.next = burst.first + burst.count
        if work.next == work.packets:
            self.pending.popleft()
            if self.qp.qp_type == UD and _is_group(work.extra.address.dgid):
                self._send_to_others(work, burst)
            self._sent(work)
        return bool(self.pending)

    def _sent(self, work: SendWork) -> None:
        self._complete(work, 0)
        if self.draining:
            self._check_drained()

    def _send_to_others(self, work: SendWork, burst: _Packets) -> None:
        current = self._current
        for way in dict.fromkeys(self.device.routes.values()):
            if way is not current:
                way.transmit(burst.wire_bytes, deliver, way.target, self, work)

    def _fail(self, status: int) -> None:
        """The oldest message fails, and what is behind it is flushed."""
        if not self.device.profile.stops_only_sending:
            super()._fail(status)
            return
        self._complete(self.pending.popleft(), status)
        self.qp.enter_send_error()

    def resume(self) -> None:
        """RTS again, after SQD or SQE."""
        self.sending = True
        super().resume()

    def arrived(self, burst: _Packets) -> None:
        """A message of which every packet has come is delivered."""
        work = burst.work
        work.received += burst.count
        if burst.first + burst.count == work.packets == work.received:
            deliver(self._current.target if self._current else self.device, self, work)

    def lost(self, burst: _Packets) -> None:
        """Nobody hears of it."""


def _is_group(gid: str | None) -> bool:
    return gid is not None and gid.startswith("ff")


def deliver(device: Adapter, sender: Sender, work: SendWork) -> None:
    """A message has reached a device: to the queue pair it is for, or to all of a group."""
    if sender.qp.qp_type == UC:
        receivers = [device.qps.get(sender.qp.dest_qp_num)]
    elif _is_group(work.extra.address.dgid):
        receivers = [qp for qp in device.groups.get(work.extra.address.dgid, ()) if qp is not sender.qp]
    else:
        receivers = [device.qps.get(work.extra.qp_num)]
    for qp in receivers:
        if isinstance(qp, UnreliableQP) and qp.qp_type == sender.qp.qp_type:
            qp.responder.take(sender, work)


class Receiver(Responder):
    """The receiving half."""

    __slots__ = ()

    def start(self, direction: Direction | None, mtu: int, attr: QPAttr) -> None:
        """Entering RTR."""
        self.direction = direction
        self.mtu = mtu
        self.expected_psn = attr.rq_psn
        self._peer_gid = attr.ah_attr.dgid
        self.open = True

    def take(self, sender: Sender, work: SendWork) -> None:
        """A whole message: receive it, or drop it."""
        qp = cast("UnreliableQP", self.qp)
        if not self.open:
            return
        if qp.qp_type == UD:
            if work.extra.qkey == qp.qkey:
                self._receive_datagram(sender, work)
        elif sender.qp.qp_num == qp.dest_qp_num and sender.gid == self._peer_gid and sender.mtu == self.mtu:
            self._receive_message(work)

    def _receive_datagram(self, sender: Sender, work: SendWork) -> None:
        address = work.extra.address
        source = sender.device.gids[address.sgid_index or 0]
        header = routing_header(source, str(address.dgid), work.length)
        receive = self._next_receive(GRH_BYTES + work.length)
        if receive is None:
            return
        if not scatter(self.qp, receive.sg, 0, header + cast(bytes, work.inline)):
            self._done(receive, work, int(e.IBV_WC_LOC_PROT_ERR), 0, sender)
            self.qp.enter_error()
            return
        self._done(receive, work, 0, GRH_BYTES + work.length, sender)

    def _receive_message(self, work: SendWork) -> None:
        if work.opcode in (_WRITE, _WRITE_IMM):
            if work.opcode == _WRITE_IMM and not self._has_receive():
                return
            if work.length and not self._write(work):
                return
            if work.opcode == _WRITE:
                return
            receive: ReceiveWork | None = self._take_receive()
        else:
            receive = self._next_receive(work.length)
        if receive is None:
            return
        self._receive = None
        if work.opcode != _WRITE_IMM and not scatter(self.qp, receive.sg, 0, cast(bytes, work.inline)):
            self._done(receive, work, int(e.IBV_WC_LOC_PROT_ERR), 0, None)
            self.qp.enter_error()
            return
        self._done(receive, work, 0, work.length, None)

    def _write(self, work: SendWork) -> bool:
        mr = self.device.mrs.get(work.rkey)
        if (
            mr is None
            or mr.pd not in (self.qp.pd, self.qp)
            or not self.qp.access_flags & mr.access & _REMOTE_WRITE
        ):
            return False
        if work.remote_addr < mr.start or work.remote_addr + work.length > mr.end:
            return False
        mr.segment.dma_write(work.remote_addr - mr.segment_address, cast(bytes, work.inline))
        return True

    def _next_receive(self, length: int) -> ReceiveWork | None:
        """The receive that such a message goes to; None when there is none, or it is too short."""
        if not self._has_receive() or self.receives[0].length < length:
            return None
        receive = self._take_receive()
        self._receive = None
        return receive

    def _done(self, receive: ReceiveWork, work: SendWork, status: int, length: int, sender: Sender | None) -> None:
        is_write = work.opcode == _WRITE_IMM
        opcode = e.IBV_WC_RECV_RDMA_WITH_IMM if is_write else e.IBV_WC_RECV
        completion = WC(receive.wr_id, status, int(opcode), 0, length, self.qp.qp_num)
        queue = self.srq or self
        if self.slots_free_at_ack:
            queue.retired = receive.ordinal
        else:
            completion.queue = queue
        completion.retires = receive.ordinal
        if sender is not None:
            completion.src_qp = sender.qp_num
            completion.wc_flags = int(e.IBV_WC_GRH)
        if work.opcode in (_SEND_IMM, _WRITE_IMM):
            completion.imm_data = work.imm_data
            completion.wc_flags |= int(e.IBV_WC_WITH_IMM)
        self.qp.recv_cq.push(completion, bool(work.flags & e.IBV_SEND_SOLICITED))


def routing_header(source: str, destination: str, payload_bytes: int) -> bytes:
    """The 40 bytes before a datagram: its GRH, or between IPv4 addresses 20 of nothing and the IPv4 header."""
    ends = [bytes.fromhex(gid.replace(":", "")) for gid in (source, destination)]
    if all(end[:12] == bytes(10) + b"\xff\xff" for end in ends):
        length = 20 + 8 + 12 + 8 + payload_bytes + 4  # IPv4, UDP, BTH, DETH, ICRC
        return (
            bytes(20)
            + struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0x4000, 64, 17, 0)
            + ends[0][12:]
            + ends[1][12:]
        )
    return struct.pack("!IHBB", 6 << 28, 12 + 8 + payload_bytes + 4, 0x1B, 1) + ends[0] + ends[1]


class UnreliableQP(QP):
    """A queue pair of either kind."""

    transports = (UD, UC)

    def _make_halves(self) -> None:
        self.requester: Any = Sender(self)
        self.responder: Any = Receiver(self)

    @property
    def qkey(self) -> int:
        """The key that a datagram must carry."""
        return int(self._attr.qkey)

    def post_send(self, wr: SendWR, bad_wr: SendWR | None = None) -> None:
        """Post a message and those linked behind it."""
        self._post_sends(wr, bad_wr)

    def _refusal(self, wr: SendWR, sges: int, length: int) -> int:
        if wr.opcode not in _OPCODES[self.qp_type] or (self.qp_type == UD and wr.extra is None):
            return errno.EINVAL
        return super()._refusal(wr, sges, length)

    def _ready_to_receive(self) -> None:
        if self.qp_type == UC:
            super()._ready_to_receive()
        else:
            self.responder.start(None, self.device.mtu, self._attr)

    def join(self, group: str) -> None:
        """Receive what is sent to that multicast address (man ibv_attach_mcast(3))."""
        members = self.device.groups.setdefault(group, [])
        if self not in members:
            members.append(self)

    def leave(self, group: str) -> None:
        """No longer."""
        members = self.device.groups.get(group, [])
        if self in members:
            members.remove(self)

    def close(self) -> None:
        """Destroy it; it leaves its groups."""
        for group in list(self.device.groups):
            self.leave(group)
        super().close()


QP.of_transport |= dict.fromkeys(UnreliableQP.transports, UnreliableQP)
