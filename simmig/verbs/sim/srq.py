"""Shared receive queues (module pyverbs.srq)."""

from __future__ import annotations

import errno
from collections import deque
from typing import Any

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.base import PyverbsCM
from simmig.verbs.sim.parts import QueuePair
from simmig.verbs.sim.pd import PD
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError
from simmig.verbs.sim.work import ReceiveWork
from simmig.verbs.sim.wr import RecvWR


class SrqAttr:
    """Its limits: work requests, elements of one, and below how many left it is told once (R45)."""

    def __init__(self, max_wr: int = 100, max_sge: int = 1, srq_limit: int = 0) -> None:
        self.max_wr = max_wr
        self.max_sge = max_sge
        self.srq_limit = srq_limit


class SrqInitAttr:
    """What one is created with."""

    def __init__(self, attr: SrqAttr | None = None) -> None:
        self.attr = attr or SrqAttr()

    @property
    def max_wr(self) -> int:
        """Work requests."""
        return self.attr.max_wr

    @property
    def max_sge(self) -> int:
        """Scatter elements of one."""
        return self.attr.max_sge

    @property
    def srq_limit(self) -> int:
        """Ignored at creation; man ibv_create_srq(3)."""
        return self.attr.srq_limit


class SRQ(PyverbsCM):
    """Receives that the queue pairs of a domain share. Whose turn it is, its message takes the oldest."""

    def __init__(self, creator: PD, attr: SrqInitAttr) -> None:
        self.pd = creator
        self.device = creator.device
        profile = self.device.profile
        if creator.closed or not 0 < attr.max_wr <= profile.max_work_requests or attr.max_sge > profile.max_sges:
            raise PyverbsRDMAError("Failed to create SRQ", errno.EINVAL)
        self._max_wr = profile.queue_slots(attr.max_wr)
        self._max_sge = max(attr.max_sge, 1)
        self._limit = 0
        self.receives: deque[ReceiveWork] = deque()
        self._free = self._max_wr
        self._qps: dict[QueuePair, None] = {}
        self._closed = False
        creator.add_ref(self)

    def post_recv(self, wr: RecvWR, bad_wr: RecvWR | None = None) -> None:
        """Post a receive and those linked behind it; errors as of a queue pair's."""
        next_wr: RecvWR | None = wr
        while next_wr is not None:
            error = self._post(next_wr)
            if error:
                if bad_wr is not None:
                    bad_wr.become(next_wr)
                raise PyverbsRDMAError("Failed to post receive to SRQ.", error)
            next_wr = next_wr.next_wr

    def _post(self, wr: RecvWR) -> int:
        sg = wr.elements()
        if self._closed or len(sg) > self._max_sge:
            return errno.EINVAL
        if not self._free:
            return errno.ENOMEM
        self._free -= 1
        host = self.device.host
        self.receives.append(ReceiveWork(wr.wr_id, sg, sum(element[1] for element in sg), host.now_ns(), 0))
        return 0

    def modify(self, attr: SrqAttr, comp_mask: int) -> None:
        """Set the limit, or the size; raises PyverbsRDMAError (EINVAL)."""
        size = attr.max_wr if comp_mask & e.IBV_SRQ_MAX_WR else self._max_wr
        used = self._max_wr - self._free
        limit = attr.srq_limit if comp_mask & e.IBV_SRQ_LIMIT else self._limit
        if comp_mask & ~(e.IBV_SRQ_MAX_WR | e.IBV_SRQ_LIMIT) or not used <= size or not 0 <= limit <= size:
            raise PyverbsRDMAError("Failed to modify SRQ", errno.EINVAL)
        if comp_mask & e.IBV_SRQ_MAX_WR:
            self._max_wr = self.device.profile.queue_slots(size)
            self._free = self._max_wr - used
        self._limit = limit

    def query(self) -> SrqAttr:
        """Its limits; that of the event is 0 once it has been told."""
        return SrqAttr(self._max_wr, self._max_sge, self._limit)

    def taken(self) -> None:
        """A message has taken a receive: below the limit that is told once (R45)."""
        if len(self.receives) < self._limit:
            self._limit = 0
            self.pd.ctx.raise_event(e.IBV_EVENT_SRQ_LIMIT_REACHED, self)

    @property
    def retired(self) -> int:
        """Counts slots that come free; set by whoever completes or polls."""
        return self._free

    @retired.setter
    def retired(self, ordinal: Any) -> None:
        self._free += 1

    def add_ref(self, qp: QueuePair) -> None:
        """A queue pair takes its receives from here."""
        self._qps[qp] = None

    def remove_ref(self, qp: QueuePair) -> None:
        """It no longer does."""
        self._qps.pop(qp, None)

    def close(self) -> None:
        """Destroy it, its queue pairs first as pyverbs does."""
        if self._closed:
            return
        for qp in [*self._qps]:
            qp.close()
        self._closed = True
        self.receives.clear()
        self.pd.remove_ref(self)
