"""Extended queue pairs: work requests put together call by call (man ibv_wr_post(3)); in pyverbs, of `qp`."""

from __future__ import annotations

import errno
from typing import Any

from simmig.verbs.pyverbs import enums as e
from simmig.verbs.pyverbs.base import PyverbsRDMAError, c_number, only
from simmig.verbs.pyverbs.mr import MW, MWBindInfo
from simmig.verbs.pyverbs.qp import QP
from simmig.verbs.pyverbs.qp_attr import QPAttr
from simmig.verbs.pyverbs.wr import SGE, SendWR
from simmig.verbs.sim.work import ATOMIC_BYTES
from simmig.verbs.sim.wr import Binding


class QPEx(QP):
    """A queue pair with `wr_start`, `wr_*` and `wr_complete`, which posts all or nothing."""

    ind_table = None

    def __init__(self, creator: Any, init_attr: Any, qp_attr: QPAttr | None = None) -> None:
        super().__init__(creator, init_attr, qp_attr)
        self._wr_id = 0
        self._wr_flags = 0
        self._wrs: list[SendWR] = []
        self.comp_mask = 0

    @property
    def wr_id(self) -> int:
        """The number of the work requests begun from now on."""
        return self._wr_id

    @wr_id.setter
    def wr_id(self, val: int) -> None:
        self._wr_id = c_number(val, 64)

    @property
    def wr_flags(self) -> int:
        """Their flags."""
        return self._wr_flags

    @wr_flags.setter
    def wr_flags(self, val: int) -> None:
        self._wr_flags = c_number(val, 32)

    def wr_start(self) -> None:
        """Begin a list."""
        self._wrs = []

    def _begin(self, opcode: int, imm: int = 0) -> SendWR:
        wr = SendWR(self._wr_id, opcode, 0, c_number(imm, 32), (), self._wr_flags)
        self._wrs.append(wr)
        return wr

    def _last(self) -> SendWR:
        if not self._wrs:
            raise PyverbsRDMAError("no work request has been begun", errno.EINVAL)
        return self._wrs[-1]

    def wr_send(self) -> None:
        """Begin a send."""
        self._begin(e.IBV_WR_SEND)

    def wr_send_imm(self, data: int) -> None:
        """Begin a send with immediate data, in host order here."""
        self._begin(e.IBV_WR_SEND_WITH_IMM, _big_endian(data))

    def wr_send_inv(self, invalidate_rkey: int) -> None:
        """Begin a send that invalidates a window there."""
        self._begin(e.IBV_WR_SEND_WITH_INV, invalidate_rkey)

    def wr_rdma_write(self, rkey: int, remote_addr: int) -> None:
        """Begin a write."""
        self._begin(e.IBV_WR_RDMA_WRITE).set_wr_rdma(rkey, remote_addr)

    def wr_rdma_write_imm(self, rkey: int, remote_addr: int, data: int) -> None:
        """Begin a write with immediate data."""
        self._begin(e.IBV_WR_RDMA_WRITE_WITH_IMM, _big_endian(data)).set_wr_rdma(rkey, remote_addr)

    def wr_rdma_read(self, rkey: int, remote_addr: int) -> None:
        """Begin a read."""
        self._begin(e.IBV_WR_RDMA_READ).set_wr_rdma(rkey, remote_addr)

    def wr_atomic_cmp_swp(self, rkey: int, remote_addr: int, compare: int, swap: int) -> None:
        """Begin a compare and swap."""
        self._begin(e.IBV_WR_ATOMIC_CMP_AND_SWP).set_wr_atomic(rkey, remote_addr, compare, swap)

    def wr_atomic_fetch_add(self, rkey: int, remote_addr: int, add: int) -> None:
        """Begin a fetch and add."""
        self._begin(e.IBV_WR_ATOMIC_FETCH_AND_ADD).set_wr_atomic(rkey, remote_addr, add)

    def wr_bind_mw(self, mw: MW, rkey: int, bind_info: MWBindInfo) -> None:
        """Begin the binding of a window of type 2 under that key."""
        wr = self._begin(e.IBV_WR_BIND_MW)
        wr.extra = Binding(only(mw, MW, "mw").sim, bind_info.of_device(), c_number(rkey, 32))

    def wr_local_inv(self, invalidate_rkey: int) -> None:
        """Begin the invalidation of a window here."""
        self._begin(e.IBV_WR_LOCAL_INV, invalidate_rkey)

    def wr_atomic_write(self, rkey: int, remote_addr: int, atomic_wr: bytes) -> None:
        """Begin an atomic write of the first eight of those bytes."""
        self._begin(e.IBV_WR_ATOMIC_WRITE).set_wr_atomic_write(rkey, remote_addr, bytes(atomic_wr[:ATOMIC_BYTES]))

    def wr_send_tso(self, hdr: Any, hdr_sz: int, mss: int) -> None:
        """Segmentation: refused (EOPNOTSUPP)."""
        raise PyverbsRDMAError("TSO is not supported", errno.EOPNOTSUPP)

    def wr_set_ud_addr(self, ah: Any, remote_qpn: int, remote_rkey: int) -> None:
        """Where a datagram goes."""
        self._last().set_wr_ud(ah, remote_qpn, remote_rkey)

    def wr_set_sge(self, sge: SGE) -> None:
        """What it carries."""
        self.wr_set_sge_list(1, [only(sge, SGE, "sge")])

    def wr_set_sge_list(self, num_sge: int, sg_list: list[SGE]) -> None:
        """What it carries, from several places."""
        wr = self._last()
        wr.sg = tuple((sge.addr, sge.length, sge.lkey) for sge in sg_list[:num_sge])
        wr.num_sge = num_sge

    def wr_set_inline_data(self, addr: int, length: int) -> None:
        """What it carries, taken at once."""
        wr = self._last()
        wr.sg = ((c_number(addr, 64), c_number(length, 32), 0),)
        wr.num_sge = 1
        wr.send_flags |= e.IBV_SEND_INLINE

    def wr_set_inline_data_list(self, num_buf: int, buf_list: list[Any]) -> None:
        """The same, from several places."""
        wr = self._last()
        wr.sg = tuple((buffer.addr, buffer.length, 0) for buffer in buf_list[:num_buf])
        wr.num_sge = num_buf
        wr.send_flags |= e.IBV_SEND_INLINE

    def wr_complete(self) -> None:
        """Post the list; raises PyverbsRDMAError, and posts nothing, when one of it is bad."""
        wrs, self._wrs = self._wrs, []
        error = self.sim.refusal_of(wrs)
        if error:
            raise PyverbsRDMAError("ibv_wr_complete failed.", error)
        for wr in wrs:
            self.sim.post_send(wr)

    def wr_abort(self) -> None:
        """Forget the list."""
        self._wrs = []


def _big_endian(number: int) -> int:
    """Immediate data travels with its bytes in network order; completions show them as they came."""
    return int.from_bytes(c_number(number, 32).to_bytes(4, "big"), "little")
