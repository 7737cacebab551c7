"""A drain policy to start from.

Try it: simmig run quickstart --policy my_policy.py:MyPolicy,limit='8 MiB'
"""

from dataclasses import dataclass, field

from simmig.migration.policies import FULLY, Point, Sender


@dataclass
class MyPolicy:
    """Let `limit` bytes be pending while the guest runs, and wait for all of them before it stops."""

    limit: int = field(default=32 << 20, metadata={"unit": "bytes"})

    def drain(self, point: Point, sender: Sender) -> int | None:
        """How many bytes may stay pending here; FULLY, which is 0: wait for all; None: do not wait.

        `sender` knows bytes posted, completed and pending, chunks, slices, rounds, the bandwidth estimate, the
        downtime limit and the time. The points, in the order in which they come: Point.CHUNK_FULL, SLICE_END,
        ROUND_END, BEFORE_STOP, BEFORE_DEVICE_STATE.
        """
        if point is Point.CHUNK_FULL:
            return self.limit
        if point is Point.BEFORE_STOP:
            return FULLY
        return None
