"""Shared receive queues (module pyverbs.srq)."""

from __future__ import annotations

import errno
from typing import Any

from simmig.verbs.pyverbs import enums as e
from simmig.verbs.pyverbs.absent import Absent
from simmig.verbs.pyverbs.base import PyverbsObject, PyverbsRDMAError, Resource, WeakSet, c_number, close_all, only
from simmig.verbs.pyverbs.device import Context
from simmig.verbs.pyverbs.pd import PD
from simmig.verbs.pyverbs.wr import RecvWR
from simmig.verbs.sim import srq as sim


class SrqAttr(sim.SrqAttr, PyverbsObject):
    """Limits of one."""

    def __init__(self, max_wr: int = 100, max_sge: int = 1, srq_limit: int = 0) -> None:
        super().__init__(c_number(max_wr, 32), c_number(max_sge, 32), c_number(srq_limit, 32))


class SrqInitAttr(sim.SrqInitAttr, PyverbsObject):
    """What one is made with."""


class SrqInitAttrEx(PyverbsObject):
    """The same, and its kind; only the basic one is there."""

    def __init__(self, max_wr: int = 100, max_sge: int = 1, srq_limit: int = 0) -> None:
        self.attr = SrqAttr(max_wr, max_sge, srq_limit)
        self.comp_mask = 0
        self.srq_type = int(e.IBV_SRQT_BASIC)
        self.pd: PD | None = None
        self.xrcd: Any = None
        self.cq: Any = None
        self.max_num_tags = self.max_ops = 0

    @property
    def max_wr(self) -> int:
        """Work requests."""
        return self.attr.max_wr

    @property
    def max_sge(self) -> int:
        """Elements of one."""
        return self.attr.max_sge

    @property
    def srq_limit(self) -> int:
        """Ignored at creation."""
        return self.attr.srq_limit


class OpsWr(Absent):
    """Operations of tag matching."""


class SRQ(Resource):
    """A shared receive queue, of a PD and SrqInitAttr, or of a Context and SrqInitAttrEx."""

    def __init__(self, creator: Any, attr: Any) -> None:
        if isinstance(creator, PD):
            only(attr, sim.SrqInitAttr, "attr")
            self._pd: PD | None = creator
            init = attr
        elif isinstance(creator, Context):
            only(attr, SrqInitAttrEx, "attr")
            if attr.srq_type != e.IBV_SRQT_BASIC or attr.pd is None:
                raise PyverbsRDMAError("Failed to create SRQ", errno.EOPNOTSUPP if attr.pd else errno.EINVAL)
            self._pd = attr.pd
            init = sim.SrqInitAttr(attr.attr)
        else:
            raise PyverbsRDMAError("Srq needs either Context or PD for creation")
        assert self._pd is not None
        self.sim = sim.SRQ(self._pd.sim, init)
        self._qps: WeakSet[Any] = WeakSet()
        self._pd.add_ref(self)
        self._closed = False

    def add_ref(self, obj: Any) -> None:
        """A queue pair takes its receives from here."""
        self._qps.add(obj)

    def get_srq_num(self) -> int:
        """Its number: only others than basic ones have any."""
        raise PyverbsRDMAError("Failed to retrieve SRQ number", errno.EOPNOTSUPP)

    def modify(self, attr: SrqAttr, comp_mask: int) -> None:
        """Set its limits."""
        self.sim.modify(attr, int(comp_mask))

    def query(self) -> SrqAttr:
        """Its limits."""
        known = self.sim.query()
        return SrqAttr(known.max_wr, known.max_sge, known.srq_limit)

    def post_recv(self, wr: RecvWR, bad_wr: RecvWR | None = None) -> None:
        """Post a receive."""
        self.sim.post_recv(only(wr, RecvWR, "wr"), bad_wr)

    def post_srq_ops(self, wr: Any, bad_wr: Any = None) -> None:
        """Tag matching: refused (EOPNOTSUPP)."""
        raise PyverbsRDMAError("post SRQ ops failed.", errno.EOPNOTSUPP)

    def close(self) -> None:
        """Destroy it, its queue pairs first."""
        if self._closed:
            return
        close_all(self._qps)
        self._closed = True
        self.sim.close()
        self._pd = None
