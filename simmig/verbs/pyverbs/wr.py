"""Work requests (module pyverbs.wr): those of the simulated device, that take no number which C would not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simmig.verbs.pyverbs import session
from simmig.verbs.pyverbs.base import PyverbsUserError, c_number, lines
from simmig.verbs.pyverbs.utils import flags_to_str
from simmig.verbs.sim import wr as sim
from simmig.verbs.sim.memory import payload_bytes

if TYPE_CHECKING:
    from simmig.verbs.pyverbs.addr import AH
    from simmig.verbs.pyverbs.mr import MW, MWBindInfo

_BITS = {
    "wr_id": 64,
    "addr": 64,
    "remote_addr": 64,
    "length": 32,
    "lkey": 32,
    "rkey": 32,
    "imm_data": 32,
    "send_flags": 32,
    "opcode": 32,
    "num_sge": 31,
}
_FLAGS = {1: "IBV_SEND_FENCE", 2: "IBV_SEND_SIGNALED", 4: "IBV_SEND_SOLICITED", 8: "IBV_SEND_INLINE"}


class _Numbers:
    """Each number that is set must be one that C holds: OverflowError, as in Cython."""

    __slots__ = ()
    written_back = True

    def __setattr__(self, name: str, value: Any) -> None:
        bits = _BITS.get(name)
        super().__setattr__(name, value if bits is None else c_number(value, bits))

    def _check(self, *names: str) -> None:
        for name in names:
            setattr(self, name, getattr(self, name))


class SGE(_Numbers, sim.SGE, gc=False, eq=False):
    """A stretch of local memory."""

    def __post_init__(self) -> None:
        self._check("addr", "length", "lkey")

    def read(self, length: int, offset: int) -> bytes:
        """Bytes of it."""
        return _read(self.addr, length, offset)

    def close(self) -> None:
        """Nothing to give back."""


@session.in_world
def _read(addr: int, length: int, offset: int) -> bytes:
    mapping = session.world().memory.find(addr + offset, length)
    if mapping is None:
        raise PyverbsUserError(f"no {length} bytes of memory at {addr + offset:#x}")
    return payload_bytes(mapping.read(addr + offset, length))


class RecvWR(_Numbers, sim.RecvWR, eq=False):
    """A receive."""

    def __post_init__(self) -> None:
        self._check("wr_id", "num_sge")
        if isinstance(self.sg, tuple) and self.sg and isinstance(self.sg[0], tuple):
            return  # as it was taken apart
        if self.num_sge < 1 or self.sg is None:
            raise PyverbsUserError("A WR needs at least one SGE")
        _check_list(self.sg, self.num_sge)
        super().__post_init__()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "num_sge" and isinstance(self.sg, tuple):
            _check_list(self.sg, value)
        super().__setattr__(name, value)

    def __str__(self) -> str:
        return lines(("WR ID", self.wr_id), ("Num SGE", self.num_sge))


class SendWR(_Numbers, sim.SendWR, eq=False):
    """A send, write, read, atomic or binding."""

    def __post_init__(self) -> None:
        self._check("wr_id", "num_sge", "imm_data", "send_flags", "opcode")
        if isinstance(self.sg, tuple) and (not self.sg or isinstance(self.sg[0], tuple)):
            return
        if self.sg is not None:
            _check_list(self.sg, self.num_sge)
        super().__post_init__()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "num_sge" and isinstance(self.sg, tuple):
            _check_list(self.sg, value)
        super().__setattr__(name, value)

    def set_wr_ud(self, ah: AH, rqpn: int, rqkey: int) -> None:
        """A datagram's address handle, queue pair and key."""
        super().set_wr_ud(ah, c_number(rqpn, 32), c_number(rqkey, 32))

    def set_wr_atomic(self, rkey: int, addr: int, compare_add: int, swap: int = 0) -> None:
        """An atomic's target and operands."""
        super().set_wr_atomic(rkey, addr, c_number(compare_add, 64), c_number(swap, 64))

    def set_bind_wr(self, mw: MW, bind_info: MWBindInfo) -> None:
        """Bind a window of type 2."""
        super().set_bind_wr(mw, bind_info)

    def __str__(self) -> str:
        return lines(
            ("WR ID", self.wr_id),
            ("Num SGE", self.num_sge),
            ("Opcode", int(self.opcode)),
            ("Send flags", send_flags_to_str(self.send_flags)),
            ("Imm Data", self.imm_data),
        )


def _check_list(sg: Any, count: int) -> None:
    if count > len(sg):
        raise IndexError(f"num_sge is {count}, and the list has {len(sg)}")


def send_flags_to_str(flags: int) -> str:
    """Flags of a send."""
    return flags_to_str(flags, _FLAGS)
