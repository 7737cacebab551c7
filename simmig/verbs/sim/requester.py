"""The sending half of a queue pair: a flow of its direction."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush

from simpy.events import NORMAL

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.buffers import gather, may_scatter, scatter
from simmig.verbs.sim.link import Direction
from simmig.verbs.sim.memory import Payload
from simmig.verbs.sim.parts import TAKEN, Answer, QueuePair
from simmig.verbs.sim.recovery import RecoveringQueue
from simmig.verbs.sim.responses import ResponseBurst
from simmig.verbs.sim.waiting import LightEvent
from simmig.verbs.sim.windows import execute
from simmig.verbs.sim.work import (
    ACK,
    NAK_INVALID_REQUEST,
    NAK_REMOTE_ACCESS,
    NAK_REMOTE_OPERATION,
    NAK_RNR,
    NAK_SEQUENCE,
    PSN_HALF,
    PSN_MASK,
    RequestBurst,
    SendWork,
)

_NO_WINDOW = PSN_HALF
_NEVER_BYTES = 1 << 62
_FENCE = int(e.IBV_SEND_FENCE)
_READ_REQUEST_BYTES = 16  # the RDMA extended header: a read request has no payload

_ERRORS = {
    NAK_INVALID_REQUEST: e.IBV_WC_REM_INV_REQ_ERR,
    NAK_REMOTE_ACCESS: e.IBV_WC_REM_ACCESS_ERR,
    NAK_REMOTE_OPERATION: e.IBV_WC_REM_OP_ERR,
}


class Requester(RecoveringQueue):
    """Sends the queue's work requests and hears the answers."""

    __slots__ = (
        "_doorbell_ns",
        "_max_message_bytes",
        "_mrs",
        "answering",
        "gid",
        "header_bytes",
        "max_reads",
        "mtu",
        "packet_bytes",
        "stream_min_bytes",
        "window",
    )

    def __init__(self, qp: QueuePair) -> None:
        super().__init__(qp)
        self._mrs = qp.device.mrs
        self._max_message_bytes = qp.device.profile.max_message_bytes
        self.gid = ""
        self.mtu = 1
        self.header_bytes = 0
        self.packet_bytes = 0
        self.window = _NO_WINDOW
        self.max_reads = 0
        self.stream_min_bytes = _NEVER_BYTES
        self._doorbell_ns = -1
        self.answering: tuple[Callable[[RequestBurst], None]] = (self.answered,)

    def route(self, direction: Direction, mtu: int, gid: str) -> None:
        """Entering RTR: where packets go, how large they are, and what source address they carry."""
        self.direction = direction
        self.gid = gid
        self.mtu = mtu
        self.header_bytes = direction.spec.header_bytes
        self.packet_bytes = mtu + self.header_bytes
        window = self.device.profile.window_packets
        packet_ns = direction.wire_ns(self.packet_bytes)
        round_trip_ns = direction.latency_ns + direction.reverse.latency_ns
        # A window that the link cannot fill anyway never holds anything back: then do not count packets.
        self.window = window if packet_ns + round_trip_ns > window * packet_ns else _NO_WINDOW
        if self.window == _NO_WINDOW and not direction.spec.loss and not direction.reverse.spec.loss:
            self.stream_min_bytes = direction.bytes_in(max(direction.latency_ns, direction.reverse.latency_ns)) + 1

    def start(self, first_psn: int, timeout: int, retry_count: int, rnr_retry_count: int, max_reads: int) -> None:
        """Entering RTS for the first time. Timeouts as R37 and R38 count them."""
        self.next_psn = self.acked = first_psn & PSN_MASK
        self.retime(timeout, retry_count, rnr_retry_count)
        self.max_reads = max_reads
        self.sending = True

    # --- the flow ---------------------------------------------------------------------------------------------

    def next_burst(self, whole: bool) -> RequestBurst | Answer | None:  # noqa: PLR0911  (a reason each)
        """Packets of the oldest work request not sent: all of them, or one."""
        pending = self.pending
        if not pending or self._paused or not self.sending:
            return None
        work = pending[0]
        if work.visible_ns > self.env._now:
            self._ring_at(work.visible_ns)
            return None
        first = work.next
        if first == 0:
            if (work.is_read or self.draining or work.flags & _FENCE) and not self._may_start(work):
                self._blocked = True
                return None
            if not work.packets:
                return self.next_burst(whole) if self._do_locally(work) else None
            if whole and work.streamable and self._begin_stream(work):
                return TAKEN
        count = work.packets - first
        if self.window != _NO_WINDOW:
            if self.window <= (work.psn + first - self.acked) & PSN_MASK < PSN_HALF:
                self._blocked = True
                return None
            count = 1
        elif not whole:
            count = 1
        return self.burst(work, first, count)

    def departed(self, burst: RequestBurst) -> bool:
        """Go on behind it, unless the queue has gone back meanwhile."""
        work = burst.work
        pending = self.pending
        if not pending or pending[0] is not work or work.next != burst.first:
            return bool(pending)
        work.next = work.packets if work.is_read else burst.first + burst.count
        work.sent_ns = self.env._now
        if work.next == work.packets:
            pending.popleft()
            self.unacked.append(work)
            if work.is_read:
                self._reads += 1
        if self._impatient:
            self.set_timer()
        return bool(pending)

    def arrived(self, burst: RequestBurst) -> None:
        """Hand it to the queue pair it is for, if the device has it."""
        peer = self.direction.target.qps.get(self.qp.dest_qp_num)
        if peer is None:
            self.lost(burst)
        else:
            peer.responder.receive(burst)

    def lost(self, burst: RequestBurst) -> None:
        """It or its answer does not arrive: the ack timer will tell."""
        self.set_timer()

    def burst(self, work: SendWork, first: int, count: int) -> RequestBurst | None:
        """Those packets, with what the source memory holds now; None when the work request cannot be executed."""
        mtu = self.mtu
        start = first * mtu
        is_last = first + count == work.packets
        length = work.length - start if is_last else count * mtu
        if work.length > self._max_message_bytes:
            self._local_error(e.IBV_WC_LOC_LEN_ERR)
            return None
        payload = self._payload(work, start, length)
        if payload is None:
            self._local_error(self._protection_status(work))
            return None
        if work.is_read:
            count = 1
            last_bytes = _READ_REQUEST_BYTES
        else:
            last_bytes = length - (count - 1) * mtu
        work.started = True
        psn = (work.psn + first) & PSN_MASK
        size = self.packet_bytes
        return RequestBurst(self, work, first, psn, count, size, last_bytes + self.header_bytes, payload)

    def _protection_status(self, work: SendWork) -> int:
        """LOC_PROT_ERR (R33); soft-RoCE has another word where the key itself is bad."""
        known = all(
            mr is not None and mr.pd is self.qp.pd
            for mr in (self.device.mrs.get(lkey) for _, size, lkey in work.sg if size)
        )
        return int(e.IBV_WC_LOC_PROT_ERR) if known or work.is_read else self.device.profile.bad_key_status

    def _payload(self, work: SendWork, start: int, length: int) -> Payload | None:
        """What the source memory holds now; None when it must not be read (for a read: written to) (R33)."""
        if work.inline is not None:
            return work.inline[start : start + length]
        sg = work.sg
        if work.is_read:
            return b"" if may_scatter(self.qp, sg) else None
        if len(sg) != 1 or not length:
            return gather(self.qp, sg, start, length)
        address, size, lkey = sg[0]
        mr = self._mrs.get(lkey)
        if mr is None or mr.pd is not self.qp.pd or address < mr.start or address + size > mr.end:
            return None
        return mr.segment.dma_read(address + start - mr.segment_address, length)

    def _do_locally(self, work: SendWork) -> bool:
        """Execute what no packet is needed for, in its turn; False when it failed, or waits to."""
        if work.result is None:
            status = execute(self.qp, work)
            if status:
                self._local_error(status)
                return False
            work.result = b""
        self.unacked.append(self.pending.popleft())
        self._retire()
        return True

    def _may_start(self, work: SendWork) -> bool:
        if self.draining:
            return work.started
        if work.flags & _FENCE and self._reads:  # R15
            return False
        if not work.is_read:
            return True
        if self.max_reads == 0:
            self._local_error(e.IBV_WC_LOC_QP_OP_ERR)
            return False
        return self._reads < self.max_reads  # R44

    def _local_error(self, status: int) -> None:
        """Fail the head of the queue, once everything before it has completed (R16)."""
        if self.unacked:
            self._blocked = True
        else:
            self._fail(status)

    def _ring_at(self, at_ns: int) -> None:
        if self._doorbell_ns != at_ns:
            self._doorbell_ns = at_ns
            env = self.env
            heappush(env.heap, (at_ns, NORMAL, env.number(), LightEvent(self._wake)))

    # --- answers ----------------------------------------------------------------------------------------------

    def answered(self, burst: RequestBurst) -> None:
        """An answer has come, or was lost at the last moment."""
        if not self.sending or not self.device.host.alive:
            return
        back = self.direction.reverse
        if back.link.cut_ns >= self.env._now - back.latency_ns:
            self.lost(burst)
            return
        syndrome = burst.syndrome
        self.acknowledge(burst.answer_psn, syndrome == ACK)
        if syndrome == ACK:
            return
        if syndrome == NAK_SEQUENCE:
            self._retry()
        elif syndrome == NAK_RNR:
            self._not_ready(burst.rnr_ns)
        else:
            self._fail(_ERRORS[syndrome])

    def acknowledge(self, psn: int, positive: bool) -> None:
        """Everything before that packet has been received."""
        gain = (psn - self.acked) & PSN_MASK
        old = gain >= PSN_HALF or gain > (self.next_psn - self.acked) & PSN_MASK  # or to packets never sent
        if old:
            self.set_timer()  # it has not answered what waits for an answer
        elif gain or positive:
            self.acked = psn
            self.progress_ns = self.env._now
            self.retries_left = self.retry_count
            self.rnr_retries_left = self.rnr_retry_count
        self._retire()

    def forgive(self) -> None:
        """An acknowledgement has come: earlier retries do not count any more (R42)."""
        self.retries_left = self.retry_count
        self.rnr_retries_left = self.rnr_retry_count

    def read_response(self, burst: ResponseBurst) -> None:
        """Response packets of a read have come: put them into its buffers."""
        work = burst.request.work
        if not self.sending or work.received >= work.packets or work not in self.unacked:
            return
        if burst.mtu != self.mtu and work.length > min(burst.mtu, self.mtu):
            self._take_odd_response(work, burst)
            return
        if burst.first != work.received:
            if burst.first > work.received and not work.gap_seen:
                work.gap_seen = True
                self._retry()
            return
        work.gap_seen = False
        work.received += burst.count
        if not scatter(self.qp, work.sg, burst.first * self.mtu, burst.payload):
            self._fail(e.IBV_WC_LOC_PROT_ERR)
            return
        self.acknowledge((work.psn + work.received) & PSN_MASK, True)

    def _take_odd_response(self, work: SendWork, burst: ResponseBurst) -> None:
        """Response packets cut to another path MTU than this side's.

        They have not the length they should: LOC_LEN_ERR, as in Linux' hfi1 (rc.c, ack_len_err). Soft-RoCE looks
        at packet numbers alone (rxe_comp.c, check_psn): more than it reckons with are taken for a loss, for
        ever, and fewer will do if the last one is among them.
        """
        if self.device.profile.checks_read_response_length:
            self._fail(e.IBV_WC_LOC_LEN_ERR)
        elif burst.mtu < self.mtu:
            if burst.first == 0:
                self._retry()
        elif not scatter(self.qp, work.sg, burst.first * burst.mtu, burst.payload):
            self._fail(e.IBV_WC_LOC_PROT_ERR)
        elif (burst.first + burst.count) * burst.mtu >= work.length:
            work.received = work.packets
            self.acknowledge(work.end_psn, True)

    # --- the stream, and turns --------------------------------------------------------------------------------

    def turn(self) -> RequestBurst | None:
        """What is left of the oldest work request, if it is a write that needs no closer look than its keys."""
        pending = self.pending
        if not pending or self._paused or not self.sending or self.draining or self._impatient or self._reads:
            return None
        work = pending[0]
        if self.window != _NO_WINDOW or not work.is_plain or work.visible_ns > self.env._now:
            return None
        direction = self.direction
        peer = direction.target.qps.get(self.qp.dest_qp_num)
        if peer is None or not direction.target.host.alive or not peer.responder.takes_streams(self):
            return None
        mr = direction.target.mrs.get(work.rkey)
        start, end = work.remote_addr, work.remote_addr + work.length
        if mr is None or mr.remote_pd is not peer.pd or start < mr.start or end > mr.end:
            return None
        first = work.next
        done = first * self.mtu
        payload = self._payload(work, done, work.length - done)
        if payload is None or work.length > self._max_message_bytes:
            return None
        work.started = True
        last_bytes = work.length - (work.packets - 1) * self.mtu + self.header_bytes
        psn = (work.psn + first) & PSN_MASK
        return RequestBurst(self, work, first, psn, work.packets - first, self.packet_bytes, last_bytes, payload)

    def _begin_stream(self, work: SendWork) -> bool:
        """Take the direction over for a stream, where there are such (`stream.py`)."""
        return False

    def whole_burst(self, work: SendWork, payload: Payload) -> RequestBurst:
        """A streamable write as a burst."""
        work.started = True
        last_bytes = work.length - (work.packets - 1) * self.mtu + self.header_bytes
        return RequestBurst(self, work, 0, work.psn, work.packets, self.packet_bytes, last_bytes, payload)
