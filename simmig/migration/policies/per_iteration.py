"""Drain at the end of every live iteration: the patch of 2013, and QEMU since."""

from __future__ import annotations

from dataclasses import dataclass

from simmig.migration.policies.policy import FULLY, Point, Sender


@dataclass
class PerIteration:
    """Drain fully at every slice's end."""

    def drain(self, point: Point, sender: Sender) -> int | None:
        """Fully at a slice's end, the stopped guest's included."""
        return FULLY if point is Point.SLICE_END else None
