"""Queue pairs (module pyverbs.qp)."""

from __future__ import annotations

import errno
from typing import Any

from simmig.verbs.pyverbs import enums as e
from simmig.verbs.pyverbs.base import PyverbsRDMAError, PyverbsUserError, Resource, lines, only
from simmig.verbs.pyverbs.device import Context
from simmig.verbs.pyverbs.mr import MW, MWBind
from simmig.verbs.pyverbs.pd import PD
from simmig.verbs.pyverbs.qp_attr import ECE, QPAttr, QPCap, QPInitAttr, QPInitAttrEx, QPRateLimitAttr
from simmig.verbs.pyverbs.utils import qp_state_to_str, qp_type_to_str
from simmig.verbs.pyverbs.wr import RecvWR, SendWR
from simmig.verbs.sim import qp as sim
from simmig.verbs.sim import qp_attr as sim_attr
from simmig.verbs.sim.profiles import Profile
from simmig.verbs.sim.wr import Binding

_CREATE_FLAGS = 4  # IBV_QP_INIT_ATTR_CREATE_FLAGS
_KNOWN_MASK = 1 | 64 | _CREATE_FLAGS  # IBV_QP_INIT_ATTR_PD, _SEND_OPS_FLAGS
_BLOCK_OWN = 2  # IBV_QP_CREATE_BLOCK_SELF_MCAST_LB
_DATAGRAM = e.IBV_QP_EX_WITH_SEND | e.IBV_QP_EX_WITH_SEND_WITH_IMM
_UNRELIABLE = (
    _DATAGRAM
    | e.IBV_QP_EX_WITH_RDMA_WRITE
    | e.IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM
    | e.IBV_QP_EX_WITH_LOCAL_INV
    | e.IBV_QP_EX_WITH_BIND_MW
)
_RELIABLE = (
    _UNRELIABLE
    | e.IBV_QP_EX_WITH_SEND_WITH_INV
    | e.IBV_QP_EX_WITH_RDMA_READ
    | e.IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP
    | e.IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD
)
_OPERATIONS = {2: int(_RELIABLE), 3: int(_UNRELIABLE), 4: int(_DATAGRAM)}
"""What can be sent, by transport (RC, UC, UD), in bits of ibv_qp_create_send_ops_flags."""
_TYPES = (e.IBV_QPT_RC, e.IBV_QPT_UC, e.IBV_QPT_UD)


class QP(Resource):
    """A queue pair, of a PD and QPInitAttr or of a Context and QPInitAttrEx; `qp_attr` moves it on towards RTS."""

    def __init__(self, creator: Any, init_attr: Any, qp_attr: QPAttr | None = None) -> None:
        if isinstance(creator, Context):
            only(init_attr, QPInitAttrEx, "init_attr")
            self._check_extended(init_attr, creator.sim.device.profile)
            pd = init_attr.pd
        elif isinstance(creator, PD):
            pd = creator
        else:
            raise PyverbsUserError(f"Cannot create QP from {type(creator)}")
        if init_attr.qp_type not in _TYPES:
            raise PyverbsRDMAError("Failed to create QP", errno.EOPNOTSUPP)
        if pd is None or init_attr.send_cq is None or init_attr.recv_cq is None:
            raise PyverbsRDMAError("Failed to create QP", errno.EINVAL)
        self.init_attr_cqs = (init_attr.send_cq, init_attr.recv_cq)
        srq = init_attr.srq
        asked = sim_attr.QPInitAttr(
            init_attr.qp_type,
            None,
            init_attr.send_cq.sim,
            init_attr.recv_cq.sim,
            None if srq is None else srq.sim,
            init_attr.cap,
            init_attr.sq_sig_all,
        )
        self.sim = sim.QP(pd.sim, asked)
        init_attr.cap = asked.cap
        self._pd: PD | None = pd
        self._srq = srq
        self._context = creator if isinstance(creator, Context) else pd.ctx
        self._closed = False
        for parent in (pd, *self.init_attr_cqs, *(() if srq is None else (srq,))):
            parent.add_ref(self)
        if qp_attr is not None:
            try:
                (self.sim.to_rts if self.qp_type == e.IBV_QPT_UD else self.sim.to_init)(qp_attr)
            except PyverbsRDMAError:
                self.close()
                raise

    @staticmethod
    def _check_extended(attr: QPInitAttrEx, profile: Profile) -> None:
        taken = _BLOCK_OWN if profile.blocks_own_multicast and attr.qp_type == e.IBV_QPT_UD else 0
        flags = attr.create_flags if attr.comp_mask & _CREATE_FLAGS else 0
        if attr.comp_mask & ~_KNOWN_MASK or flags & ~taken or attr.xrcd is not None or attr.ind_table is not None:
            raise PyverbsRDMAError("Failed to create QP", errno.EOPNOTSUPP)
        known = _OPERATIONS.get(int(attr.qp_type), 0)
        if profile.has_atomic_writes and attr.qp_type == e.IBV_QPT_RC:
            known |= e.IBV_QP_EX_WITH_ATOMIC_WRITE
        if attr.send_ops_flags & ~known:
            raise PyverbsRDMAError("Failed to create QP", errno.EOPNOTSUPP)

    @property
    def qp_type(self) -> int:
        """Its transport."""
        return self.sim.qp_type

    @property
    def qp_state(self) -> int:
        """The state as last learnt."""
        return self.sim.qp_state

    @property
    def qp_num(self) -> int:
        """Its number."""
        return self.sim.qp_num

    def to_init(self, qp_attr: QPAttr) -> None:
        """Go from RESET to INIT."""
        self.sim.to_init(only(qp_attr, QPAttr, "qp_attr"))

    def to_rtr(self, qp_attr: QPAttr) -> None:
        """Go to RTR, through INIT if need be."""
        self.sim.to_rtr(only(qp_attr, QPAttr, "qp_attr"))

    def to_rts(self, qp_attr: QPAttr) -> None:
        """Go to RTS, through the states before it if need be."""
        self.sim.to_rts(only(qp_attr, QPAttr, "qp_attr"))

    def modify(self, qp_attr: QPAttr, comp_mask: int) -> None:
        """Set the attributes in the mask."""
        self.sim.modify(only(qp_attr, QPAttr, "qp_attr"), int(comp_mask))

    def query(self, attr_mask: int) -> tuple[QPAttr, QPInitAttr]:
        """All attributes."""
        attr, init = self.sim.query(int(attr_mask))
        known = QPInitAttr(init.qp_type, None, *self.init_attr_cqs, self._srq, None, init.sq_sig_all)
        known.cap = init.cap
        return QPAttr.of(attr), known

    def post_send(self, wr: SendWR, bad_wr: SendWR | None = None) -> None:
        """Post a send and those linked behind it."""
        next_wr: Any = only(wr, SendWR, "wr")
        bindings = []
        while next_wr is not None:  # a window of the program's is not yet one of the device's
            if isinstance(next_wr.extra, Binding):
                bindings.append((next_wr, next_wr.extra))
                window, info, rkey = next_wr.extra
                next_wr.extra = Binding(window.sim, info.of_device(), rkey)
            next_wr = next_wr.next_wr
        try:
            self.sim.post_send(wr, bad_wr)
        finally:
            for binding, extra in bindings:
                binding.extra = extra

    def post_recv(self, wr: RecvWR, bad_wr: RecvWR | None = None) -> None:
        """Post a receive and those linked behind it."""
        self.sim.post_recv(only(wr, RecvWR, "wr"), bad_wr)

    def bind_mw(self, mw: MW, mw_bind: MWBind) -> None:
        """Bind a window of type 1, by a work request of its own."""
        if only(mw, MW, "mw").type != e.IBV_MW_TYPE_1:
            raise PyverbsRDMAError("Failed to Bind MW", errno.EINVAL)
        wr = SendWR(mw_bind.wr_id, e.IBV_WR_BIND_MW, 0, 0, [], mw_bind.send_flags)
        rkey = mw.rkey & ~0xFF | (mw.rkey + 1) & 0xFF
        wr.extra = Binding(mw.sim, mw_bind.info.of_device(), rkey)
        try:
            self.sim.post_send(wr)
        except PyverbsRDMAError as error:
            raise PyverbsRDMAError("Failed to Bind MW", error.error_code) from None

    def set_ece(self, ece: ECE) -> None:
        """Options: refused (EOPNOTSUPP) unless there are none."""
        if ece.vendor_id:
            raise PyverbsRDMAError("Failed to set ECE", errno.EOPNOTSUPP)

    def query_ece(self) -> ECE:
        """Options: refused (EOPNOTSUPP)."""
        raise PyverbsRDMAError("Failed to query ECE", errno.EOPNOTSUPP)

    def query_data_in_order(self, op: int, flags: int = 0) -> int:
        """Whether data of a message arrives in order: it does not promise to."""
        return 0

    def attach_mcast(self, gid: Any, lid: int = 0) -> None:
        """Receive what is sent to a multicast address."""
        self.sim.join(str(gid))  # type: ignore[attr-defined]

    def detach_mcast(self, gid: Any, lid: int = 0) -> None:
        """No longer."""
        self.sim.leave(str(gid))  # type: ignore[attr-defined]

    def modify_rate_limit(self, attr: QPRateLimitAttr) -> None:
        """Pacing: refused (EOPNOTSUPP)."""
        raise PyverbsRDMAError("Failed to modify QP rate limit", errno.EOPNOTSUPP)

    def close(self) -> None:
        """Destroy it."""
        if self._closed:
            return
        self._closed = True
        self.sim.close()
        self._pd = self._context = self._srq = None

    def __str__(self) -> str:
        return lines(
            ("QP type", qp_type_to_str(self.qp_type)),
            ("  number", self.qp_num),
            ("  state", qp_state_to_str(self.qp_state)),
        )


from simmig.verbs.pyverbs.qpex import QPEx  # noqa: E402  (one of these, and found here in pyverbs)

__all__ = ["ECE", "QP", "QPAttr", "QPCap", "QPEx", "QPInitAttr", "QPInitAttrEx", "QPRateLimitAttr"]
