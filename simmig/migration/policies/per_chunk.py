"""Drain whenever a chunk is full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simmig.migration.policies.policy import FULLY, Point, Sender


@dataclass
class PerChunk:
    """One chunk at a time: nothing is left pending when the sender moves on to the next."""

    promise: ClassVar[int] = FULLY

    def drain(self, point: Point, sender: Sender) -> int | None:
        """Fully at each full chunk."""
        return FULLY if point is Point.CHUNK_FULL else None
