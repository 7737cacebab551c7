"""Attributes of queue pairs, as pyverbs has them; users import them from `qp`."""

from __future__ import annotations

from typing import Any

from simmig.verbs.pyverbs import enums as e
from simmig.verbs.pyverbs.base import PyverbsObject, PyverbsUserError, c_number, lines, only
from simmig.verbs.pyverbs.pd import PD
from simmig.verbs.pyverbs.utils import (
    access_flags_to_str,
    flags_to_str,
    mig_state_to_str,
    mtu_to_str,
    qp_state_to_str,
    qp_type_to_str,
)
from simmig.verbs.sim import addr as sim_addr
from simmig.verbs.sim import qp_attr as sim

_CAPS = ("max_send_wr", "max_recv_wr", "max_send_sge", "max_recv_sge", "max_inline_data")
_CAP_NAMES = ("max send WR", "max recv WR", "max send SGE", "max recv SGE", "max inline data")
_BYTES = (
    *(
        "port_num",
        "alt_port_num",
        "max_rd_atomic",
        "max_dest_rd_atomic",
        "min_rnr_timer",
        "timeout",
        "alt_timeout",
    ),
    *("retry_cnt", "rnr_retry", "en_sqd_async_notify"),
)
_WORDS = ("qkey", "rq_psn", "sq_psn", "dest_qp_num", "qp_access_flags", "rate_limit", "qp_state", "cur_qp_state")
_BITS = {**dict.fromkeys(_BYTES, 8), **dict.fromkeys(_WORDS, 32), "pkey_index": 16, "alt_pkey_index": 16}
_BITS |= {"path_mtu": 32, "path_mig_state": 32}


class QPCap(sim.QPCap, PyverbsObject):
    """Capacities."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, c_number(value, 32))


class _Caps(PyverbsObject):
    """The capacities' own properties, on what has them."""

    _cap: QPCap

    @property
    def cap(self) -> QPCap:
        """A copy of the capacities."""
        return QPCap(*(getattr(self._cap, name) for name in _CAPS))

    @cap.setter
    def cap(self, val: sim.QPCap) -> None:
        self._cap = QPCap(*(getattr(val, name) for name in _CAPS))

    def __getattr__(self, name: str) -> Any:
        if name in _CAPS:
            return getattr(self._cap, name)
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _CAPS:
            setattr(self._cap, name, value)
        else:
            super().__setattr__(name, value)

    def _cap_fields(self) -> list[tuple[str, Any]]:
        return [("  " + word, getattr(self._cap, name)) for word, name in zip(_CAP_NAMES, _CAPS, strict=True)]


def _checked_cq(cq: Any) -> Any:
    if cq is not None and type(cq).__name__ not in ("CQ", "CQEX"):
        raise PyverbsUserError(f"Expected CQ/CQEX, got {type(cq)}")
    return cq


class QPInitAttr(_Caps):
    """What a queue pair is made with. Mind the defaults: datagrams, and every send signalled."""

    written_back = True

    def __init__(
        self,
        qp_type: int = e.IBV_QPT_UD,
        qp_context: Any = None,
        scq: Any = None,
        rcq: Any = None,
        srq: Any = None,
        cap: QPCap | None = None,
        sq_sig_all: int = 1,
    ) -> None:
        self._cap = QPCap(0, 0, 0, 0, 0) if cap is None else cap.copy()  # type: ignore[assignment]
        self.cap = self._cap
        self.qp_type = qp_type
        self.qp_context = qp_context
        self.send_cq = _checked_cq(scq)
        self.recv_cq = _checked_cq(rcq)
        self.srq = srq
        self.sq_sig_all = int(sq_sig_all)

    def __str__(self) -> str:
        return lines(
            ("QP type", qp_type_to_str(self.qp_type)), ("SQ sig. all", self.sq_sig_all), *self._cap_fields()
        )


class QPInitAttrEx(QPInitAttr):
    """The same, and more."""

    def __init__(
        self,
        qp_type: int = e.IBV_QPT_UD,
        qp_context: Any = None,
        scq: Any = None,
        rcq: Any = None,
        srq: Any = None,
        cap: QPCap | None = None,
        sq_sig_all: int = 0,
        comp_mask: int = 0,
        pd: PD | None = None,
        xrcd: Any = None,
        create_flags: int = 0,
        max_tso_header: int = 0,
        source_qpn: int = 0,
        hash_conf: Any = None,
        ind_table: Any = None,
        send_ops_flags: int = 0,
    ) -> None:
        super().__init__(qp_type, qp_context, scq, rcq, srq, cap, sq_sig_all)
        self.comp_mask = int(comp_mask)
        self.pd = pd
        self.xrcd = xrcd
        self.create_flags = int(create_flags)
        self.max_tso_header = max_tso_header
        self.source_qpn = source_qpn
        self.hash_conf = hash_conf
        self.ind_table = ind_table
        self.send_ops_flags = int(send_ops_flags)

    def mask_to_str(self, mask: int) -> str:
        """The words of the mask."""
        return flags_to_str(mask, {int(v): n for n, v in e.ibv_qp_init_attr_mask.__members__.items()})

    def flags_to_str(self, flags: int) -> str:
        """The words of the creation flags."""
        return flags_to_str(flags, {int(v): n for n, v in e.ibv_qp_create_flags.__members__.items()})

    def __str__(self) -> str:
        return super().__str__() + lines(
            ("comp mask", self.mask_to_str(self.comp_mask)),
            ("create flags", self.flags_to_str(self.create_flags)),
            ("max TSO header", self.max_tso_header),
            ("Source QPN", self.source_qpn),
        )


class QPAttr(sim.QPAttr, PyverbsObject):
    """What modify sets and query tells."""

    written_back = True

    def __setattr__(self, name: str, value: Any) -> None:
        bits = _BITS.get(name)
        if name in ("ah_attr", "alt_ah_attr"):
            only(value, sim_addr.AHAttr, name)
        super().__setattr__(name, value if bits is None else c_number(value, bits))

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        return None, {name: getattr(self, name) for name in sim.QPAttr.__slots__}

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        for name, value in state[1].items():
            object.__setattr__(self, name, value)

    @property
    def cap(self) -> QPCap:
        """A copy of the capacities."""
        return QPCap(*(getattr(self._cap, name) for name in _CAPS))

    @cap.setter
    def cap(self, val: sim.QPCap) -> None:
        self._cap = QPCap(*(getattr(val, name) for name in _CAPS))

    @classmethod
    def of(cls, known: sim.QPAttr) -> QPAttr:
        """The device's attributes as a program's."""
        attr = cls()
        for name in sim.QPAttr.__slots__:
            object.__setattr__(attr, name, getattr(known, name))
        return attr

    def __str__(self) -> str:
        return lines(
            ("QP state", qp_state_to_str(self.qp_state)),
            ("QP current state", qp_state_to_str(self.cur_qp_state)),
            ("Path MTU", mtu_to_str(self.path_mtu)),
            ("Path mig. state", mig_state_to_str(self.path_mig_state)),
            ("QKey", self.qkey),
            ("RQ PSN", self.rq_psn),
            ("SQ PSN", self.sq_psn),
            ("Dest QP number", self.dest_qp_num),
            ("QP access flags", access_flags_to_str(self.qp_access_flags)),
            ("PKey index", self.pkey_index),
            ("Alt. PKey index", self.alt_pkey_index),
            ("En. SQD async notify", self.en_sqd_async_notify),
            ("SQ draining", self.sq_draining),
            ("Max RD atomic", self.max_rd_atomic),
            ("Max dest. RD atomic", self.max_dest_rd_atomic),
            ("Min RNR timer", self.min_rnr_timer),
            ("Port number", self.port_num),
            ("Timeout", self.timeout),
            ("Retry counter", self.retry_cnt),
            ("RNR retry", self.rnr_retry),
            ("Alt. port number", self.alt_port_num),
            ("Alt. timeout", self.alt_timeout),
            ("Rate limit", self.rate_limit),
        )


class QPRateLimitAttr(PyverbsObject):
    """Pacing of a queue pair, which the device has not."""

    def __init__(self, rate_limit: int = 0, max_burst_sz: int = 0, typical_pkt_sz: int = 0) -> None:
        self.rate_limit = rate_limit
        self.max_burst_sz = max_burst_sz
        self.typical_pkt_sz = typical_pkt_sz


class ECE(PyverbsObject):
    """Options of enhanced connection establishment: none."""

    def __init__(self, vendor_id: int = 0, options: int = 0, comp_mask: int = 0) -> None:
        self.vendor_id = vendor_id
        self.options = options
        self.comp_mask = comp_mask

    def __str__(self) -> str:
        return "ECE:\n" + lines(
            ("Vendor ID", self.vendor_id), ("Options", self.options), ("Comp Mask", self.comp_mask)
        )
