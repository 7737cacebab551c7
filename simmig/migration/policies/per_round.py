"""Drain at the end of every pass over the dirty bitmap."""

from __future__ import annotations

from dataclasses import dataclass

from simmig.migration.policies.policy import FULLY, Point, Sender


@dataclass
class PerRound:
    """Drain fully at every round's end."""

    def drain(self, point: Point, sender: Sender) -> int | None:
        """Fully at a round's end, the stopped guest's included."""
        return FULLY if point is Point.ROUND_END else None
