"""The receiving half of a queue pair: packets in order, receive queue, answers."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.buffers import scatter
from simmig.verbs.sim.cq import WC
from simmig.verbs.sim.link import Direction
from simmig.verbs.sim.memory import payload_bytes, payload_length
from simmig.verbs.sim.parts import QueuePair
from simmig.verbs.sim.qp_attr import QPAttr
from simmig.verbs.sim.responses import Responses, right_for
from simmig.verbs.sim.windows import invalidate
from simmig.verbs.sim.work import (
    ACK,
    ATOMIC_BYTES,
    NAK_INVALID_REQUEST,
    NAK_REMOTE_ACCESS,
    NAK_REMOTE_OPERATION,
    NAK_RNR,
    NAK_SEQUENCE,
    PSN_HALF,
    PSN_MASK,
    ReceiveWork,
    RequestBurst,
    RequestFlow,
    SendWork,
)

_RDMA_WRITE = int(e.IBV_WR_RDMA_WRITE)
_RDMA_WRITE_WITH_IMM = int(e.IBV_WR_RDMA_WRITE_WITH_IMM)
_WRITES = (_RDMA_WRITE, _RDMA_WRITE_WITH_IMM)
_SEND_WITH_IMM = int(e.IBV_WR_SEND_WITH_IMM)
_SEND_WITH_INV = int(e.IBV_WR_SEND_WITH_INV)
_COMPARE = int(e.IBV_WR_ATOMIC_CMP_AND_SWP)
_ATOMIC_WRITE = int(e.IBV_WR_ATOMIC_WRITE)
_REMOTE_WRITE = int(e.IBV_ACCESS_REMOTE_WRITE)
_RECV = int(e.IBV_WC_RECV)
_SOLICITED = int(e.IBV_SEND_SOLICITED)
_WITH_IMM = int(e.IBV_WC_WITH_IMM)
_NO_WINDOW = PSN_HALF

# min_rnr_timer codes 0 to 31 in hundredths of a millisecond (R39; IBA volume 1, table 45).
_RNR_TIMER = (
    *(65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192),
    *(256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152),
)
_RNR_UNIT_NS = 10_000


class Responder:
    """Takes request packets in, puts their data where it belongs, and answers."""

    __slots__ = (
        "_nak_sent",
        "_peer",
        "_peer_gid",
        "_receive",
        "device",
        "direction",
        "established",
        "expected_psn",
        "max_reads",
        "mtu",
        "open",
        "posted",
        "qp",
        "receives",
        "responses",
        "retired",
        "rnr_ns",
        "slots_free_at_ack",
        "srq",
    )

    def __init__(self, qp: QueuePair) -> None:
        self.qp = qp
        self.device = qp.device
        self.slots_free_at_ack = qp.device.profile.slots_free_at_ack
        self.direction: Direction | None = None
        self.mtu = 0
        self.expected_psn = 0
        self.rnr_ns = 0
        self.max_reads = 0
        self.open = False
        self.established = False
        self.posted = 0
        self.retired = 0
        self.srq = qp.srq
        self.receives: deque[ReceiveWork] = deque() if qp.srq is None else qp.srq.receives
        self._receive: ReceiveWork | None = None  # the one the message under way goes to
        self._nak_sent = False
        self._peer_gid: str | None = None
        self._peer: RequestFlow | None = None  # the rightful one, whose packets are of the size expected here
        self.responses = Responses(self)

    def start(self, direction: Direction, mtu: int, attr: QPAttr) -> None:
        """Entering RTR."""
        self.direction = direction
        self.mtu = mtu
        self.expected_psn = attr.rq_psn & PSN_MASK
        self.retime(attr.min_rnr_timer)
        self.max_reads = attr.max_dest_rd_atomic
        self._peer_gid = attr.ah_attr.dgid
        self.open = True

    def retime(self, min_rnr_timer: int) -> None:
        """Set the code of the time a peer is to wait when no receive is posted."""
        self.rnr_ns = _RNR_TIMER[min_rnr_timer] * _RNR_UNIT_NS

    def flush(self) -> None:
        """ERR: posted receives complete as flushed, the one being filled first (R18)."""
        self.stop()
        works = [] if self._receive is None else [self._receive]
        self._receive = None
        if self.srq is None:  # R20: what is shared stays for others
            works += self.receives
            self.receives.clear()
        for work in works:
            self.complete(work, e.IBV_WC_WR_FLUSH_ERR, e.IBV_WC_RECV, 0, None)

    def stop(self) -> None:
        """Take in nothing more, send nothing more."""
        self.open = False
        self.responses.clear()

    # --- requests ---------------------------------------------------------------------------------------------

    def receive(self, burst: RequestBurst) -> None:  # noqa: PLR0911  (one look, one way out)
        """Request packets have arrived."""
        flow = burst.flow
        if not self.open or (flow is not self._peer and not self._comes_from_peer(flow)):
            flow.lost(burst)
            return
        if burst.psn != self.expected_psn and not self._is_partly_new(burst):
            return
        if flow.mtu != self.mtu and not self._has_right_size(burst.work):
            self._refuse(burst, NAK_INVALID_REQUEST)
            return
        if not self.established:
            self.established = True
            self.qp.communication_established()
        work = burst.work
        opcode = work.opcode
        if work.is_read:
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

    def _comes_from_peer(self, flow: RequestFlow) -> bool:
        """Whether the packets' source is the one this queue pair is connected to (IBA volume 1, 9.6.1)."""
        if flow.qp_num != self.qp.dest_qp_num or flow.gid != self._peer_gid:
            return False
        if flow.mtu == self.mtu:
            self._peer = flow
        return True

    def _has_right_size(self, work: SendWork) -> bool:
        """Whether packets cut to another path MTU are such as this side's allows (IBA volume 1, 9.7.4.1.6).

        First and middle packets have exactly its length, last and only ones at most that; a read request has none.
        """
        return work.is_read or (work.packets == 1 and work.length <= self.mtu)

    def takes_streams(self, requester: RequestFlow) -> bool:
        """Whether whole writes of that requester need no closer look than at their memory and packet number."""
        return (
            self.open
            and self.established
            and not self._nak_sent
            and not self.responses.reads
            and self.qp.access_flags & _REMOTE_WRITE != 0
            and self._peer is requester
            and self.direction is requester.direction.reverse
        )

    def _place(self, burst: RequestBurst, work: SendWork) -> int:
        """Put the data of a write where it belongs; returns how to refuse it, 0 for not at all (R31, R34)."""
        if not self.qp.access_flags & _REMOTE_WRITE:
            return NAK_INVALID_REQUEST
        mr = self.device.mrs.get(work.rkey)
        address = work.remote_addr
        if mr is None or (mr.pd is not self.qp.pd and mr.pd is not self.qp) or not mr.access & _REMOTE_WRITE:
            return NAK_REMOTE_ACCESS
        if address < mr.start or address + work.length > mr.end:
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
            profile = self.device.profile
            if profile.long_message_is_operation_error:
                self._fail_receive(burst, e.IBV_WC_LOC_QP_OP_ERR, NAK_REMOTE_OPERATION)
            else:
                self._fail_receive(burst, e.IBV_WC_LOC_LEN_ERR, NAK_INVALID_REQUEST)
            return False
        if end and not scatter(self.qp, receive.sg, burst.first * self.mtu, burst.payload):
            self._fail_receive(burst, self.device.profile.bad_key_status, NAK_REMOTE_OPERATION)
            return False
        if not last:
            return True
        if work.opcode == _SEND_WITH_INV:
            if not invalidate(self.qp, work.imm_data):
                self._refuse(burst, NAK_REMOTE_ACCESS)
                return False
            self._deliver(work, e.IBV_WC_RECV, work.imm_data, int(e.IBV_WC_WITH_INV))
        else:
            self._deliver(work, _RECV, work.imm_data if work.opcode == _SEND_WITH_IMM else None)
        return True

    def _is_partly_new(self, burst: RequestBurst) -> bool:
        """Sort out packets that are not the expected ones: gap, duplicate, or new from some packet on."""
        behind = (self.expected_psn - burst.psn) & PSN_MASK
        if behind >= PSN_HALF:  # packets before it are missing
            if self._nak_sent:
                burst.flow.lost(burst)
            else:
                self._answer(burst, NAK_SEQUENCE)
            return False
        if burst.work.is_read:
            self.responses.add_read(burst, fresh=False)
            return False
        if behind >= burst.count:
            self._answer(burst, ACK)  # R41
            return False
        burst.skip(behind)
        return True

    def _answer(self, burst: RequestBurst, syndrome: int, psn: int | None = None) -> None:
        """Say that all before that packet (the expected one, if none is given) is here, and what is wrong."""
        burst.syndrome = syndrome
        burst.answer_psn = self.expected_psn if psn is None else psn
        if syndrome == NAK_RNR:
            burst.rnr_ns = self.rnr_ns
        if syndrome in (NAK_RNR, NAK_SEQUENCE):
            self._nak_sent = True
        self.responses.add_answer(burst)

    def _refuse(self, burst: RequestBurst, syndrome: int, psn: int | None = None) -> None:
        """Answer with an error; this queue pair is in error as well, and its owner is told."""
        self._answer(burst, syndrome, psn)
        access = syndrome == NAK_REMOTE_ACCESS
        self.qp.raise_event(e.IBV_EVENT_QP_ACCESS_ERR if access else e.IBV_EVENT_QP_REQ_ERR)
        self._give_up()

    def _give_up(self) -> None:
        """Take in nothing more, and enter ERR when what is to be said before has been said."""
        self.open = False
        if not self.responses.reads:
            self.qp.enter_error()

    def all_said(self) -> None:
        """The last response has left."""
        if not self.open:
            self.qp.enter_error()

    # --- receives ---------------------------------------------------------------------------------------------

    def _has_receive(self) -> bool:
        receives = self.receives
        return bool(receives) and receives[0].visible_ns <= self.device.host.env._now

    def _take_receive(self) -> ReceiveWork:
        self._receive = receive = self.receives.popleft()
        if self.srq is not None:
            self.srq.taken()
        return receive

    def _deliver(self, work: SendWork, opcode: int, imm_data: int | None, flags: int = _WITH_IMM) -> None:
        receive = self._receive
        assert receive is not None
        self._receive = None
        self.complete(receive, 0, opcode, work.length, imm_data, bool(work.flags & _SOLICITED), flags)

    def _fail_receive(self, burst: RequestBurst, status: int, syndrome: int) -> None:
        receive = self._receive
        assert receive is not None
        self._receive = None
        self._answer(burst, syndrome)
        self.complete(receive, status, e.IBV_WC_RECV, 0, None)
        self._give_up()

    def complete(
        self,
        receive: ReceiveWork,
        status: int,
        opcode: int,
        byte_len: int,
        imm_data: int | None,
        solicited: bool = False,
        flags: int = _WITH_IMM,
    ) -> None:
        """Complete a receive. If the completion is lost to an overrun, so is the queue pair."""
        queue: Any = self.srq or self
        ordinal = receive.ordinal
        if self.slots_free_at_ack:
            queue.retired = ordinal
            queue = None
        qp_num, status, opcode = self.qp.qp_num, int(status), int(opcode)
        completion = WC(receive.wr_id, status, opcode, 0, byte_len, qp_num, queue=queue, retires=ordinal)
        if imm_data is not None:
            completion.imm_data = imm_data
            completion.wc_flags = flags
        if not self.qp.recv_cq.push(completion, solicited):
            self.qp.enter_error()

    # --- reads ------------------------------------------------------------------------------------------------

    def _read(self, burst: RequestBurst) -> None:
        work = burst.work
        refusal = self._refuses_read(work)
        if refusal:
            self._refuse(burst, refusal)
            return
        if work.extra is not None:
            self._execute(work)
        self.expected_psn = (work.psn + self.responses.packets(work)) & PSN_MASK
        self._nak_sent = False
        self.responses.add_read(burst, fresh=True)

    def _refuses_read(self, work: SendWork) -> int:
        if self.responses.fresh_reads >= self.max_reads:  # R44
            return NAK_INVALID_REQUEST
        if not work.length:  # R34
            return 0
        misaligned = work.extra is not None and work.remote_addr % ATOMIC_BYTES
        if misaligned or not self.qp.access_flags & right_for(work):
            return NAK_INVALID_REQUEST
        return 0 if self.responses.may_read(work) else NAK_REMOTE_ACCESS

    def _execute(self, work: SendWork) -> None:
        """An atomic: once, and what it found is kept for whoever asks again (IBA volume 1, 9.4.5)."""
        mr = self.device.mrs[work.rkey]
        at = work.remote_addr - mr.segment_address
        if work.opcode == _ATOMIC_WRITE:
            mr.segment.dma_write(at, work.extra)
            work.result = b""
            return
        found = payload_bytes(mr.segment.dma_read(at, ATOMIC_BYTES))
        value, (operand, swap) = int.from_bytes(found, sys.byteorder), work.extra
        value = (swap if value == operand else value) if work.opcode == _COMPARE else (value + operand) % (1 << 64)
        mr.segment.dma_write(at, value.to_bytes(ATOMIC_BYTES, sys.byteorder))
        work.result = found

    def follow(self, direction: Direction, attr: QPAttr) -> None:
        """The peer is reached another way from now on."""
        self.direction = direction
        self._peer_gid = attr.ah_attr.dgid
        self._peer = None

    def region_gone(self, burst: RequestBurst, psn: int) -> None:
        """The region a read is being answered from has been deregistered."""
        self._refuse(burst, NAK_REMOTE_ACCESS, psn)
