"""Partial drain at each full chunk: keep the pipe full and the queue bounded."""

from __future__ import annotations

from dataclasses import dataclass, field

from simmig.migration.policies.policy import Point, Sender


@dataclass
class PendingLimit:
    """At each full chunk wait until no more than `limit` bytes are pending; they bound the downtime."""

    limit: int = field(default=64 << 20, metadata={"unit": "bytes"})

    @property
    def promise(self) -> int:
        """No more than the limit."""
        return self.limit

    def drain(self, point: Point, sender: Sender) -> int | None:
        """Down to the limit at each full chunk."""
        return self.limit if point is Point.CHUNK_FULL else None
