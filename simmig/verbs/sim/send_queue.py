"""The send queue of a queue pair: posting, completing in order, flushing."""

from __future__ import annotations

from collections import deque
from typing import Any, cast

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.cq import WC
from simmig.verbs.sim.link import Direction
from simmig.verbs.sim.parts import QueuePair
from simmig.verbs.sim.waiting import LightEvent
from simmig.verbs.sim.work import PSN_HALF, PSN_MASK, SendWork

_COMPLETION_OPCODES = {
    int(e.IBV_WR_RDMA_WRITE): int(e.IBV_WC_RDMA_WRITE),
    int(e.IBV_WR_RDMA_WRITE_WITH_IMM): int(e.IBV_WC_RDMA_WRITE),
    int(e.IBV_WR_SEND): int(e.IBV_WC_SEND),
    int(e.IBV_WR_SEND_WITH_IMM): int(e.IBV_WC_SEND),
    int(e.IBV_WR_RDMA_READ): int(e.IBV_WC_RDMA_READ),
    int(e.IBV_WR_SEND_WITH_INV): int(e.IBV_WC_SEND),
    int(e.IBV_WR_ATOMIC_CMP_AND_SWP): int(e.IBV_WC_COMP_SWAP),
    int(e.IBV_WR_ATOMIC_FETCH_AND_ADD): int(e.IBV_WC_FETCH_ADD),
    int(e.IBV_WR_ATOMIC_WRITE): int(e.IBV_WC_ATOMIC_WRITE),
    int(e.IBV_WR_BIND_MW): int(e.IBV_WC_BIND_MW),
    int(e.IBV_WR_LOCAL_INV): int(e.IBV_WC_LOCAL_INV),
}


class SendQueue:
    """Work requests wait in `pending` until their last packet has left, then in `unacked` for the answer."""

    __slots__ = (
        "_blocked",
        "_paused",
        "_reads",
        "_timer",
        "acked",
        "device",
        "direction",
        "draining",
        "env",
        "next_psn",
        "pending",
        "posted",
        "progress_ns",
        "qp",
        "qp_num",
        "queued",
        "retired",
        "retries_left",
        "retry_count",
        "rnr_retries_left",
        "rnr_retry_count",
        "sending",
        "slots_free_at_ack",
        "timeout_ns",
        "unacked",
    )

    direction: Direction
    """Where packets go; known from RTR on."""

    def __init__(self, qp: QueuePair) -> None:
        self.qp = qp
        self.qp_num = qp.qp_num
        self.device = qp.device
        self.env: Any = qp.device.host.env
        self.slots_free_at_ack = qp.device.profile.slots_free_at_ack
        self.posted = 0
        self.retired = 0
        self.next_psn = 0
        self.acked = 0  # the peer has everything before this packet
        self.queued = False
        self.sending = False
        self.draining = False
        self.timeout_ns = 0
        self.retry_count = 0
        self.rnr_retry_count = 0
        self.pending: deque[SendWork] = deque()
        self.unacked: deque[SendWork] = deque()
        self._reads = 0  # among the unacked
        self._blocked = False  # the head of `pending` waits for something unacked
        self._paused = False  # by an RNR NAK
        self._timer: LightEvent | None = None
        self.progress_ns = 0
        self.retries_left = 0
        self.rnr_retries_left = 0

    def post(self, work: SendWork) -> None:
        """Add a work request; its packet numbers are settled by now, in posting order."""
        self.next_psn = work.end_psn
        self.pending.append(work)
        if not self.queued and self.sending:
            self.direction.activate(cast(Any, self))

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
        """ERR: what is queued completes as flushed, in posting order (R18)."""
        self.stop()
        works = [*self.unacked, *self.pending]
        self.unacked.clear()
        self.pending.clear()
        self._reads = 0
        for work in works:
            self._complete(work, e.IBV_WC_WR_FLUSH_ERR)

    def stop(self) -> None:
        """Nothing is sent any more, no answer is heard."""
        self.sending = False
        self._timer = None

    def _wake(self, event: LightEvent | None = None) -> None:
        """Send on, if there is something to send."""
        self._blocked = False
        if self.pending and self.sending and not self.queued:
            self.direction.activate(cast(Any, self))

    def _retry(self) -> None:
        """Something of the oldest work request has been lost."""
        raise NotImplementedError

    def _retire(self) -> None:
        """Complete what has been acknowledged, in posting order (R16)."""
        acked = self.acked
        unacked = self.unacked
        while unacked:
            work = unacked[0]
            if (acked - work.end_psn) & PSN_MASK >= PSN_HALF:
                break
            if work.is_read:
                if work.received < work.packets:
                    self._retry()  # what follows was acknowledged: its response has been lost
                    return
                self._reads -= 1
            unacked.popleft()
            self._complete(work, 0)
        else:
            if self.pending and self.pending[0].started:
                self._retire_resent()
        if self._blocked:
            self._wake()
        if self.draining:
            self._check_drained()

    def _retire_resent(self) -> None:
        """Complete what was acknowledged after all while it waited to be sent again."""
        pending = self.pending
        while pending and pending[0].started and not pending[0].is_read:
            work = pending[0]
            if (self.acked - work.end_psn) & PSN_MASK >= PSN_HALF:
                break
            pending.popleft()
            self._complete(work, 0)

    def _complete(self, work: SendWork, status: int) -> None:
        if self.slots_free_at_ack:
            self.retired = work.ordinal
        if work.signaled or status:  # R13
            opcode = _COMPLETION_OPCODES[work.opcode]
            queue = None if self.slots_free_at_ack else self
            length, ordinal = work.length, work.ordinal
            completion = WC(work.wr_id, int(status), opcode, 0, length, self.qp_num, queue=queue, retires=ordinal)
            self.qp.send_cq.push(completion, False)

    def _fail(self, status: int) -> None:
        """The oldest work request fails with that status, and the queue pair with it (R18)."""
        works = self.unacked or self.pending
        if works:
            self._complete(works.popleft(), status)
        self.qp.enter_error()

    def _check_drained(self) -> None:
        pending = self.pending
        if not self.unacked and not (pending and pending[0].started):
            self.qp.sq_drained()
