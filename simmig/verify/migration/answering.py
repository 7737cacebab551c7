"""Whether a policy is being asked right now, and so who it is that does not get on."""

from __future__ import annotations

from collections.abc import Callable

from simmig.migration.policies import Point, Sender
from simmig.verify.patience import PATIENCE_S


class Answering:
    """Stands between a policy and those who ask it: knows whether it is being asked, and at which point."""

    def __init__(self, drain: Callable[[Point, Sender], int | None]) -> None:
        self._drain = drain
        self._point: Point | None = None
        self.calls = 0

    def drain(self, point: Point, sender: Sender) -> int | None:
        """What the policy answers."""
        self._point = point
        self.calls += 1
        try:
            return self._drain(point, sender)
        finally:
            self._point = None

    def stuck(self, _busy_s: float = 0) -> str:
        """What to say of the policy when it has been thinking all the time; empty when it has not been asked."""
        if self._point is None:
            return ""
        return f"the policy did not answer at {self._point.value} within {PATIENCE_S} s"
