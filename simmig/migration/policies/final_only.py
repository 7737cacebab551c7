"""Nobody waits until the end."""

from __future__ import annotations

from dataclasses import dataclass

from simmig.migration.policies.policy import FULLY, Point, Sender


@dataclass
class FinalOnly:
    """Drain once, when the stopped guest's last pages are posted."""

    def drain(self, point: Point, sender: Sender) -> int | None:
        """Fully before the device state, else not."""
        return FULLY if point is Point.BEFORE_DEVICE_STATE else None
