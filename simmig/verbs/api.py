"""The verbs objects the migration uses, as protocols that both pyverbs and the simulated device satisfy.

Names, argument order and defaults are pyverbs' own (rdma-core, pyverbs), so that no wrapper stands between the
migration and a real device.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Protocol


class Context(Protocol):
    """An open device."""

    @property
    def name(self) -> Any:
        """The device's name."""

    def close(self) -> None:
        """Close it."""


class CompChannel(Protocol):
    """Where completion events arrive."""

    def get_cq_event(self, expected_cq: Any = None) -> Any:
        """Take the next event; blocks while there is none."""

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

    def poll(self, num_entries: int = 1) -> tuple[int, Sequence[Any]]:
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

    def write(self, data: Any, length: int, offset: int = 0) -> None:
        """Put bytes into the buffer."""

    def close(self) -> None:
        """Deregister."""


class QP(Protocol):
    """A queue pair."""

    @property
    def qp_num(self) -> int:
        """Its number."""

    def post_send(self, wr: Any, bad_wr: Any = None) -> None:
        """Post a send work request."""

    def post_recv(self, wr: Any, bad_wr: Any = None) -> None:
        """Post a receive work request."""

    def close(self) -> None:
        """Destroy it."""


class Verbs(Protocol):
    """A namespace of verbs classes: pyverbs' own, or the simulated device's of the same names."""

    enums: ModuleType
    PD: Any
    MR: Any
    CompChannel: Any
    CQ: Any
    QP: Any
    QPCap: Any
    QPInitAttr: Any
    SGE: Any
    SendWR: Any
    RecvWR: Any
    PyverbsError: type[Exception]
