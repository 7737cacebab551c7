"""A drain policy of one's own, as a class with a parameter and as a plain function."""

from dataclasses import dataclass, field

from simmig.migration.policies import FULLY, Point, Sender


@dataclass
class HalfBudget:
    """Let no more be pending than half of what the downtime limit can carry, and never more than `most`."""

    most: int = field(default=64 << 20, metadata={"unit": "bytes"})

    @property
    def promise(self) -> int:
        """The most bytes ever pending, beside the chunk that is being filled: simmig holds the policy to it."""
        return self.most

    def drain(self, point: Point, sender: Sender) -> int | None:
        """How many bytes may stay pending here; None: do not wait."""
        if point is not Point.CHUNK_FULL:
            return None
        budget_bytes = sender.bandwidth_bytes_s * sender.downtime_limit_ns // 2_000_000_000
        return min(self.most, budget_bytes) if budget_bytes else self.most


def before_stop(point: Point, sender: Sender) -> int | None:
    """Wait once, when the guest is about to be stopped: nothing is pending while it stands still."""
    return FULLY if point is Point.BEFORE_STOP else None
