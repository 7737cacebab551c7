"""Work requests (module pyverbs.wr). Scatter-gather elements are copied into them, as pyverbs does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.base import PyverbsCM, not_modelled
from simmig.verbs.sim.pyverbs_error import PyverbsUserError

SgList = tuple[tuple[int, int, int], ...]
"""Address, length and lkey of each element."""

_WITHOUT_SGE = (e.IBV_WR_LOCAL_INV, e.IBV_WR_BIND_MW, e.IBV_WR_SEND_WITH_INV)


class SGE(PyverbsCM):
    """A stretch of local memory: address, length in bytes, and the key of the region it lies in."""

    __slots__ = ("addr", "length", "lkey")

    def __init__(self, addr: int, length: int, lkey: int) -> None:
        self.addr = addr
        self.length = length
        self.lkey = lkey

    def __str__(self) -> str:
        fields = (("Address", hex(self.addr)), ("Length", self.length), ("Key", hex(self.lkey)))
        return "".join(f"{name:22}: {value:<20}\n" for name, value in fields)


def _copied(sg: Sequence[SGE] | None, num_sge: int) -> SgList:
    if num_sge == 1 and sg is not None:
        sge = sg[0]
        return ((sge.addr, sge.length, sge.lkey),)
    return tuple((sge.addr, sge.length, sge.lkey) for sge in (sg or ())[:num_sge])


class RecvWR(PyverbsCM):
    """A receive: the buffers that one incoming message goes to."""

    __slots__ = ("_sg", "next_wr", "num_sge", "wr_id")

    def __init__(
        self,
        wr_id: int = 0,
        num_sge: int = 0,
        sg: Sequence[SGE] | None = None,
        next_wr: RecvWR | None = None,
    ) -> None:
        self.wr_id = wr_id
        self.num_sge = num_sge
        self._sg = _copied(sg, num_sge)
        self.next_wr = next_wr

    def elements(self) -> SgList:
        """What the device reads of the scatter list at the post."""
        return self._sg[: self.num_sge]

    def become(self, other: RecvWR) -> None:
        """Take over another's content: how a failed post reports the bad one (R8)."""
        self.wr_id = other.wr_id
        self.num_sge = other.num_sge
        self._sg = other._sg
        self.next_wr = other.next_wr

    def __str__(self) -> str:
        return f"{'WR ID':22}: {self.wr_id:<20}\n{'Num SGE':22}: {self.num_sge:<20}\n"


class SendWR(PyverbsCM):
    """A send, write or read. Note the default flags: signalled."""

    __slots__ = (
        "_sg",
        "_shared_sge",
        "imm_data",
        "next_wr",
        "num_sge",
        "opcode",
        "remote_addr",
        "rkey",
        "send_flags",
        "wr_id",
    )

    def __init__(
        self,
        wr_id: int = 0,
        opcode: int = e.IBV_WR_SEND,
        num_sge: int = 0,
        imm_data: int = 0,
        sg: Sequence[SGE] | None = None,
        send_flags: int = e.IBV_SEND_SIGNALED,
        next_wr: SendWR | None = None,
    ) -> None:
        if (num_sge < 1 or sg is None) and opcode not in _WITHOUT_SGE:
            raise PyverbsUserError("A WR needs at least one SGE")
        self.wr_id = wr_id
        self.opcode = opcode
        self.num_sge = num_sge
        self.imm_data = imm_data
        self._sg = _copied(sg, num_sge)
        self._shared_sge: SGE | None = None
        self.send_flags = send_flags
        self.next_wr = next_wr
        self.remote_addr = 0
        self.rkey = 0

    def set_wr_rdma(self, rkey: int, addr: int) -> None:
        """Remote key and address of a write or read."""
        self.rkey = rkey
        self.remote_addr = addr

    def set_wr_ud(self, ah: Any, rqpn: int, rqkey: int) -> None:
        """Unreliable datagrams are not modelled: raises PyverbsRDMAError (EOPNOTSUPP)."""
        not_modelled("unreliable datagrams")

    def set_wr_atomic(self, rkey: int, addr: int, compare_add: int, swap: int = 0) -> None:
        """Atomics are not modelled: raises PyverbsRDMAError (EOPNOTSUPP)."""
        not_modelled("atomics")

    def set_bind_wr(self, mw: Any, bind_info: Any) -> None:
        """Memory windows are not modelled: raises PyverbsRDMAError (EOPNOTSUPP)."""
        not_modelled("memory windows")

    def set_qp_type_xrc(self, remote_srqn: int) -> None:
        """XRC is not modelled: raises PyverbsRDMAError (EOPNOTSUPP)."""
        not_modelled("XRC")

    def _set_sg_list(self, val: SGE) -> None:
        self._shared_sge = val

    sg_list = property(None, _set_sg_list, doc="Write only: one element used in place, not copied.")

    def elements(self) -> SgList:
        """What the device reads of the gather list at the post."""
        shared = self._shared_sge
        if shared is not None:
            return ((shared.addr, shared.length, shared.lkey),)
        return self._sg if self.num_sge == len(self._sg) else self._sg[: self.num_sge]

    def become(self, other: SendWR) -> None:
        """Take over another's content: how a failed post reports the bad one (R8)."""
        for name in self.__slots__:
            setattr(self, name, getattr(other, name))

    def __str__(self) -> str:
        fields = (
            ("WR ID", self.wr_id),
            ("Num SGE", self.num_sge),
            ("Opcode", int(self.opcode)),
            ("Send flags", int(self.send_flags)),
            ("Imm Data", self.imm_data),
        )
        return "".join(f"{name:22}: {value:<20}\n" for name, value in fields)
