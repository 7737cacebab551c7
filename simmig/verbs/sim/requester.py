"""The sending half of a queue pair: send queue, packets, acknowledgements, retries.

Work requests wait in `pending` until their last packet has left, then in `unacked` until they are acknowledged (a
read: until its data is there). Going back N moves them from the one to the other again. Nothing is timed as long
as nothing is lost: only where a packet or its answer is known not to arrive is the timer set, for the moment at
which a device's timer would fire.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from simpy.events import NORMAL

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.buffers import gather, may_scatter, scatter
from simmig.verbs.sim.cq import WC
from simmig.verbs.sim.memory import Payload
from simmig.verbs.sim.waiting import LightEvent
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

if TYPE_CHECKING:
    from simmig.verbs.sim.link import Direction
    from simmig.verbs.sim.qp import QP
    from simmig.verbs.sim.responder import ResponseBurst

_INFINITE = 7
_TIMEOUT_UNIT_NS = 4096
_NO_WINDOW = PSN_HALF

_ERRORS = {
    NAK_INVALID_REQUEST: e.IBV_WC_REM_INV_REQ_ERR,
    NAK_REMOTE_ACCESS: e.IBV_WC_REM_ACCESS_ERR,
    NAK_REMOTE_OPERATION: e.IBV_WC_REM_OP_ERR,
}
_COMPLETION_OPCODES = {
    int(e.IBV_WR_RDMA_WRITE): int(e.IBV_WC_RDMA_WRITE),
    int(e.IBV_WR_RDMA_WRITE_WITH_IMM): int(e.IBV_WC_RDMA_WRITE),
    int(e.IBV_WR_SEND): int(e.IBV_WC_SEND),
    int(e.IBV_WR_SEND_WITH_IMM): int(e.IBV_WC_SEND),
    int(e.IBV_WR_RDMA_READ): int(e.IBV_WC_RDMA_READ),
}
_READ_REQUEST_BYTES = 16  # the RDMA extended header: a read request has no payload


class Requester:
    """A queue pair's send queue and what it does on the wire: a flow of its direction."""

    __slots__ = (
        "_blocked",
        "_doorbell_ns",
        "_impatient",
        "_paused",
        "_pending",
        "_progress_ns",
        "_reads",
        "_retries_left",
        "_rnr_retries_left",
        "_timer",
        "_unacked",
        "acked",
        "answering",
        "device",
        "direction",
        "draining",
        "env",
        "header_bytes",
        "max_reads",
        "mtu",
        "next_psn",
        "packet_bytes",
        "posted",
        "qp",
        "qp_num",
        "queued",
        "retired",
        "retry_count",
        "rnr_retry_count",
        "sending",
        "slots_free_at_ack",
        "timeout_ns",
        "window",
    )

    def __init__(self, qp: QP) -> None:
        self.qp = qp
        self.qp_num = qp.qp_num
        self.device = qp.device
        self.env = qp.device.host.env
        self.slots_free_at_ack = qp.device.profile.slots_free_at_ack
        self.direction: Direction | None = None
        self.mtu = 0
        self.header_bytes = 0
        self.packet_bytes = 0
        self.window = _NO_WINDOW
        self.timeout_ns = 0
        self.retry_count = 0
        self.rnr_retry_count = 0
        self.max_reads = 0
        self.posted = 0
        self.retired = 0
        self.next_psn = 0
        self.acked = 0
        self.queued = False
        self.sending = False
        self.draining = False
        self._pending: deque[SendWork] = deque()
        self._unacked: deque[SendWork] = deque()
        self._reads = 0  # among the unacked
        self._blocked = False  # the head of `pending` waits for something unacked
        self._paused = False  # by an RNR NAK
        self._doorbell_ns = -1
        self._impatient = False  # the ack timer is shorter than the round trip
        self._timer: LightEvent | None = None
        self._progress_ns = 0
        self._retries_left = 0
        self._rnr_retries_left = 0
        self.answering = (self._answered,)

    # --- what the queue pair asks for -------------------------------------------------------------------------

    def route(self, direction: Direction, mtu: int) -> None:
        """Entering RTR: where packets go and how large they are."""
        self.direction = direction
        self.mtu = mtu
        self.header_bytes = direction.spec.header_bytes
        self.packet_bytes = mtu + self.header_bytes
        window = self.device.profile.window_packets
        packet_ns = direction.wire_ns(self.packet_bytes)
        round_trip_ns = direction.latency_ns + direction.reverse.latency_ns
        # A window that the link cannot fill anyway never holds anything back: then do not count packets.
        self.window = window if packet_ns + round_trip_ns > window * packet_ns else _NO_WINDOW

    def start(self, first_psn: int, timeout: int, retry_count: int, rnr_retry_count: int, max_reads: int) -> None:
        """Entering RTS for the first time. Timeouts as R37 and R38 count them."""
        self.next_psn = self.acked = first_psn & PSN_MASK
        self.retime(timeout, retry_count, rnr_retry_count)
        self.max_reads = max_reads
        self.sending = True

    def retime(self, timeout: int, retry_count: int, rnr_retry_count: int) -> None:
        """Set the timeout exponent (R37: 4.096 us times 2 to it, 0 for ever) and both retry counts."""
        tick = self.device.profile.timer_tick_ns
        self.timeout_ns = -(-(_TIMEOUT_UNIT_NS << timeout) // tick) * tick if timeout else 0
        self.retry_count = self._retries_left = retry_count
        self.rnr_retry_count = self._rnr_retries_left = rnr_retry_count
        assert self.direction is not None
        round_trip_ns = self.direction.latency_ns + self.direction.reverse.latency_ns
        self._impatient = 0 < self.timeout_ns <= round_trip_ns

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way or waits to be sent."""
        return not self._pending and not self._unacked

    def post(self, work: SendWork) -> None:
        """Add a work request. Its packet numbers are settled now, in posting order."""
        work.psn = self.next_psn
        self.next_psn = (self.next_psn + work.packets) & PSN_MASK
        self._pending.append(work)
        if not self.queued and self.sending:
            self.direction.activate(self)  # type: ignore[union-attr]

    def refuse(self, work: SendWork) -> None:
        """Posted in ERR: flushed at once (R19)."""
        self._complete(work, e.IBV_WC_WR_FLUSH_ERR)

    def drain(self) -> None:
        """SQD: start nothing new, finish what has been started (R7)."""
        self.draining = True
        self._check_drained()

    def resume(self) -> None:
        """RTS again."""
        self.draining = False
        self._wake()

    def flush(self) -> None:
        """ERR: what is queued completes as flushed, in posting order (R18, R19)."""
        self.stop()
        works = [*self._unacked, *self._pending]
        self._unacked.clear()
        self._pending.clear()
        self._reads = 0
        for work in works:
            self._complete(work, e.IBV_WC_WR_FLUSH_ERR)

    def stop(self) -> None:
        """Nothing is sent any more, no answer is heard."""
        self.sending = False
        self._timer = None

    # --- the flow ---------------------------------------------------------------------------------------------

    def next_burst(self, whole: bool) -> RequestBurst | None:
        """Packets of the oldest work request not sent: all of them, or one."""
        pending = self._pending
        if not pending or self._paused or not self.sending:
            return None
        work = pending[0]
        if work.visible_ns > self.env._now:
            self._ring_at(work.visible_ns)
            return None
        first = work.next
        if first == 0 and (work.fence or work.is_read or self.draining) and not self._may_start(work):
            self._blocked = True
            return None
        count = work.packets - first
        if self.window != _NO_WINDOW:
            if (work.psn + first - self.acked) & PSN_MASK >= self.window:
                self._blocked = True
                return None
            count = 1
        elif not whole:
            count = 1
        return self._burst(work, first, count)

    def departed(self, burst: RequestBurst) -> None:
        """Go on behind it, unless the queue has gone back meanwhile."""
        work = burst.work
        pending = self._pending
        if not pending or pending[0] is not work or work.next != burst.first:
            return
        work.next = work.packets if work.is_read else burst.first + burst.count
        work.sent_ns = self.env._now  # type: ignore[assignment]
        work.started = True
        if work.next == work.packets:
            pending.popleft()
            self._unacked.append(work)
            if work.is_read:
                self._reads += 1
        if self._impatient:
            self.set_timer()

    def arrived(self, burst: RequestBurst) -> None:
        """Hand it to the queue pair it is for, if the device has it."""
        assert self.direction is not None
        peer = self.direction.target.qps.get(self.qp.dest_qp_num)
        if peer is None:
            self.lost(burst)
        else:
            peer.responder.receive(burst)

    def lost(self, burst: RequestBurst) -> None:
        """It or its answer does not arrive: the ack timer will tell."""
        self.set_timer()

    def _burst(self, work: SendWork, first: int, count: int) -> RequestBurst | None:
        if work.length > self.device.profile.max_message_bytes:
            self._local_error(e.IBV_WC_LOC_LEN_ERR)
            return None
        start = first * self.mtu
        length = min(count * self.mtu, work.length - start)
        payload = self._payload(work, start, length)
        if payload is None:
            self._local_error(e.IBV_WC_LOC_PROT_ERR)
            return None
        if work.is_read:
            count = 1
            last_bytes = _READ_REQUEST_BYTES
        elif first + count < work.packets:
            last_bytes = self.mtu
        else:
            last_bytes = length - (count - 1) * self.mtu
        return RequestBurst(self, work, first, count, self.packet_bytes, last_bytes + self.header_bytes, payload)

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
        mr = self.device.mrs.get(lkey)
        if mr is None or mr.pd is not self.qp.pd or address < mr.buf or address + size > mr.end:
            return None
        return mr.mapping.read(address + start, length)

    def _may_start(self, work: SendWork) -> bool:
        if self.draining:
            return work.started
        if work.fence and self._reads:
            return False
        if not work.is_read:
            return True
        if self.max_reads == 0:
            self._local_error(e.IBV_WC_LOC_QP_OP_ERR)
            return False
        return self._reads < self.max_reads

    def _local_error(self, status: int) -> None:
        """Fail the head of the queue, once everything before it has completed (R16)."""
        if self._unacked:
            self._blocked = True
        else:
            self._fail(status)

    # --- answers ----------------------------------------------------------------------------------------------

    def _answered(self, burst: RequestBurst) -> None:
        if not self.sending or not self.device.host.alive:
            return
        syndrome = burst.syndrome
        self._acknowledge(burst.answer_psn, syndrome == ACK)
        if syndrome == ACK:
            return
        if syndrome == NAK_SEQUENCE:
            self._retry()
        elif syndrome == NAK_RNR:
            self._not_ready(burst.rnr_ns)
        else:
            self._fail(_ERRORS[syndrome])

    def _acknowledge(self, psn: int, positive: bool) -> None:
        """Everything before that packet has been received."""
        gain = (psn - self.acked) & PSN_MASK
        old = gain >= PSN_HALF or gain > (self.next_psn - self.acked) & PSN_MASK  # or to packets never sent
        if not old and (gain or positive):  # R42
            self.acked = psn
            self._progress_ns = self.env._now  # type: ignore[assignment]
            self._retries_left = self.retry_count
            self._rnr_retries_left = self.rnr_retry_count
        self._retire()

    def _retire(self) -> None:
        """Complete what has been acknowledged, in posting order (R16)."""
        acked = self.acked
        unacked = self._unacked
        while unacked:
            work = unacked[0]
            if (acked - work.psn - work.packets) & PSN_MASK >= PSN_HALF:
                break
            if work.is_read:
                if work.received < work.packets:
                    self._retry()  # what follows was acknowledged: its response has been lost
                    return
                self._reads -= 1
            unacked.popleft()
            self._complete(work, 0)
        else:
            self._retire_resent()
        if self._blocked:
            self._wake()
        if self.draining:
            self._check_drained()

    def _retire_resent(self) -> None:
        """Complete what was acknowledged after all while it waited to be sent again."""
        pending = self._pending
        while pending and pending[0].started and not pending[0].is_read:
            work = pending[0]
            if (self.acked - work.psn - work.packets) & PSN_MASK >= PSN_HALF:
                break
            pending.popleft()
            self._complete(work, 0)

    def read_response(self, burst: ResponseBurst) -> None:
        """Response packets of a read have come: put them into its buffers."""
        work = burst.work
        if not self.sending or work.received >= work.packets or work not in self._unacked:
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
        self._acknowledge((work.psn + work.received) & PSN_MASK, True)

    def _complete(self, work: SendWork, status: int) -> None:
        if self.slots_free_at_ack:
            self.retired = work.ordinal
        if not work.signaled and not status:  # R13
            return
        completion = WC.__new__(WC)
        completion.wr_id = work.wr_id
        completion.status = status
        completion.opcode = _COMPLETION_OPCODES[work.opcode]
        completion.byte_len = work.length
        completion.qp_num = self.qp_num
        completion._queue = self
        completion._retires = work.ordinal
        self.qp.send_cq.push(completion, False)

    # --- when something goes wrong ----------------------------------------------------------------------------

    def _not_ready(self, rnr_ns: int) -> None:
        """The peer has no receive posted: wait as long as it says, then send again (R39)."""
        if self.rnr_retry_count != _INFINITE:
            if self._rnr_retries_left == 0:
                self._fail(e.IBV_WC_RNR_RETRY_EXC_ERR)
                return
            self._rnr_retries_left -= 1
        self._go_back()
        self._paused = True
        tick = self.device.profile.timer_tick_ns
        self.env.schedule(LightEvent(self._unpause), NORMAL, -(-rnr_ns // tick) * tick)  # type: ignore[arg-type]

    def _unpause(self, event: LightEvent) -> None:
        self._paused = False
        self._wake()

    def _retry(self) -> None:
        """Send again from the oldest packet not acknowledged on, unless that was tried often enough (R38)."""
        if not (self.retry_count == _INFINITE and self.device.profile.retry_count_seven_is_infinite):
            if self._retries_left == 0:
                self._fail(e.IBV_WC_RETRY_EXC_ERR)
                return
            self._retries_left -= 1
        self._progress_ns = self.env._now  # type: ignore[assignment]
        self._go_back()
        self._wake()

    def _go_back(self) -> None:
        """Go back N: everything from the first packet not acknowledged on is to be sent again (R40)."""
        unacked = self._unacked
        pending = self._pending
        if pending:
            pending[0].next = 0
        while unacked:
            work = unacked.pop()
            work.next = 0
            pending.appendleft(work)
        self._reads = 0
        if pending:
            work = pending[0]
            done = work.received if work.is_read else (self.acked - work.psn) & PSN_MASK
            work.next = done if done < work.packets else 0

    def _fail(self, status: int) -> None:
        """The oldest work request fails with that status, and the queue pair with it (R18)."""
        works = self._unacked or self._pending
        if works:
            self._complete(works.popleft(), status)
        self.qp.enter_error()

    def set_timer(self) -> None:
        """Something is known not to arrive: see to it that the ack timer fires when it is due (R37)."""
        if self._timer is None and self.timeout_ns and self.sending:
            self._set_timer(max(self._expiry_ns(), self.env._now))  # type: ignore[arg-type]

    def _set_timer(self, at_ns: int) -> None:
        self._timer = LightEvent(self._expired)
        self.env.schedule(self._timer, NORMAL, at_ns - self.env._now)  # type: ignore[arg-type]

    def _expiry_ns(self) -> int:
        """When the timer of a device fires: the timeout after the oldest packet waiting for an answer, or the last
        progress if that was later."""
        works = self._unacked or self._pending
        sent_ns = works[0].sent_ns if works else 0
        return max(sent_ns, self._progress_ns) + self.timeout_ns

    def _expired(self, event: LightEvent) -> None:
        if event is not self._timer:
            return
        self._timer = None
        pending = self._pending
        if not self._unacked and not (pending and pending[0].next):
            return  # nothing waits for an answer (any more)
        at_ns = self._expiry_ns()
        if at_ns > self.env._now:
            self._set_timer(at_ns)
        else:
            self._retry()

    def _wake(self) -> None:
        self._blocked = False
        if self._pending and self.sending and not self.queued and self.direction is not None:
            self.direction.activate(self)

    def _ring_at(self, at_ns: int) -> None:
        if self._doorbell_ns != at_ns:
            self._doorbell_ns = at_ns
            self.env.schedule(LightEvent(self._rung), NORMAL, at_ns - self.env._now)  # type: ignore[arg-type]

    def _rung(self, event: LightEvent) -> None:
        self._wake()

    def _check_drained(self) -> None:
        pending = self._pending
        if not self._unacked and not (pending and pending[0].started):
            self.qp.sq_drained()
