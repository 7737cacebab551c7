"""The receiving half of a queue pair: packets in order, receive queue, answers, data of reads."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.buffers import scatter
from simmig.verbs.sim.cq import WC
from simmig.verbs.sim.link import Burst
from simmig.verbs.sim.memory import Payload, payload_length, payload_part
from simmig.verbs.sim.work import (
    ACK,
    NAK_INVALID_REQUEST,
    NAK_REMOTE_ACCESS,
    NAK_REMOTE_OPERATION,
    NAK_RNR,
    NAK_SEQUENCE,
    PSN_HALF,
    PSN_MASK,
    ReceiveWork,
    RequestBurst,
    SendWork,
)

if TYPE_CHECKING:
    from simmig.verbs.sim.link import Direction
    from simmig.verbs.sim.qp import QP
    from simmig.verbs.sim.requester import Requester

_RDMA_WRITE = int(e.IBV_WR_RDMA_WRITE)
_RDMA_WRITE_WITH_IMM = int(e.IBV_WR_RDMA_WRITE_WITH_IMM)
_WRITES = (_RDMA_WRITE, _RDMA_WRITE_WITH_IMM)
_SEND_WITH_IMM = int(e.IBV_WR_SEND_WITH_IMM)
_RDMA_READ = int(e.IBV_WR_RDMA_READ)
_REMOTE_WRITE = int(e.IBV_ACCESS_REMOTE_WRITE)
_SOLICITED = int(e.IBV_SEND_SOLICITED)
_REMOTE_READ = int(e.IBV_ACCESS_REMOTE_READ)
_NO_WINDOW = PSN_HALF

# min_rnr_timer codes 0 to 31 in hundredths of a millisecond (R39; IBA volume 1, table 45).
_RNR_TIMER = (
    *(65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192),
    *(256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152),
)
_RNR_UNIT_NS = 10_000


class ResponseBurst(Burst):
    """Packets of the data that a read asked for."""

    __slots__ = ("first", "payload", "requester", "work")

    payload: Payload
    first: int
    work: SendWork
    requester: Requester

    def cut(self, count: int) -> None:
        """Keep the first packets only."""
        super().cut(count)
        self.payload = payload_part(self.payload, 0, count * self.flow.mtu)  # type: ignore[attr-defined]


class _Response:
    """A read being answered, or an answer that must not overtake one."""

    __slots__ = ("answer", "next", "requester", "work")

    def __init__(self, requester: Requester, work: SendWork, first: int, answer: RequestBurst | None) -> None:
        self.requester = requester
        self.work = work
        self.next = first
        self.answer = answer


class Responder:
    """A queue pair's receive queue and what it answers on the wire: a flow of its direction, for read data."""

    __slots__ = (
        "_message_length",
        "_nak_sent",
        "_receive",
        "_responses",
        "device",
        "direction",
        "established",
        "expected_psn",
        "header_bytes",
        "max_reads",
        "mtu",
        "open",
        "posted",
        "qp",
        "queued",
        "receives",
        "retired",
        "rnr_ns",
        "slots_free_at_ack",
    )

    def __init__(self, qp: QP) -> None:
        self.qp = qp
        self.device = qp.device
        self.slots_free_at_ack = qp.device.profile.slots_free_at_ack
        self.direction: Direction | None = None
        self.mtu = 0
        self.header_bytes = 0
        self.expected_psn = 0
        self.rnr_ns = 0
        self.max_reads = 0
        self.open = False
        self.established = False
        self.posted = 0
        self.retired = 0
        self.receives: deque[ReceiveWork] = deque()
        self.queued = False
        self._receive: ReceiveWork | None = None  # the one the message under way goes to
        self._message_length = 0
        self._nak_sent = False
        self._responses: deque[_Response] = deque()

    def start(self, direction: Direction, mtu: int, first_psn: int, min_rnr_timer: int, max_reads: int) -> None:
        """Entering RTR."""
        self.direction = direction
        self.mtu = mtu
        self.header_bytes = direction.spec.header_bytes
        self.expected_psn = first_psn & PSN_MASK
        self.retime(min_rnr_timer)
        self.max_reads = max_reads
        self.open = True

    def retime(self, min_rnr_timer: int) -> None:
        """Set the code of the time a peer is to wait when no receive is posted."""
        self.rnr_ns = _RNR_TIMER[min_rnr_timer] * _RNR_UNIT_NS

    def flush(self) -> None:
        """ERR: posted receives complete as flushed, the one being filled first (R18)."""
        self.open = False
        self._responses.clear()
        works = [*self.receives] if self._receive is None else [self._receive, *self.receives]
        self._receive = None
        self.receives.clear()
        for work in works:
            self.complete(work, e.IBV_WC_WR_FLUSH_ERR, e.IBV_WC_RECV, 0, None)

    # --- requests ---------------------------------------------------------------------------------------------

    def receive(self, burst: RequestBurst) -> None:
        """Request packets have arrived."""
        flow = burst.flow
        if not self.open or flow.qp_num != self.qp.dest_qp_num:
            flow.lost(burst)
            return
        if burst.psn != self.expected_psn and not self._is_partly_new(burst):
            return
        if not self.established:
            self.established = True
            self.qp.communication_established()
        work = burst.work
        opcode = work.opcode
        if opcode == _RDMA_READ:
            self._read(burst)
            return
        last = burst.first + burst.count == work.packets
        if opcode in _WRITES:
            if opcode == _RDMA_WRITE_WITH_IMM and last and not self._has_receive():
                self._answer(burst, NAK_RNR)
                return
            if work.length:
                refusal = self._place(burst, work)
                if refusal:
                    self._refuse(burst, refusal)
                    return
            if opcode == _RDMA_WRITE_WITH_IMM and last:
                self._take_receive()
                self._deliver(work, e.IBV_WC_RECV_RDMA_WITH_IMM, work.imm_data)
        elif not self._accept_send(burst, work, last):
            return
        self.expected_psn = (burst.psn + burst.count) & PSN_MASK
        self._nak_sent = False
        if last or flow.window != _NO_WINDOW:
            self._answer(burst, ACK)

    def takes_streams(self, requester: Requester) -> bool:
        """Whether whole writes of that requester need no closer look than at their memory and packet number."""
        return (
            self.open
            and self.established
            and not self._nak_sent
            and not self._responses
            and self.qp.access_flags & _REMOTE_WRITE != 0
            and self.qp.dest_qp_num == requester.qp_num
            and self.direction is requester.direction.reverse
        )

    def _place(self, burst: RequestBurst, work: SendWork) -> int:
        """Put the data of a write where it belongs; returns how to refuse it, 0 for not at all (R31, R34)."""
        if not self.qp.access_flags & _REMOTE_WRITE:
            return NAK_INVALID_REQUEST
        mr = self.device.mrs.get(work.rkey)
        address = work.remote_addr
        if mr is None or mr.pd is not self.qp.pd or not mr.access & _REMOTE_WRITE:
            return NAK_REMOTE_ACCESS
        if address < mr.buf or address + work.length > mr.end:
            return NAK_REMOTE_ACCESS
        mr.segment.dma_write(address + burst.first * self.mtu - mr.segment_address, burst.payload)
        return 0

    def _accept_send(self, burst: RequestBurst, work: SendWork, last: bool) -> bool:
        receive = self._receive
        if burst.first == 0:
            if not self._has_receive():
                self._answer(burst, NAK_RNR)
                return False
            receive = self._take_receive()
        assert receive is not None
        end = burst.first * self.mtu + payload_length(burst.payload)
        if end > receive.length:
            self._fail_receive(burst, e.IBV_WC_LOC_LEN_ERR, NAK_INVALID_REQUEST)
            return False
        if end and not scatter(self.qp, receive.sg, burst.first * self.mtu, burst.payload):
            self._fail_receive(burst, e.IBV_WC_LOC_PROT_ERR, NAK_REMOTE_OPERATION)
            return False
        if last:
            self._deliver(work, e.IBV_WC_RECV, work.imm_data if work.opcode == _SEND_WITH_IMM else None)
        return True

    def _is_partly_new(self, burst: RequestBurst) -> bool:
        """Sort out packets that are not the expected ones: gap, duplicate, or new from some packet on."""
        behind = (self.expected_psn - burst.psn) & PSN_MASK
        if behind >= PSN_HALF:  # packets before it are missing
            if not self._nak_sent:
                self._answer(burst, NAK_SEQUENCE)
            return False
        if burst.work.opcode == _RDMA_READ:
            self._respond(burst)
            return False
        if behind >= burst.count:
            self._answer(burst, ACK)  # R41
            return False
        burst.skip(behind)
        return True

    def _answer(self, burst: RequestBurst, syndrome: int) -> None:
        burst.syndrome = syndrome
        burst.answer_psn = self.expected_psn
        if syndrome == NAK_RNR:
            burst.rnr_ns = self.rnr_ns
        if syndrome in (NAK_RNR, NAK_SEQUENCE):
            self._nak_sent = True
        if self._responses:  # not before the data of earlier reads
            self._responses.append(_Response(burst.flow, burst.work, 0, burst))
        else:
            self._send_answer(burst)

    def _send_answer(self, burst: RequestBurst) -> None:
        assert self.direction is not None
        if not self.direction.answer(burst, burst.flow.answering):
            burst.flow.lost(burst)

    def _refuse(self, burst: RequestBurst, syndrome: int) -> None:
        """Answer with an error; this queue pair is in error as well, and its owner is told."""
        self._answer(burst, syndrome)
        access = syndrome == NAK_REMOTE_ACCESS
        self.qp.raise_event(e.IBV_EVENT_QP_ACCESS_ERR if access else e.IBV_EVENT_QP_REQ_ERR)
        self.qp.enter_error()

    # --- receives ---------------------------------------------------------------------------------------------

    def _has_receive(self) -> bool:
        receives = self.receives
        return bool(receives) and receives[0].visible_ns <= self.device.host.env._now

    def _take_receive(self) -> ReceiveWork:
        self._receive = receive = self.receives.popleft()
        return receive

    def _deliver(self, work: SendWork, opcode: int, imm_data: int | None) -> None:
        receive = self._receive
        assert receive is not None
        self._receive = None
        self.complete(receive, 0, opcode, work.length, imm_data, bool(work.flags & _SOLICITED))

    def _fail_receive(self, burst: RequestBurst, status: int, syndrome: int) -> None:
        receive = self._receive
        assert receive is not None
        self._receive = None
        self._answer(burst, syndrome)
        self.complete(receive, status, e.IBV_WC_RECV, 0, None)
        self.qp.enter_error()

    def complete(
        self,
        receive: ReceiveWork,
        status: int,
        opcode: int,
        byte_len: int,
        imm_data: int | None,
        solicited: bool = False,
    ) -> None:
        """Complete a receive. If the completion is lost to an overrun, so is the queue pair."""
        if self.slots_free_at_ack:
            self.retired = receive.ordinal
        completion = WC(receive.wr_id, int(status), int(opcode), 0, byte_len, self.qp.qp_num)
        completion.queue = None if self.slots_free_at_ack else self
        completion.retires = receive.ordinal
        if imm_data is not None:
            completion.imm_data = imm_data
            completion.wc_flags = int(e.IBV_WC_WITH_IMM)
        if not self.qp.recv_cq.push(completion, solicited):
            self.qp.enter_error()

    # --- reads ------------------------------------------------------------------------------------------------

    def _read(self, burst: RequestBurst) -> None:
        work = burst.work
        refusal = self._refuses_read(work)
        if refusal:
            self._refuse(burst, refusal)
            return
        self.expected_psn = (work.psn + work.packets) & PSN_MASK
        self._nak_sent = False
        self._respond(burst)

    def _refuses_read(self, work: SendWork) -> int:
        reads = sum(1 for response in self._responses if response.answer is None)
        if reads >= self.max_reads:  # R44
            return NAK_INVALID_REQUEST
        if not work.length:
            return 0
        if not self.qp.access_flags & _REMOTE_READ:
            return NAK_INVALID_REQUEST
        return 0 if self._readable(work) else NAK_REMOTE_ACCESS

    def _readable(self, work: SendWork) -> bool:
        mr = self.device.mrs.get(work.rkey)
        if mr is None or mr.pd is not self.qp.pd or not mr.access & _REMOTE_READ:
            return False
        return mr.buf <= work.remote_addr and work.remote_addr + work.length <= mr.end

    def _respond(self, burst: RequestBurst) -> None:
        assert self.direction is not None
        self.direction.reverse.settle()
        self._responses.append(_Response(burst.flow, burst.work, burst.first, None))
        self.direction.activate(self)

    def next_burst(self, whole: bool) -> ResponseBurst | None:
        """Read data: all that is left of the oldest response, or a packet of it."""
        if not self._responses:
            return None
        response = self._responses[0]
        work = response.work
        first = response.next
        if work.length and not self._readable(work):
            self._responses.clear()  # the region has gone since
            response.requester.set_timer()
            return None
        count = work.packets - first if whole else 1
        start = first * self.mtu
        length = min(count * self.mtu, work.length - start)
        full = self.mtu + self.header_bytes
        last_bytes = length - (count - 1) * self.mtu + self.header_bytes
        burst = ResponseBurst(self, count, full, last_bytes)
        burst.work = work
        burst.first = first
        mr = self.device.mrs.get(work.rkey)
        burst.payload = (
            mr.segment.dma_read(work.remote_addr + start - mr.segment_address, length)
            if mr is not None and length
            else b""
        )
        burst.requester = response.requester
        return burst

    def departed(self, burst: ResponseBurst) -> None:
        """Go on behind it; answers that had to wait for the read follow at once."""
        responses = self._responses
        if not responses or responses[0].work is not burst.work:
            return
        responses[0].next = burst.first + burst.count
        if responses[0].next == burst.work.packets:
            responses.popleft()
            while responses and responses[0].answer is not None:
                self._send_answer(responses.popleft().answer)  # type: ignore[arg-type]

    def arrived(self, burst: ResponseBurst) -> None:
        """The data is there."""
        burst.requester.read_response(burst)

    def lost(self, burst: ResponseBurst) -> None:
        """The requester's timer will tell."""
        burst.requester.set_timer()
