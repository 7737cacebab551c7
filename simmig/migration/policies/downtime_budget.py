"""An adaptive limit: never more pending than the downtime limit can carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simmig.migration.per_second import amount_in
from simmig.migration.policies.policy import Point, Sender
from simmig.trace.events import Promise


@dataclass
class DowntimeBudget:
    """Like a pending limit of bandwidth x downtime limit, with the bandwidth estimated as it goes."""

    promise: ClassVar[Promise] = "downtime-budget"

    def drain(self, point: Point, sender: Sender) -> int | None:
        """Down to the budget at each full chunk and before the stop; no limit before the first estimate."""
        if point not in (Point.CHUNK_FULL, Point.BEFORE_STOP) or not sender.bandwidth_bytes_s:
            return None
        return amount_in(sender.downtime_limit_ns, sender.bandwidth_bytes_s)
