"""Drain whenever a chunk is full."""

from __future__ import annotations

from dataclasses import dataclass

from simmig.migration.policies.policy import FULLY, Point, Sender


@dataclass
class PerChunk:
    """One chunk at a time: nothing is left pending when the sender moves on to the next."""

    def drain(self, point: Point, sender: Sender) -> int | None:
        """Fully at each full chunk, and before the device state."""
        return FULLY if point in (Point.CHUNK_FULL, Point.BEFORE_DEVICE_STATE) else None
