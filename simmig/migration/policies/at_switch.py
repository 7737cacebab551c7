"""No drain call at all: the stream itself drains when it switches from RAM to device state."""

from __future__ import annotations

from dataclasses import dataclass

from simmig.migration.policies.policy import Point, Sender


@dataclass
class AtSwitch:
    """Ask for nothing. What correctness demands before the device state is the stream's business."""

    def drain(self, point: Point, sender: Sender) -> int | None:
        """Never."""
        return None
