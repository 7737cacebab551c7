"""Work requests as the device holds them, and packets of theirs on the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simmig.verbs.sim.memory import Payload, payload_length, payload_part
from simmig.verbs.sim.wr import SgList

if TYPE_CHECKING:
    from simmig.verbs.sim.requester import Requester

PSN_MASK = 0xFFFFFF
"""Packet sequence numbers have 24 bits and wrap (R43)."""
PSN_HALF = 1 << 23
"""A difference below this, modulo 2^24, means `later`."""

# What a responder answers.
ACK = 0
NAK_SEQUENCE = 1
NAK_RNR = 2
NAK_INVALID_REQUEST = 3
NAK_REMOTE_ACCESS = 4
NAK_REMOTE_OPERATION = 5


class SendWork:
    """A send work request in its queue. `next` is its first packet not sent yet (or to be sent again)."""

    __slots__ = (
        "fence",
        "gap_seen",
        "imm_data",
        "inline",
        "is_read",
        "length",
        "next",
        "opcode",
        "ordinal",
        "packets",
        "psn",
        "received",
        "remote_addr",
        "rkey",
        "sent_ns",
        "sg",
        "signaled",
        "solicited",
        "started",
        "visible_ns",
        "wr_id",
    )

    wr_id: int
    opcode: int
    sg: SgList
    inline: bytes | None
    length: int
    remote_addr: int
    rkey: int
    imm_data: int
    signaled: bool
    fence: int
    solicited: int
    visible_ns: int
    """The host's time of the post: the device cannot know of it earlier."""
    ordinal: int
    """How many were posted up to and with this one."""
    psn: int
    """Number of its first packet."""
    packets: int
    next: int
    started: bool
    """Whether any of it has ever left."""
    gap_seen: bool
    """Whether its response has been found to lack packets, since it was last asked for."""
    is_read: bool
    received: int
    """Response packets of a read that have come."""
    sent_ns: int
    """When its last packet left, the latest time it did."""


class ReceiveWork:
    """A receive work request in its queue."""

    __slots__ = ("length", "ordinal", "sg", "visible_ns", "wr_id")

    def __init__(self, wr_id: int, sg: SgList, visible_ns: int, ordinal: int) -> None:
        self.wr_id = wr_id
        self.sg = sg
        self.length = sum(element[1] for element in sg)
        self.visible_ns = visible_ns
        self.ordinal = ordinal


class RequestBurst:
    """Request packets of one work request; the same object carries the answer back."""

    __slots__ = (
        "answer_psn",
        "callbacks",
        "count",
        "doomed",
        "first",
        "flow",
        "last_bytes",
        "packet_bytes",
        "payload",
        "psn",
        "rnr_ns",
        "syndrome",
        "work",
    )

    _ok = True

    callbacks: tuple[Callable[[Any], None], ...] | None
    syndrome: int
    answer_psn: int
    rnr_ns: int

    def __init__(
        self,
        flow: Requester,
        work: SendWork,
        first: int,
        count: int,
        packet_bytes: int,
        last_bytes: int,
        payload: Payload,
    ) -> None:
        self.flow = flow
        self.work = work
        self.first = first
        self.count = count
        self.packet_bytes = packet_bytes
        self.last_bytes = last_bytes
        self.payload = payload
        self.psn = (work.psn + first) & PSN_MASK
        self.doomed = False

    @property
    def wire_bytes(self) -> int:
        """Its size on the wire."""
        return (self.count - 1) * self.packet_bytes + self.last_bytes

    def cut(self, count: int) -> None:
        """Keep the first packets only, fewer than there are."""
        self.count = count
        self.last_bytes = self.packet_bytes
        self.payload = payload_part(self.payload, 0, count * self.flow.mtu)

    def skip(self, count: int) -> None:
        """Leave out the first packets: they have been received before."""
        self.first += count
        self.count -= count
        self.psn = (self.psn + count) & PSN_MASK
        self.payload = payload_part(
            self.payload, count * self.flow.mtu, payload_length(self.payload) - count * self.flow.mtu
        )
