"""Work requests as the device holds them, and packets of theirs on the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import msgspec

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.memory import Payload, payload_length, payload_part
from simmig.verbs.sim.wr import SgList

PSN_MASK = 0xFFFFFF
"""Packet sequence numbers have 24 bits and wrap (R43)."""
ATOMIC_BYTES = 8
_RDMA_WRITE = int(e.IBV_WR_RDMA_WRITE)
_FENCE = int(e.IBV_SEND_FENCE)
PSN_HALF = 1 << 23
"""A difference below this, modulo 2^24, means `later`."""

# What a responder answers.
ACK = 0
NAK_SEQUENCE = 1
NAK_RNR = 2
NAK_INVALID_REQUEST = 3
NAK_REMOTE_ACCESS = 4
NAK_REMOTE_OPERATION = 5


class SendWork(msgspec.Struct, eq=False):
    """A send work request in its queue.

    `visible_ns` is the host's time of the post, before which the device cannot know of it; `ordinal` how many were
    posted up to and with this one; `psn` the number of its first packet and `end_psn` that behind its last;
    `streamable` says whether it can be part of a stream.
    """

    wr_id: int
    opcode: int
    sg: SgList
    length: int
    remote_addr: int
    rkey: int
    signaled: bool
    streamable: bool
    visible_ns: int
    ordinal: int
    packets: int
    psn: int
    end_psn: int
    imm_data: int = 0
    flags: int = 0
    inline: bytes | None = None
    is_read: bool = False
    """Whether it is answered as a read is: a read or an atomic."""
    extra: Any = None
    """What only some have: an atomic's operands or bytes, a window's binding, a datagram's destination."""
    result: bytes | None = None
    """What an atomic found, once it has been executed; not None, too, of a local operation done."""
    next: int = 0
    """Its first packet not sent yet, or to be sent again."""
    started: bool = False
    """Whether any of it has ever been on the wire."""
    sent_ns: int = 0
    """When its latest packet left."""
    received: int = 0
    """Response packets of a read that have come."""
    gap_seen: bool = False
    """Whether its response has been found to lack packets since the last one that fitted."""

    @property
    def is_plain(self) -> bool:
        """Whether it is a write out of one region, with nothing to be told or waited for but its completion."""
        return self.opcode == _RDMA_WRITE and len(self.sg) == 1 and self.inline is None and not self.flags & _FENCE


class ReceiveWork(msgspec.Struct, eq=False):
    """A receive work request in its queue."""

    wr_id: int
    sg: SgList
    length: int
    visible_ns: int
    ordinal: int


class RequestFlow(Protocol):
    """A requester, as seen by what it sends and by whoever answers."""

    mtu: int
    window: int
    gid: str
    qp_num: int
    answering: tuple[Callable[[RequestBurst], None]]
    """What is called with an answer that has come."""

    @property
    def direction(self) -> Any:
        """Where its packets go."""

    def lost(self, burst: RequestBurst) -> None:
        """It or its answer does not arrive."""

    def answered(self, burst: RequestBurst) -> None:
        """An answer has come."""

    def read_response(self, burst: Any) -> None:
        """Response packets of a read have come."""

    def set_timer(self) -> None:
        """Something is known not to arrive."""


class RequestBurst(msgspec.Struct, eq=False):
    """Request packets of one work request (see `link.Burst`); the same object carries the answer back.

    `psn` is the number of its first packet.
    """

    _ok: ClassVar[bool] = True

    flow: RequestFlow
    work: SendWork
    first: int
    psn: int
    count: int
    packet_bytes: int
    last_bytes: int
    payload: Payload
    doomed: bool = False
    callbacks: tuple[Callable[[Any], None], ...] | None = None
    syndrome: int = ACK
    answer_psn: int = 0
    rnr_ns: int = 0

    @property
    def wire_bytes(self) -> int:
        """Its size on the wire."""
        return (self.count - 1) * self.packet_bytes + self.last_bytes

    def cut(self, count: int) -> None:
        """Keep the first packets only, fewer than there are."""
        self.count = count
        self.last_bytes = self.packet_bytes
        self.payload = payload_part(self.payload, 0, count * self.flow.mtu)

    def split(self, count: int) -> RequestBurst:
        """The first packets, fewer than there are, as a burst of their own; this one keeps the rest."""
        part = payload_part(self.payload, 0, count * self.flow.mtu)
        size = self.packet_bytes
        first = RequestBurst(self.flow, self.work, self.first, self.psn, count, size, size, part)
        self.skip(count)
        return first

    def skip(self, count: int) -> None:
        """Leave out the first packets: they have been received before."""
        self.first += count
        self.count -= count
        self.psn = (self.psn + count) & PSN_MASK
        start = count * self.flow.mtu
        self.payload = payload_part(self.payload, start, payload_length(self.payload) - start)
