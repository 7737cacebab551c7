"""The states of a queue pair, and the ways between them (R1 to R7)."""

from __future__ import annotations

import errno
from typing import Any

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.base import PyverbsCM
from simmig.verbs.sim.cq import CQ
from simmig.verbs.sim.nic import SimDevice
from simmig.verbs.sim.pd import PD
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError
from simmig.verbs.sim.qp_attr import QPAttr, QPCap, QPInitAttr
from simmig.verbs.sim.qp_rules import ATTRIBUTES, ERR, INIT, RESET, RTR, RTS, SQD, SQE, STEPS, check_modify

_MTU_BYTES = {1: 256, 2: 512, 3: 1024, 4: 2048, 5: 4096}


class QPStates(PyverbsCM):
    """What `QP` is made of beside its queues."""

    device: SimDevice
    pd: PD
    send_cq: CQ
    recv_cq: CQ
    srq: Any
    qp_type: int
    qp_num: int
    dest_qp_num: int
    access_flags: int
    requester: Any
    responder: Any
    _attr: QPAttr
    _cap: QPCap
    _state: int
    _shown_state: int
    _signal_all: bool
    _drained: bool
    _closed: bool

    def _make_halves(self) -> None:
        """New queues, in RESET."""
        raise NotImplementedError

    @property
    def qp_state(self) -> int:
        """The state as this process last learnt it, by modify or query: the device does not announce ERR."""
        return self._shown_state

    def to_init(self, qp_attr: QPAttr) -> None:
        """Go from RESET to INIT."""
        self._step(qp_attr, INIT, STEPS[self.qp_type][0], "Failed to modify QP state to init")

    def to_rtr(self, qp_attr: QPAttr) -> None:
        """Go to RTR, through INIT if need be."""
        if self.qp_state != INIT:
            self.to_init(qp_attr)
        self._step(qp_attr, RTR, STEPS[self.qp_type][1], "Failed to modify QP state to RTR")

    def to_rts(self, qp_attr: QPAttr) -> None:
        """Go to RTS, through the states before it if need be."""
        if self.qp_state != RTR:
            self.to_rtr(qp_attr)
        self._step(qp_attr, RTS, STEPS[self.qp_type][2], "Failed to modify QP state to RTS")

    def modify(self, qp_attr: QPAttr, comp_mask: int) -> None:
        """Set the attributes in the mask; raises PyverbsRDMAError and changes nothing when it may not (R3)."""
        self._modify(qp_attr, int(comp_mask), "Failed to modify QP")

    def query(self, attr_mask: int) -> tuple[QPAttr, QPInitAttr]:
        """All attributes, whatever the mask asks for; packet numbers are those of the next packets."""
        self._shown_state = self._state
        attr = self._attr.copy()
        attr.qp_state = attr.cur_qp_state = self._state
        attr.cap = self._cap.copy()
        if self._state in (RTS, SQD):
            attr.sq_psn = self.requester.next_psn
        if self.responder.open:
            attr.rq_psn = self.responder.expected_psn
        attr.sq_draining = int(self._state == SQD and not self._drained)
        init_attr = QPInitAttr(
            self.qp_type, None, self.send_cq, self.recv_cq, self.srq, self._cap.copy(), self._signal_all
        )
        return attr, init_attr

    def _step(self, attr: QPAttr, state: int, mask: int, message: str) -> None:
        attr.qp_state = state
        self._modify(attr, mask | e.IBV_QP_STATE, message)

    def _modify(self, attr: QPAttr, mask: int, message: str) -> None:
        error = errno.EINVAL if self._closed else check_modify(self.device, self._state, attr, mask, self.qp_type)
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
                self._change_running(before, target, mask)

    def _ready_to_receive(self) -> None:
        known = self._attr
        self.dest_qp_num = known.dest_qp_num
        self._route()
        self.responder.start(self.requester.direction, self.requester.mtu, known)

    def _route(self) -> None:
        known = self._attr
        direction = self.device.routes[str(known.ah_attr.dgid)]
        gid = self.device.gids[known.ah_attr.sgid_index or 0]
        self.requester.route(direction, _MTU_BYTES[known.path_mtu], gid)

    def _change_running(self, before: int, target: int, mask: int) -> None:
        if target in (RTS, SQD):
            known = self._attr
            if mask & e.IBV_QP_AV:
                self._route()
                self.responder.follow(self.requester.direction, known)
            self.responder.retime(known.min_rnr_timer)
            self.responder.max_reads = known.max_dest_rd_atomic
            self.requester.max_reads = known.max_rd_atomic
            self.requester.retime(known.timeout, known.retry_cnt, known.rnr_retry)
        if (before, target) == (RTS, SQD):
            self._drained = False
            self._tells_drained = bool(mask & e.IBV_QP_EN_SQD_ASYNC_NOTIFY and self._attr.en_sqd_async_notify)
            self.requester.drain()
        elif before in (SQD, SQE) and target == RTS:
            self.requester.resume()

    def _reset(self) -> None:
        self._state = RESET
        self.abandon()
        if self.device.profile.reset_purges_completions:  # R21
            for cq in (self.send_cq, self.recv_cq):
                cq.purge(self.qp_num)
        self._make_halves()
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
        if self.srq is not None:
            self.raise_event(e.IBV_EVENT_QP_LAST_WQE_REACHED)

    def enter_send_error(self) -> None:
        """Go to SQE: what is queued to be sent completes as flushed, receiving goes on (IBA volume 1, 10.3.1)."""
        self._state = SQE
        self.requester.flush()

    _tells_drained = False

    def sq_drained(self) -> None:
        """The send queue has nothing under way any more; told when that was asked for (EN_SQD_ASYNC_NOTIFY)."""
        if not self._drained:
            self._drained = True
            if self._tells_drained:
                self.raise_event(e.IBV_EVENT_SQ_DRAINED)

    def communication_established(self) -> None:
        """The first packet has come; only news while this side has not gone to RTS yet."""
        if self._state == RTR:
            self.raise_event(e.IBV_EVENT_COMM_EST)

    def raise_event(self, event_type: int) -> None:
        """Queue an asynchronous event about this queue pair."""
        self.pd.ctx.raise_event(event_type, self)
