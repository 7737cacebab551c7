"""Partial drain at each full chunk: keep the pipe full and the queue bounded."""

from __future__ import annotations

from dataclasses import dataclass, field

from simmig.migration.policies.policy import FULLY, Point, Sender


@dataclass
class PendingLimit:
    """At each full chunk wait until no more than `limit` bytes are pending: at most limit / bandwidth of downtime."""

    limit: int = field(default=64 << 20, metadata={"unit": "bytes"})

    def drain(self, point: Point, sender: Sender) -> int | None:
        """Down to the limit at each full chunk, fully before the device state."""
        if point is Point.CHUNK_FULL:
            return self.limit
        return FULLY if point is Point.BEFORE_DEVICE_STATE else None
