"""Work requests (module pyverbs.wr). Scatter-gather elements are copied into them, as pyverbs does."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.addr import AHAttr
from simmig.verbs.sim.base import PyverbsCM, not_modelled
from simmig.verbs.sim.pyverbs_error import PyverbsUserError

SgList = tuple[tuple[int, int, int], ...]
"""Address, length and lkey of each element."""


class Destination(NamedTuple):
    """Where a datagram goes."""

    address: AHAttr
    qp_num: int
    qkey: int


class Binding(NamedTuple):
    """What a memory window is bound to, and the key it has then."""

    window: Any
    info: Any
    rkey: int


_SEND = int(e.IBV_WR_SEND)
_SIGNALED = int(e.IBV_SEND_SIGNALED)
_WITHOUT_SGE = (e.IBV_WR_LOCAL_INV, e.IBV_WR_BIND_MW, e.IBV_WR_SEND_WITH_INV, e.IBV_WR_ATOMIC_WRITE)

# msgspec structs, because a migration makes one of each for every chunk and they cost half of a class with slots.


class SGE(PyverbsCM, msgspec.Struct, gc=False, eq=False):
    """A stretch of local memory: address, length in bytes, and the key of the region it lies in."""

    addr: int
    length: int
    lkey: int

    def __str__(self) -> str:
        fields = (("Address", hex(self.addr)), ("Length", self.length), ("Key", hex(self.lkey)))
        return "".join(f"{name:22}: {value:<20}\n" for name, value in fields)


class RecvWR(PyverbsCM, msgspec.Struct, eq=False):
    """A receive: the buffers that one incoming message goes to, `num_sge` elements of the sequence `sg`."""

    wr_id: int = 0
    num_sge: int = 0
    sg: Any = None
    next_wr: RecvWR | None = None

    def __post_init__(self) -> None:
        if self.num_sge == 1 and self.sg:
            sge = self.sg[0]
            self.sg = ((sge.addr, sge.length, sge.lkey),)
        else:
            self.sg = tuple((sge.addr, sge.length, sge.lkey) for sge in (self.sg or ())[: self.num_sge])

    def elements(self) -> SgList:
        """What the device reads of the scatter list at the post."""
        elements: SgList = self.sg
        return elements[: self.num_sge]

    def become(self, other: RecvWR) -> None:
        """Take over another's content: how a failed post reports the bad one (R8)."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(other, name))

    def __str__(self) -> str:
        return f"{'WR ID':22}: {self.wr_id:<20}\n{'Num SGE':22}: {self.num_sge:<20}\n"


class SendWR(PyverbsCM, msgspec.Struct, eq=False):
    """A send, write or read of `num_sge` elements of the sequence `sg`. Note the default flags: signalled."""

    wr_id: int = 0
    opcode: int = _SEND
    num_sge: int = 0
    imm_data: int = 0
    sg: Any = None
    send_flags: int = _SIGNALED
    next_wr: SendWR | None = None
    remote_addr: int = 0
    rkey: int = 0
    shared_sge: SGE | None = None
    extra: Any = None
    """What only some have: an atomic's operands or bytes, a window's binding, a datagram's destination."""

    def __post_init__(self) -> None:
        sg = self.sg
        if self.num_sge == 1 and sg is not None:
            sge = sg[0]
            self.sg = ((sge.addr, sge.length, sge.lkey),)
            return
        if (self.num_sge < 1 or sg is None) and self.opcode not in _WITHOUT_SGE:
            raise PyverbsUserError("A WR needs at least one SGE")
        self.sg = tuple((sge.addr, sge.length, sge.lkey) for sge in (sg or ())[: self.num_sge])

    def set_wr_rdma(self, rkey: int, addr: int) -> None:
        """Remote key and address of a write or read."""
        self.rkey = rkey
        self.remote_addr = addr

    def set_wr_ud(self, ah: Any, rqpn: int, rqkey: int) -> None:
        """A datagram's address handle, queue pair and key."""
        self.extra = Destination(ah.attr, rqpn, rqkey)

    def set_wr_atomic(self, rkey: int, addr: int, compare_add: int, swap: int = 0) -> None:
        """An atomic's remote key and address, what to add or compare with, and what to put there then."""
        self.set_wr_rdma(rkey, addr)
        self.extra = (compare_add, swap)

    def set_wr_atomic_write(self, rkey: int, addr: int, value: bytes) -> None:
        """An atomic write's remote key and address, and the eight bytes that it carries itself."""
        self.set_wr_rdma(rkey, addr)
        self.extra = value

    def set_bind_wr(self, mw: Any, bind_info: Any) -> None:
        """Bind a memory window of type 2; its key counts on, and is this work request's `rkey` from now on."""
        self.rkey = mw.rkey & ~0xFF | (mw.rkey + 1) & 0xFF
        self.extra = Binding(mw, bind_info, self.rkey)

    def set_qp_type_xrc(self, remote_srqn: int) -> None:
        """XRC is not modelled: raises PyverbsRDMAError (EOPNOTSUPP)."""
        not_modelled("XRC")

    def _share_sge(self, sge: SGE) -> None:
        self.shared_sge = sge

    sg_list = property(None, _share_sge, doc="Write only: one element used in place, not copied.")

    def elements(self) -> SgList:
        """What the device reads of the gather list at the post."""
        shared = self.shared_sge
        if shared is not None:
            return ((shared.addr, shared.length, shared.lkey),)
        elements: SgList = self.sg
        return elements if self.num_sge == len(elements) else elements[: self.num_sge]

    def become(self, other: SendWR) -> None:
        """Take over another's content: how a failed post reports the bad one (R8)."""
        for name in self.__struct_fields__:
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
