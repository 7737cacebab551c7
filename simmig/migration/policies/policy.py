"""What a drain policy is asked, what it sees, and what it answers."""

from __future__ import annotations

import enum
from typing import Protocol

from simmig.trace.events import Promise


class Point(enum.Enum):
    """Where the protocol asks: the places at which the sender may wait for its writes."""

    CHUNK_FULL = "chunk-full"  #: the sender has posted what it had of one chunk and goes on to another
    SLICE_END = "slice-end"  #: a RAM section is about to be closed
    ROUND_END = "round-end"  #: one pass over the dirty bitmap is over
    BEFORE_STOP = "before-stop"  #: the guest is about to be stopped
    BEFORE_DEVICE_STATE = "before-device-state"  #: the guest stands still, all its pages are posted


class Sender(Protocol):
    """What a sender can know of itself; sizes in bytes, all counts since the migration began."""

    @property
    def posted_bytes(self) -> int:
        """RAM bytes posted as writes."""

    @property
    def completed_bytes(self) -> int:
        """RAM bytes whose completion was polled."""

    @property
    def pending_bytes(self) -> int:
        """RAM bytes posted and not completed."""

    @property
    def chunks(self) -> int:
        """Chunks left behind."""

    @property
    def slice(self) -> int:
        """The slice, from 1."""

    @property
    def round(self) -> int:
        """The pass over the bitmap, from 1."""

    @property
    def bandwidth_bytes_s(self) -> int:
        """Estimated as QEMU does, from bytes posted over a window; 0 before the first estimate."""

    @property
    def downtime_limit_ns(self) -> int:
        """How long the guest may stand still."""

    @property
    def now_ns(self) -> int:
        """The source host's clock."""


def promise_of(policy: Policy) -> Promise | None:
    """What the policy promises of the bytes it lets be pending, for whoever checks it; most promise nothing.

    A policy says so by an attribute `promise`: bytes, beside the chunk that is being filled when it is asked, or
    "downtime-budget" when its bound is the estimated bandwidth x downtime limit. Raises ValueError for anything
    else.
    """
    promise = getattr(policy, "promise", None)
    if promise is None or promise == "downtime-budget":
        return promise
    if type(promise) is not int or not 0 <= promise < 1 << 63:
        text = repr(promise)
        raise ValueError(
            f"{text if len(text) <= 60 else f'{text[:60]}...'} is no promise: "
            'that is a number of bytes, "downtime-budget" or None'
        )
    return promise


FULLY = 0
"""An answer that has the sender wait until nothing is pending."""


class Policy(Protocol):
    """Decides how far to drain. A dataclass whose init fields are its parameters; does no I/O.

    A parameter's unit stands in its field's metadata: ``{"unit": "bytes"}`` or ``{"unit": "time"}`` (ns).
    """

    def drain(self, point: Point, sender: Sender) -> int | None:
        """How many bytes may stay pending at this point: 0 to drain fully, None not to wait at all."""
