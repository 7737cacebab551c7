"""Drain every N megabytes sent."""

from __future__ import annotations

from dataclasses import dataclass, field

from simmig.migration.policies.policy import FULLY, Point, Sender


@dataclass
class EveryBytes:
    """Drain fully at the first full chunk after every `interval` bytes posted."""

    interval: int = field(default=64 << 20, metadata={"unit": "bytes"})
    _drained_at_bytes: int = field(default=0, init=False)

    @property
    def promise(self) -> int:
        """No more than was posted since the last drain."""
        return self.interval

    def drain(self, point: Point, sender: Sender) -> int | None:
        """Fully once `interval` bytes were posted since the last time."""
        if point is not Point.CHUNK_FULL or sender.posted_bytes - self._drained_at_bytes < self.interval:
            return None
        self._drained_at_bytes = sender.posted_bytes
        return FULLY
