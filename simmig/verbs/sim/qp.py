"""Queue pairs (module pyverbs.qp)."""

from __future__ import annotations

import errno

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.base import NotModelled, PyverbsCM, not_modelled
from simmig.verbs.sim.buffers import copy_inline
from simmig.verbs.sim.pd import PD
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError
from simmig.verbs.sim.qp_attr import QPAttr, QPCap, QPInitAttr, QPInitAttrEx
from simmig.verbs.sim.qp_rules import (
    ATTRIBUTES,
    ERR,
    INIT,
    INIT_ATTRIBUTES,
    RESET,
    RTR,
    RTR_ATTRIBUTES,
    RTS,
    RTS_ATTRIBUTES,
    SQD,
    check_modify,
    granted,
)
from simmig.verbs.sim.requester import Requester
from simmig.verbs.sim.responder import Responder
from simmig.verbs.sim.work import PSN_MASK, ReceiveWork, SendWork
from simmig.verbs.sim.wr import RecvWR, SendWR

_SIGNALED = int(e.IBV_SEND_SIGNALED)
_INLINE = int(e.IBV_SEND_INLINE)
_RDMA_READ = int(e.IBV_WR_RDMA_READ)
_RDMA_WRITE = int(e.IBV_WR_RDMA_WRITE)
_NOT_PLAIN = ~_SIGNALED
_MTU_BYTES = {1: 256, 2: 512, 3: 1024, 4: 2048, 5: 4096}


class QP(PyverbsCM):
    """A reliable-connected queue pair, at first in RESET (in INIT when `qp_attr` is given)."""

    def __init__(self, creator: PD, init_attr: QPInitAttr, qp_attr: QPAttr | None = None) -> None:
        if not isinstance(creator, PD) or init_attr.qp_type != e.IBV_QPT_RC:
            not_modelled("queue pairs other than reliable-connected ones of a PD")
        send_cq, recv_cq = init_attr.send_cq, init_attr.recv_cq
        self.device = creator.device
        cap = granted(self.device.profile, init_attr.cap)
        if cap is None or send_cq is None or recv_cq is None:
            raise PyverbsRDMAError("Failed to create QP", errno.EINVAL)
        self.pd = creator
        self.send_cq = send_cq
        self.recv_cq = recv_cq
        self.qp_type = e.IBV_QPT_RC
        self.qp_num = self.device.new_qp_num()
        self.dest_qp_num = 0
        self.access_flags = 0
        init_attr.cap = cap  # R9: the caller learns what was granted
        self._cap = cap
        self._max_send_wr = cap.max_send_wr
        self._signal_all = bool(init_attr.sq_sig_all)
        self._host = self.device.host
        costs = self._host.costs
        self._post_ns, self._post_byte_ns = costs.post_ns, costs.post_byte_ns
        self._state = self._shown_state = RESET
        self._drained = False
        self._closed = False
        self._attr = QPAttr(qp_state=RESET)
        self.requester = Requester(self)
        self.responder = Responder(self)
        self.device.qps[self.qp_num] = self
        for cq in (send_cq, recv_cq):
            cq.add_ref(self)
        creator.add_ref(self)
        if qp_attr is not None:
            self.to_init(qp_attr)

    # --- states -----------------------------------------------------------------------------------------------

    @property
    def qp_state(self) -> int:
        """The state as this process last learnt it, by modify or query: the device does not announce ERR."""
        return self._shown_state

    def to_init(self, qp_attr: QPAttr) -> None:
        """Go from RESET to INIT."""
        self._step(qp_attr, INIT, INIT_ATTRIBUTES, "Failed to modify QP state to init")

    def to_rtr(self, qp_attr: QPAttr) -> None:
        """Go to RTR, through INIT if need be."""
        if self.qp_state != INIT:
            self.to_init(qp_attr)
        self._step(qp_attr, RTR, RTR_ATTRIBUTES, "Failed to modify QP state to RTR")

    def to_rts(self, qp_attr: QPAttr) -> None:
        """Go to RTS, through the states before it if need be."""
        if self.qp_state != RTR:
            self.to_rtr(qp_attr)
        self._step(qp_attr, RTS, RTS_ATTRIBUTES, "Failed to modify QP state to RTS")

    def modify(self, qp_attr: QPAttr, comp_mask: int) -> None:
        """Set the attributes in the mask; raises PyverbsRDMAError and changes nothing when it may not (R3)."""
        self._modify(qp_attr, int(comp_mask), "Failed to modify QP")

    def query(self, attr_mask: int) -> tuple[QPAttr, QPInitAttr]:
        """All attributes, whatever the mask asks for; packet numbers are those of the next packets."""
        self._shown_state = self._state
        attr = self._attr.copy()
        attr.qp_state = attr.cur_qp_state = self._state
        attr.cap = self._cap
        if self._state in (RTS, SQD):
            attr.sq_psn = self.requester.next_psn
        if self.responder.open:
            attr.rq_psn = self.responder.expected_psn
        attr.sq_draining = int(self._state == SQD and not self._drained)
        init_attr = QPInitAttr(self.qp_type, None, self.send_cq, self.recv_cq, None, self._cap, self._signal_all)
        return attr, init_attr

    def _step(self, attr: QPAttr, state: int, mask: int, message: str) -> None:
        attr.qp_state = state
        self._modify(attr, mask | e.IBV_QP_STATE, message)

    def _modify(self, attr: QPAttr, mask: int, message: str) -> None:
        error = errno.EINVAL if self._closed else check_modify(self.device, self._state, attr, mask)
        if error:
            raise PyverbsRDMAError(message, error)
        for bit, name in ATTRIBUTES:
            if mask & bit:
                setattr(self._attr, name, getattr(attr, name))
        self._settle()
        known = self._attr
        self.access_flags = int(known.qp_access_flags)
        before = self._state
        target = int(attr.qp_state) if mask & e.IBV_QP_STATE else before
        self._shown_state = target
        if target == ERR:
            self.enter_error()
        elif target == RESET:
            self._reset()
        else:
            self._state = target
            if target == RTR:
                self._ready_to_receive()
            elif (before, target) == (RTR, RTS):
                self.requester.start(
                    known.sq_psn, known.timeout, known.retry_cnt, known.rnr_retry, known.max_rd_atomic
                )
            else:
                self._change_running(before, target)

    def _ready_to_receive(self) -> None:
        known = self._attr
        mtu = _MTU_BYTES[known.path_mtu]
        direction = self.device.routes[str(known.ah_attr.dgid)]
        self.dest_qp_num = known.dest_qp_num
        self.requester.route(direction, mtu, self.device.gids[known.ah_attr.sgid_index or 0])
        self.responder.start(direction, mtu, known)

    def _change_running(self, before: int, target: int) -> None:
        if target in (RTS, SQD):
            known = self._attr
            self.responder.retime(known.min_rnr_timer)
            self.responder.max_reads = known.max_dest_rd_atomic
            self.requester.max_reads = known.max_rd_atomic
            self.requester.retime(known.timeout, known.retry_cnt, known.rnr_retry)
        if (before, target) == (RTS, SQD):
            self._drained = False
            self.requester.drain()
        elif (before, target) == (SQD, RTS):
            self.requester.resume()

    def _reset(self) -> None:
        self._state = RESET
        self.abandon()
        if self.device.profile.reset_purges_completions:  # R21
            for cq in (self.send_cq, self.recv_cq):
                cq.purge(self.qp_num)
        self.requester = Requester(self)
        self.responder = Responder(self)
        self._attr = QPAttr(qp_state=RESET)

    def _settle(self) -> None:
        """What this queue pair is about to become, no stream from or to it may be ahead of."""
        if self.responder.direction is not None:
            self.responder.direction.settle()
            self.responder.direction.reverse.settle()

    def abandon(self) -> None:
        """Send nothing, hear nothing any more."""
        self._settle()
        self.requester.stop()
        self.responder.stop()

    def enter_error(self) -> None:
        """Go to ERR: everything outstanding completes as flushed (R18)."""
        if self._state in (RESET, ERR):
            self._state = ERR
            return
        self._settle()
        self._state = ERR
        self.requester.flush()
        self.responder.flush()

    def sq_drained(self) -> None:
        """The send queue has nothing under way any more."""
        if not self._drained:
            self._drained = True
            self.raise_event(e.IBV_EVENT_SQ_DRAINED)

    def communication_established(self) -> None:
        """The first packet has come; only news while this side has not gone to RTS yet."""
        if self._state == RTR:
            self.raise_event(e.IBV_EVENT_COMM_EST)

    def raise_event(self, event_type: int) -> None:
        """Queue an asynchronous event about this queue pair."""
        self.pd.ctx.raise_event(event_type, self)

    # --- posting ----------------------------------------------------------------------------------------------

    def post_send(self, wr: SendWR, bad_wr: SendWR | None = None) -> None:
        """Post a send, write or read, and those linked behind it.

        Stops at the first bad one, which `bad_wr` then tells (R8); raises PyverbsRDMAError: EINVAL, ENOMEM when
        the queue is full (R10), EOPNOTSUPP for what is not modelled.
        """
        requester = self.requester
        flags = wr.send_flags
        ordinal = requester.posted + 1
        if (
            wr.opcode != _RDMA_WRITE
            or wr.num_sge != 1
            or wr.shared_sge is not None
            or wr.next_wr is not None
            or flags & _NOT_PLAIN
            or ordinal - requester.retired > self._max_send_wr
            or self._state != RTS
        ):
            self._post_sends(wr, bad_wr)
            return
        # What follows is what `_post_send` does for any work request, for the one that is posted by the thousand.
        sg = wr.sg
        length = sg[0][1]
        host = self._host
        if self._post_byte_ns:
            visible_ns = self._charge_post(length)
        else:
            debt_ns = host._debt_ns = host._debt_ns + self._post_ns
            visible_ns = host.env._now + int(debt_ns)  # type: ignore[assignment]
        packets = -(-length // requester.mtu) or 1
        psn = requester.next_psn
        end_psn = (psn + packets) & PSN_MASK
        requester.next_psn = end_psn
        requester.posted = ordinal
        requester.pending.append(
            SendWork(
                wr.wr_id,
                _RDMA_WRITE,
                sg,
                length,
                wr.remote_addr,
                wr.rkey,
                flags != 0 or self._signal_all,
                length >= requester.stream_min_bytes,
                visible_ns,
                ordinal,
                packets,
                psn,
                end_psn,
            )
        )
        if not requester.queued:
            requester.direction.activate(requester)

    def _charge_post(self, length: int) -> int:
        """Charge the host for posting that many bytes; returns when the device sees them.

        That is before the host has carried them: a soft device sends while the caller is still in the post.
        """
        host, requester = self._host, self.requester
        host.charge(self._post_ns)
        visible_ns = host.now_ns()
        if self._post_byte_ns and not requester.pending and not requester.unacked:
            host.charge(length * self._post_byte_ns)
        return visible_ns

    def _post_sends(self, wr: SendWR, bad_wr: SendWR | None) -> None:
        next_wr: SendWR | None = wr
        while next_wr is not None:
            error = self._post_send(next_wr)
            if error:
                if bad_wr is not None:
                    bad_wr.become(next_wr)
                raise PyverbsRDMAError("Failed to post send", error)
            next_wr = next_wr.next_wr

    def _post_send(self, wr: SendWR) -> int:
        """Post this one; returns an errno, or 0."""
        sg = wr.elements()
        length = sum(element[1] for element in sg)
        error = self._refusal(wr, len(sg), length)
        if error:
            return error
        requester = self.requester
        opcode = wr.opcode
        flags = wr.send_flags
        inline = None
        if flags & _INLINE:  # R11
            inline = copy_inline(self._host.memory, sg)
            if inline is None:
                return errno.EFAULT
        is_read = opcode == _RDMA_READ
        visible_ns = self._charge_post(0 if is_read else length)
        requester.posted += 1
        packets = -(-length // requester.mtu) or 1  # R43
        psn = requester.next_psn
        work = SendWork(
            wr.wr_id,
            int(opcode),
            sg,
            length,
            wr.remote_addr,
            wr.rkey,
            self._signal_all or flags & _SIGNALED != 0,
            opcode == _RDMA_WRITE
            and not flags & _NOT_PLAIN
            and len(sg) == 1
            and length >= requester.stream_min_bytes,
            visible_ns,
            requester.posted,
            packets,
            psn,
            (psn + packets) & PSN_MASK,
            wr.imm_data,
            flags,
            inline,
            is_read,
        )
        if self._state == ERR:
            requester.refuse(work)  # R19
        else:
            requester.post(work)
        return 0

    def _refusal(self, wr: SendWR, sges: int, length: int) -> int:
        """Why it cannot be posted: an errno, or 0."""
        if self._state < RTS or self._closed:  # R6
            return errno.EINVAL
        opcode = wr.opcode
        if not 0 <= opcode <= _RDMA_READ:
            return errno.EOPNOTSUPP
        if self.requester.posted - self.requester.retired >= self._max_send_wr:  # R10
            return errno.ENOMEM
        inline = wr.send_flags & _INLINE
        if inline and opcode == _RDMA_READ:  # R11
            return errno.EINVAL
        if sges > self._cap.max_send_sge or (inline and length > self._cap.max_inline_data):
            return self.device.profile.oversized_send_errno
        return 0

    def post_recv(self, wr: RecvWR, bad_wr: RecvWR | None = None) -> None:
        """Post a receive and those linked behind it; errors as `post_send` (R5, R8, R10)."""
        next_wr: RecvWR | None = wr
        while next_wr is not None:
            error = self._post_recv(next_wr)
            if error:
                if bad_wr is not None:
                    bad_wr.become(next_wr)
                raise PyverbsRDMAError("Failed to post recv", error)
            next_wr = next_wr.next_wr

    def _post_recv(self, wr: RecvWR) -> int:
        if self._state == RESET or self._closed:  # R5
            return errno.EINVAL
        responder = self.responder
        if responder.posted - responder.retired >= self._cap.max_recv_wr:
            return errno.ENOMEM
        sg = wr.elements()
        if len(sg) > self._cap.max_recv_sge:
            return errno.EINVAL
        self._host.charge(self._post_ns)
        responder.posted += 1
        work = ReceiveWork(wr.wr_id, sg, sum(element[1] for element in sg), self._host.now_ns(), responder.posted)
        if self._state == ERR:
            responder.complete(work, e.IBV_WC_WR_FLUSH_ERR, e.IBV_WC_RECV, 0, None)
        else:
            responder.receives.append(work)
        return 0

    def close(self) -> None:
        """Destroy the queue pair. What it has under way is lost without a completion."""
        if self._closed:
            return
        self._closed = True
        self.abandon()
        del self.device.qps[self.qp_num]
        for cq in (self.send_cq, self.recv_cq):
            cq.remove_ref(self)
        self.pd.remove_ref(self)


class QPEx(NotModelled):
    """Extended queue pairs."""


class ECE(NotModelled):
    """Enhanced connection establishment."""


__all__ = ["ECE", "QP", "QPAttr", "QPCap", "QPEx", "QPInitAttr", "QPInitAttrEx"]
