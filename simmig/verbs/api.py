"""The verbs objects the migration uses, as protocols that both pyverbs and the simulated device satisfy.

Names, argument order and defaults are pyverbs' own (rdma-core, pyverbs), so that no wrapper stands between the
migration and a real device.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Protocol


class Context(Protocol):
    """An open device."""

    @property
    def name(self) -> str | bytes:
        """The device's name."""

    def close(self) -> None:
        """Close it."""


class PD(Protocol):
    """A protection domain: what keys and queue pairs must have in common (R32)."""

    def close(self) -> None:
        """Destroy it."""


class CompChannel(Protocol):
    """Where completion events arrive."""

    def get_cq_event(self, expected_cq: CQ) -> None:
        """Take the next event, which must be that queue's; blocks while there is none."""

    def close(self) -> None:
        """Destroy it."""


class WC(Protocol):
    """A completion. On failure only wr_id, status, qp_num and vendor_err count (R17)."""

    @property
    def wr_id(self) -> int:
        """The work request's identifier."""

    @property
    def status(self) -> int:
        """IBV_WC_SUCCESS or what went wrong."""

    @property
    def opcode(self) -> int:
        """IBV_WC_SEND, IBV_WC_RDMA_WRITE, IBV_WC_RECV, ..."""

    @property
    def byte_len(self) -> int:
        """Bytes received."""

    @property
    def qp_num(self) -> int:
        """The queue pair it belongs to."""


class CQ(Protocol):
    """A completion queue."""

    def poll(self, num_entries: int = 1) -> tuple[int, Sequence[WC]]:
        """Take up to that many completions: (how many, the completions)."""

    def req_notify(self, solicited_only: bool = False) -> None:
        """Ask for one event at the next completion (R26)."""

    def ack_events(self, num_events: int) -> None:
        """Acknowledge events taken from the channel (R25)."""

    def close(self) -> None:
        """Destroy it."""


class MR(Protocol):
    """A memory region."""

    @property
    def lkey(self) -> int:
        """Local key."""

    @property
    def rkey(self) -> int:
        """Remote key."""

    @property
    def buf(self) -> int:
        """Its address."""

    def read(self, length: int, offset: int) -> bytes:
        """Bytes of the buffer."""

    def write(self, data: bytes | str, length: int, offset: int = 0) -> None:
        """Put bytes into the buffer."""

    def close(self) -> None:
        """Deregister."""


class SGE(Protocol):
    """A stretch of local memory, in the region that has the key."""

    @property
    def addr(self) -> int:
        """Its address."""

    @property
    def length(self) -> int:
        """Bytes."""

    @property
    def lkey(self) -> int:
        """The region's local key."""


class SendWR(Protocol):
    """A send, write or read to be posted."""

    @property
    def wr_id(self) -> int:
        """What its completion is known by."""

    @property
    def opcode(self) -> int:
        """IBV_WR_SEND, IBV_WR_RDMA_WRITE, ..."""

    @property
    def send_flags(self) -> int:
        """IBV_SEND_SIGNALED, ..."""

    def set_wr_rdma(self, rkey: int, addr: int) -> None:
        """Remote key and address of a write or read."""


class RecvWR(Protocol):
    """A receive to be posted."""

    @property
    def wr_id(self) -> int:
        """What its completion is known by."""

    @property
    def num_sge(self) -> int:
        """How many stretches of memory one message goes to."""


class QPCap(Protocol):
    """How much a queue pair has room for."""

    @property
    def max_send_wr(self) -> int:
        """Work requests in the send queue."""

    @property
    def max_recv_wr(self) -> int:
        """Work requests in the receive queue."""

    @property
    def max_send_sge(self) -> int:
        """Elements of one that sends."""

    @property
    def max_recv_sge(self) -> int:
        """Elements of one that receives."""

    @property
    def max_inline_data(self) -> int:
        """Bytes that a work request may carry itself."""


class QPInitAttr(Protocol):
    """What a queue pair is created with; afterwards it tells what was granted (R9)."""

    @property
    def qp_type(self) -> int:
        """IBV_QPT_RC, ..."""

    @property
    def cap(self) -> QPCap:
        """Its capacities."""


class QPHandle(Protocol):
    """A queue pair, whoever may post on it."""

    @property
    def qp_num(self) -> int:
        """Its number."""

    def close(self) -> None:
        """Destroy it."""


class QP(QPHandle, Protocol):
    """A queue pair."""

    def post_send(self, wr: SendWR, bad_wr: SendWR | None = None) -> None:
        """Post a send work request."""

    def post_recv(self, wr: RecvWR, bad_wr: RecvWR | None = None) -> None:
        """Post a receive work request."""


# By these names `Verbs`, in which a name means what makes one, can say what is made.
_PD = PD
_CompChannel = CompChannel
_CQ = CQ
_MR = MR
_QP = QP
_SGE = SGE
_SendWR = SendWR
_RecvWR = RecvWR
_QPCap = QPCap
_QPInitAttr = QPInitAttr


class Verbs(Protocol):
    """A namespace of verbs classes: pyverbs' own, or the simulated device's of the same names.

    What one makes goes with the others it makes: a queue pair of pyverbs takes no work request of the simulator's.
    """

    @property
    def enums(self) -> ModuleType:
        """The constants, by their names in infiniband/verbs.h."""

    @property
    def PyverbsError(self) -> type[Exception]:
        """What a call that fails raises."""

    def PD(self, creator: Context, /) -> _PD:
        """Allocate a protection domain on a device."""

    def CompChannel(self, context: Context, /) -> _CompChannel:
        """Make a completion channel."""

    def CQ(
        self,
        context: Context,
        cqe: int,
        cq_context: object = None,
        channel: _CompChannel | None = None,
        comp_vector: int = 0,
        /,
    ) -> _CQ:
        """Make a completion queue with room for at least `cqe` completions, which tells the channel of them."""

    def MR(self, creator: _PD, length: int, access: int, address: int | None = None, /) -> _MR:
        """Register memory from `address` on, or a new buffer, for what the access flags allow."""

    def QP(self, creator: _PD, init_attr: _QPInitAttr, /) -> _QP:
        """Make a queue pair, in RESET."""

    def QPCap(
        self,
        max_send_wr: int = 1,
        max_recv_wr: int = 10,
        max_send_sge: int = 1,
        max_recv_sge: int = 1,
        max_inline_data: int = 0,
    ) -> _QPCap:
        """Capacities to ask for."""

    def QPInitAttr(
        self,
        *,
        qp_type: int,
        scq: _CQ,
        rcq: _CQ,
        cap: _QPCap,
        sq_sig_all: int = 1,
    ) -> _QPInitAttr:
        """What to create a queue pair with. Mind the default: every send is signalled."""

    def SGE(self, addr: int, length: int, lkey: int, /) -> _SGE:
        """A stretch of a region's memory."""

    def SendWR(self, *, wr_id: int, opcode: int, num_sge: int, sg: Sequence[_SGE], send_flags: int) -> _SendWR:
        """A send, write or read of `num_sge` stretches."""

    def RecvWR(self, *, wr_id: int, num_sge: int, sg: Sequence[_SGE]) -> _RecvWR:
        """A receive into `num_sge` stretches."""
