"""Attributes of queue pairs, with pyverbs' defaults. Users import them from `qp`, as in pyverbs."""

from __future__ import annotations

from typing import Any

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.addr import AHAttr
from simmig.verbs.sim.base import NotModelled
from simmig.verbs.sim.cq import CQ
from simmig.verbs.sim.pyverbs_error import PyverbsUserError


class QPCap:
    """Capacities of a queue pair's queues."""

    __slots__ = ("max_inline_data", "max_recv_sge", "max_recv_wr", "max_send_sge", "max_send_wr")

    def __init__(
        self,
        max_send_wr: int = 1,
        max_recv_wr: int = 10,
        max_send_sge: int = 1,
        max_recv_sge: int = 1,
        max_inline_data: int = 0,
    ) -> None:
        self.max_send_wr = max_send_wr
        self.max_recv_wr = max_recv_wr
        self.max_send_sge = max_send_sge
        self.max_recv_sge = max_recv_sge
        self.max_inline_data = max_inline_data

    def copy(self) -> QPCap:
        """Another one with the same values."""
        return QPCap(
            self.max_send_wr, self.max_recv_wr, self.max_send_sge, self.max_recv_sge, self.max_inline_data
        )

    def __str__(self) -> str:
        fields = (
            ("max send wrs", self.max_send_wr),
            ("max recv wrs", self.max_recv_wr),
            ("max send sges", self.max_send_sge),
            ("max recv sges", self.max_recv_sge),
            ("max inline data", self.max_inline_data),
        )
        return "".join(f"{name:20}: {value:<20}\n" for name, value in fields)


class QPInitAttr:
    """What a queue pair is created with. Mind the defaults: datagrams, and every send signalled."""

    def __init__(
        self,
        qp_type: int = e.IBV_QPT_UD,
        qp_context: Any = None,
        scq: CQ | None = None,
        rcq: CQ | None = None,
        srq: Any = None,
        cap: QPCap | None = None,
        sq_sig_all: int = 1,
    ) -> None:
        for cq in (scq, rcq):
            if cq is not None and not isinstance(cq, CQ):
                raise PyverbsUserError(f"Expected CQ/CQEX, got {type(cq)}")
        self.qp_type = qp_type
        self.qp_context = qp_context
        self.send_cq = scq
        self.recv_cq = rcq
        self.srq = srq
        self.sq_sig_all = sq_sig_all
        self._cap = QPCap(0, 0, 0, 0, 0) if cap is None else cap.copy()

    @property
    def cap(self) -> QPCap:
        """A copy of the capacities."""
        return self._cap.copy()

    @cap.setter
    def cap(self, val: QPCap) -> None:
        self._cap = val.copy()

    @property
    def max_send_wr(self) -> int:
        """Send work requests."""
        return self._cap.max_send_wr

    @max_send_wr.setter
    def max_send_wr(self, val: int) -> None:
        self._cap.max_send_wr = val

    @property
    def max_recv_wr(self) -> int:
        """Receive work requests."""
        return self._cap.max_recv_wr

    @max_recv_wr.setter
    def max_recv_wr(self, val: int) -> None:
        self._cap.max_recv_wr = val

    @property
    def max_send_sge(self) -> int:
        """Gather elements of a send."""
        return self._cap.max_send_sge

    @max_send_sge.setter
    def max_send_sge(self, val: int) -> None:
        self._cap.max_send_sge = val

    @property
    def max_recv_sge(self) -> int:
        """Scatter elements of a receive."""
        return self._cap.max_recv_sge

    @max_recv_sge.setter
    def max_recv_sge(self, val: int) -> None:
        self._cap.max_recv_sge = val

    @property
    def max_inline_data(self) -> int:
        """Bytes of an inline send."""
        return self._cap.max_inline_data

    @max_inline_data.setter
    def max_inline_data(self, val: int) -> None:
        self._cap.max_inline_data = val


class QPAttr:
    """What modify sets and query tells; the defaults serve the step from RESET to INIT."""

    __slots__ = (
        "_ah_attr",
        "_alt_ah_attr",
        "_cap",
        "alt_pkey_index",
        "alt_port_num",
        "alt_timeout",
        "cur_qp_state",
        "dest_qp_num",
        "en_sqd_async_notify",
        "max_dest_rd_atomic",
        "max_rd_atomic",
        "min_rnr_timer",
        "path_mig_state",
        "path_mtu",
        "pkey_index",
        "port_num",
        "qkey",
        "qp_access_flags",
        "qp_state",
        "rate_limit",
        "retry_cnt",
        "rnr_retry",
        "rq_psn",
        "sq_draining",
        "sq_psn",
        "timeout",
    )

    def __init__(
        self,
        qp_state: int = e.IBV_QPS_INIT,
        cur_qp_state: int = e.IBV_QPS_RESET,
        port_num: int = 1,
        path_mtu: int = e.IBV_MTU_1024,
    ) -> None:
        self.qp_state = qp_state
        self.cur_qp_state = cur_qp_state
        self.port_num = port_num
        self.path_mtu = path_mtu
        self.path_mig_state = 0
        self.qkey = 0
        self.rq_psn = 0
        self.sq_psn = 0
        self.dest_qp_num = 0
        self.qp_access_flags = 0
        self.pkey_index = 0
        self.alt_pkey_index = 0
        self.en_sqd_async_notify = 0
        self.sq_draining = 0
        self.max_rd_atomic = 0
        self.max_dest_rd_atomic = 0
        self.min_rnr_timer = 0
        self.timeout = 0
        self.retry_cnt = 0
        self.rnr_retry = 0
        self.alt_port_num = 0
        self.alt_timeout = 0
        self.rate_limit = 0
        self._cap = QPCap(0, 0, 0, 0, 0)
        self._ah_attr = self._alt_ah_attr = AHAttr(port_num=0)

    @property
    def cap(self) -> QPCap:
        """A copy of the capacities."""
        return self._cap.copy()

    @cap.setter
    def cap(self, val: QPCap) -> None:
        self._cap = val.copy()

    @property
    def ah_attr(self) -> AHAttr:
        """The address vector (a copy)."""
        return self._ah_attr.copy()

    @ah_attr.setter
    def ah_attr(self, val: AHAttr) -> None:
        self._ah_attr = val.copy()

    @property
    def alt_ah_attr(self) -> AHAttr:
        """The address vector of the alternate path (a copy)."""
        return self._alt_ah_attr.copy()

    @alt_ah_attr.setter
    def alt_ah_attr(self, val: AHAttr) -> None:
        self._alt_ah_attr = val.copy()

    def copy(self) -> QPAttr:
        """Another one with the same values."""
        other = QPAttr()
        for name in QPAttr.__slots__:
            setattr(other, name, getattr(self, name))
        other.cap = self._cap
        other.ah_attr = self._ah_attr
        return other


class QPInitAttrEx(NotModelled):
    """Attributes of extended queue pairs."""
