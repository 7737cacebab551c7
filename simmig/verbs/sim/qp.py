"""Queue pairs (module pyverbs.qp)."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import ClassVar

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.base import NotModelled, not_modelled
from simmig.verbs.sim.buffers import copy_inline
from simmig.verbs.sim.pd import PD
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError
from simmig.verbs.sim.qp_attr import QPAttr, QPCap, QPInitAttr, QPInitAttrEx
from simmig.verbs.sim.qp_rules import ERR, RC, RESET, RTS, SQE, UD, granted, told
from simmig.verbs.sim.qp_states import QPStates
from simmig.verbs.sim.responder import Responder
from simmig.verbs.sim.stream import StreamingRequester
from simmig.verbs.sim.windows import LOCAL_OPERATIONS
from simmig.verbs.sim.work import ATOMIC_BYTES, PSN_MASK, ReceiveWork, SendWork
from simmig.verbs.sim.wr import RecvWR, SendWR, SgList

_SIGNALED = int(e.IBV_SEND_SIGNALED)
_INLINE = int(e.IBV_SEND_INLINE)
_SEND = int(e.IBV_WR_SEND)
_RDMA_READ = int(e.IBV_WR_RDMA_READ)
_RDMA_WRITE = int(e.IBV_WR_RDMA_WRITE)
_NOT_PLAIN = ~_SIGNALED
_ATOMICS = (int(e.IBV_WR_ATOMIC_CMP_AND_SWP), int(e.IBV_WR_ATOMIC_FETCH_AND_ADD))
_ATOMIC_WRITE = int(e.IBV_WR_ATOMIC_WRITE)
_READS = (_RDMA_READ, *_ATOMICS, _ATOMIC_WRITE)
_KNOWN = {*range(_RDMA_READ + 1), *_ATOMICS, *LOCAL_OPERATIONS, int(e.IBV_WR_SEND_WITH_INV), _ATOMIC_WRITE}


class QP(QPStates):
    """A queue pair, at first in RESET (with `qp_attr` in INIT, an unconnected one in RTS).

    Reliable connections are this class' own; UC and UD are made as `datagrams.UnreliableQP`.
    """

    transports: tuple[int, ...] = (RC,)
    of_transport: ClassVar[dict[int, type[QP]]] = {}
    """What makes the queue pairs of other transports; `datagrams` says so."""

    def __new__(cls, creator: PD, init_attr: QPInitAttr, qp_attr: QPAttr | None = None) -> QP:
        """Of the class that knows the transport."""
        return object.__new__(QP.of_transport.get(init_attr.qp_type, cls) if cls is QP else cls)

    def __init__(self, creator: PD, init_attr: QPInitAttr, qp_attr: QPAttr | None = None) -> None:
        if not isinstance(creator, PD) or init_attr.qp_type not in self.transports:
            not_modelled("queue pairs other than RC, UC and UD ones of a PD")
        send_cq, recv_cq, srq = init_attr.send_cq, init_attr.recv_cq, init_attr.srq
        self.device = creator.device
        asked = init_attr.cap
        if srq is not None:
            asked.max_recv_wr = asked.max_recv_sge = 0
        cap = granted(self.device.profile, asked)
        if cap is None or send_cq is None or recv_cq is None or creator.closed:
            raise PyverbsRDMAError("Failed to create QP", errno.EINVAL)
        owners = [cq.context for cq in (send_cq, recv_cq)] + ([] if srq is None else [srq.pd.ctx])
        if any(owner is not creator.ctx for owner in owners):
            raise PyverbsRDMAError("Failed to create QP: a CQ or SRQ of another context", errno.EINVAL)
        self.pd = creator
        self.send_cq = send_cq
        self.recv_cq = recv_cq
        self.srq = srq
        self.qp_type = int(init_attr.qp_type)
        self.qp_num = self.device.new_qp_num()
        self.dest_qp_num = 0
        self.access_flags = 0
        self._cap = cap
        init_attr.cap = told(self.device.profile, asked, cap)  # R9: the caller learns what was granted
        self._max_send_wr = cap.max_send_wr
        self._signal_all = bool(init_attr.sq_sig_all)
        self._host = self.device.host
        costs = self._host.costs
        self._post_ns, self._post_byte_ns = costs.post_ns, costs.post_byte_ns
        self._state = self._shown_state = RESET
        self._drained = False
        self._closed = False
        self._attr = QPAttr(qp_state=RESET)
        self._make_halves()
        self.device.qps[self.qp_num] = self
        for cq in (send_cq, recv_cq):
            cq.add_ref(self)
        if srq is not None:
            srq.add_ref(self)
        creator.add_ref(self)
        if qp_attr is not None:
            (self.to_rts if self.qp_type == UD else self.to_init)(qp_attr)

    def _make_halves(self) -> None:
        self.requester = StreamingRequester(self)
        self.responder = Responder(self)

    # --- posting ----------------------------------------------------------------------------------------------

    def post_send(self, wr: SendWR, bad_wr: SendWR | None = None) -> None:
        """Post a send, write or read, and those linked behind it.

        Stops at the first bad one, which `bad_wr` then tells (R8); raises PyverbsRDMAError: EINVAL, ENOMEM when
        the queue is full (R10), EOPNOTSUPP for what is not modelled.
        """
        requester = self.requester
        flags = wr.send_flags
        ordinal = requester.posted + 1
        opcode = wr.opcode
        if (
            opcode not in (_RDMA_WRITE, _SEND)
            or wr.num_sge != 1
            or wr.shared_sge is not None
            or wr.next_wr is not None
            or flags & _NOT_PLAIN
            or ordinal - requester.retired > self._max_send_wr
            or self._state != RTS
        ):
            self._post_sends(wr, bad_wr)
            return
        # What follows is what `_post_send` does for any work request, for those that are posted by the thousand.
        sg = wr.sg
        length = sg[0][1]
        visible_ns = self._charge_post(length) if self._post_byte_ns else self._host.spend(self._post_ns)
        packets = -(-length // requester.mtu) or 1
        psn = requester.next_psn
        end_psn = (psn + packets) & PSN_MASK
        requester.next_psn = end_psn
        requester.posted = ordinal
        requester.pending.append(
            SendWork(
                wr.wr_id,
                int(opcode),
                sg,
                length,
                wr.remote_addr,
                wr.rkey,
                flags != 0 or self._signal_all,
                opcode == _RDMA_WRITE and length >= requester.stream_min_bytes,
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
        visible_ns = host.spend(self._post_ns)
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
        length = _length(wr, sg)
        error = self._refusal(wr, len(sg), length)
        if error:
            return error
        requester = self.requester
        opcode = wr.opcode
        flags = wr.send_flags
        inline = None
        if flags & _INLINE and opcode not in _READS:  # R11
            inline = copy_inline(self._host.memory, sg)
            if inline is None:
                return errno.EFAULT
        is_read = opcode in _READS
        visible_ns = self._charge_post(0 if is_read else length)
        requester.posted += 1
        packets = 0 if opcode in LOCAL_OPERATIONS else -(-length // requester.mtu) or 1  # R43
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
            wr.extra,
        )
        if self._state >= SQE:
            requester.refuse(work)  # R19
        else:
            requester.post(work)
        return 0

    def _refusal(self, wr: SendWR, sges: int, length: int) -> int:  # noqa: PLR0911  (a rule each)
        """Why it cannot be posted: an errno, or 0."""
        if self._state < RTS or self._closed:  # R6
            return errno.EINVAL
        opcode = wr.opcode
        profile = self.device.profile
        if opcode not in _KNOWN or (opcode == _ATOMIC_WRITE and not profile.has_atomic_writes):
            return errno.EOPNOTSUPP
        if self.requester.posted - self.requester.retired >= self._max_send_wr:  # R10
            return errno.ENOMEM
        inline = wr.send_flags & _INLINE
        if inline and opcode >= _RDMA_READ and not profile.takes_inline_reads:  # R11
            return errno.EINVAL
        if (opcode in _ATOMICS or opcode == _ATOMIC_WRITE) and length != ATOMIC_BYTES:
            return errno.EINVAL
        if sges > self._cap.max_send_sge or (inline and length > self._cap.max_inline_data):
            return profile.oversized_send_errno
        return 0

    def refusal_of(self, wrs: Sequence[SendWR]) -> int:
        """Why these cannot all be posted: an errno, or 0."""
        for wr in wrs:
            sg = wr.elements()
            error = self._refusal(wr, len(sg), _length(wr, sg))
            if error:
                return error
        free = self._max_send_wr - (self.requester.posted - self.requester.retired)
        return errno.ENOMEM if len(wrs) > free else 0

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
        if self.srq is not None:
            return errno.EINVAL
        if responder.posted - responder.retired >= self._cap.max_recv_wr:
            return errno.ENOMEM
        sg = wr.elements()
        if len(sg) > self._cap.max_recv_sge:
            return errno.EINVAL
        length = sg[0][1] if len(sg) == 1 else sum(element[1] for element in sg)
        responder.posted += 1
        work = ReceiveWork(wr.wr_id, sg, length, self._host.spend(self._post_ns), responder.posted)
        if self._state == ERR and self.device.profile.flushes_receives_posted_in_error:
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
        self._state = RESET
        del self.device.qps[self.qp_num]
        for cq in (self.send_cq, self.recv_cq):
            cq.remove_ref(self)
            if self.device.profile.destruction_purges_completions:
                cq.purge(self.qp_num)
        if self.srq is not None:
            self.srq.remove_ref(self)
        self.pd.remove_ref(self)


def _length(wr: SendWR, sg: SgList) -> int:
    """Bytes that it moves; those of an atomic write are in the work request itself."""
    return len(wr.extra or b"") if wr.opcode == _ATOMIC_WRITE else sum(element[1] for element in sg)


class QPEx(NotModelled):
    """Extended queue pairs."""


class ECE(NotModelled):
    """Enhanced connection establishment."""


__all__ = ["ECE", "QP", "QPAttr", "QPCap", "QPEx", "QPInitAttr", "QPInitAttrEx"]
