"""What a migration is told, how it ends, and the constants of QEMU's protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CHUNK_BYTES = 1 << 20
CHUNK_PAGES = 256
SEND_QUEUE_DEPTH = 512
CQ_DEPTH = 1536
RESOLVE_TIMEOUT_NS = 10_000_000_000
WINDOW_NS = 100_000_000
"""Bandwidth estimates and the rate limit count bytes over windows of this length."""

Transport = Literal["rdma", "tcp"]
RateLimitOf = Literal["qemu-7.2", "qemu-10.0"]
Status = Literal["completed", "failed", "cancelled", "not-converging"]


@dataclass(frozen=True, slots=True)
class Change:
    """Other limits from a time or a round on; the first window of 100 ms that begins after that keeps them.

    Attributes:
        at_ns: how long after the migration's start; None where `round` says it.
        round: from this live round on; None where `at_ns` says it.
        downtime_limit_ns: how long the guest may stand still from then on; None for no change.
        max_bandwidth_bytes_s: the rate limit from then on, 0 for none; None for no change.
    """

    at_ns: int | None = None
    round: int | None = None
    downtime_limit_ns: int | None = None
    max_bandwidth_bytes_s: int | None = None


@dataclass(frozen=True, slots=True)
class MigrationConfig:
    """The migration as the source is asked for it; the defaults are QEMU's (version 7.2).

    Attributes:
        transport: "rdma", or "tcp" as the baseline.
        pin_all: register all guest memory on both ends at the start instead of chunk by chunk.
        max_bandwidth_bytes_s: rate limit; None or 0 for none.
        downtime_limit_ns: how long the guest may stand still.
        max_rounds: live passes over the bitmap before the migration gives up.
        stop_when_flat: give up as soon as rounds have stopped to shrink, see `convergence.py`.
        slice_ns: length of a slice; "round" for one a round, None for the whole live phase in one.
        registration_batch: chunks registered by one message, 1 to 4096.
        control_wait: "completion" waits for every control SEND's own completion, "deferred" only before its
            buffer is used again.
        control_qp: "shared" sends control and device state on the queue pair of the writes, "own" on a second.
        send_queue_depth: work requests that a send queue holds.
        rate_limit: whose way of keeping `max_bandwidth_bytes_s`, see `rate_limit.py`.
        changes: other limits, later; where several of them hold, the last one named does.
    """

    transport: Transport = "rdma"
    pin_all: bool = False
    max_bandwidth_bytes_s: int | None = 128 << 20
    downtime_limit_ns: int = 300_000_000
    max_rounds: int = 30
    slice_ns: int | Literal["round"] | None = 50_000_000
    registration_batch: int = 1
    control_wait: Literal["completion", "deferred"] = "completion"
    control_qp: Literal["shared", "own"] = "shared"
    send_queue_depth: int = SEND_QUEUE_DEPTH
    rate_limit: RateLimitOf = "qemu-7.2"
    changes: tuple[Change, ...] = ()
    stop_when_flat: bool = False

    @property
    def is_ever_limited(self) -> bool:
        """Whether there is a rate limit at any time."""
        return bool(self.max_bandwidth_bytes_s) or any(each.max_bandwidth_bytes_s for each in self.changes)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one side ended."""

    status: Status
    reason: str = ""


class MigrationError(Exception):
    """The migration cannot go on; the text is the reason a person reads."""


class Cancelled(MigrationError):
    """The user cancelled."""


class NotConverging(MigrationError):
    """The guest dirties memory faster than the link carries it away."""
