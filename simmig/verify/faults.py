"""What may go wrong, as data: each fault says what, on which side, and at which of many like occasions.

`number` counts occasions of that kind on that side from 0. `event` is an index into the trace: the fault comes
right after that event.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from simmig.trace.events import Side

VERBS_CALLS = {
    "create_channel": (12, 24),
    "create_cq": (12, 22),
    "alloc_pd": (12,),
    "create_qp": (12, 22),
    "reg_mr": (12, 14),
    "to_init": (22,),
    "to_rts": (22, 110),
    "post_send": (12, 22, 14),
    "post_recv": (12, 22, 14),
    "poll": (5, 14),
    "req_notify": (5, 22),
    "get_cq_event": (5,),
    "dereg_mr": (16, 22),
    "destroy_qp": (16, 22),
    "destroy_cq": (16,),
    "destroy_channel": (16,),
    "dealloc_pd": (16,),
}
"""Every verbs call that a migration makes, with errors its manual page names (ENOMEM 12, EINVAL 22, EBUSY 16)."""


class Packet(msgspec.Struct, frozen=True, tag="packet"):
    """Something happens to the `number`-th packet that this side sends: acknowledgements count as packets.

    "delay" holds up all that comes behind it as well, "reorder" does not; `by_ns` is how long. A duplicate comes
    that much later.
    """

    side: Side
    number: int
    what: Literal["drop", "delay", "duplicate", "reorder"]
    by_ns: int = 0


class Call(msgspec.Struct, frozen=True, tag="call"):
    """The `number`-th of this side's calls of a verb fails with that errno, and so do the `times - 1` after it.

    "post_write" counts those of "post_send" that write RAM.
    """

    side: Side
    call: str
    number: int
    errno: int
    times: int = 1


class NotReady(msgspec.Struct, frozen=True, tag="not-ready"):
    """The `number`-th message to this side finds no receive posted: RNR, which ends the connection (R39)."""

    side: Side
    number: int


class Dies(msgspec.Struct, frozen=True, tag="dies"):
    """The machine is gone from then on."""

    side: Side
    event: int


class Hangs(msgspec.Struct, frozen=True, tag="hangs"):
    """The migration's process makes no further step from then on; its device goes on answering."""

    side: Side
    event: int


class LinkDown(msgspec.Struct, frozen=True, tag="link-down"):
    """The cable is pulled, for that long or (None) for good."""

    event: int
    for_ns: int | None = None


class Disconnect(msgspec.Struct, frozen=True, tag="disconnect"):
    """This side's connection manager takes all connections down unasked (a socket: is reset)."""

    side: Side
    event: int


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """The user cancels on this side."""

    side: Side
    event: int


class Hostile(msgspec.Struct, frozen=True, tag="hostile"):
    """The `number`-th control message of this side is not what it should be.

    Its 32-bit word at byte `offset` (none if negative) becomes `value`; its length becomes `length_bytes`.
    With `kind` only messages of that type count.
    """

    side: Side
    number: int
    offset: int = -1
    value: int = 0
    length_bytes: int | None = None
    kind: int | None = None


Fault = Packet | Call | NotReady | Dies | Hangs | LinkDown | Disconnect | Cancel | Hostile


def kind_of(fault: Fault) -> str:
    """What a report counts it as."""
    name = str(fault.__struct_config__.tag)
    if isinstance(fault, Packet):
        return f"{name} {fault.what}"
    if isinstance(fault, Call):
        return f"{name} {fault.call}"
    return name
