"""A policy of one's own within compiled code: back to Python where it is asked, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from simmig.experiment.leap.call_back import Callback
from simmig.experiment.leap.state import NONE
from simmig.migration.policies.policy import Point, Policy
from simmig.own_code import RAISED, prints_aside
from simmig.verify.migration.answering import Answering
from simmig.verify.patience import Endless, patience

_POINTS = tuple(Point)
_NO_ANSWER = NONE - 1
_MOST = 1 << 62


class OwnPolicy:
    """Stands between compiled code and a policy: to that it is the `Sender`, read from the state as it is.

    What the policy raises, or answers that is no number of bytes, ends the leap: the event model asks it again and
    tells what is wrong.
    """

    def __init__(self, policy: Policy, state: Any) -> None:
        self._state = state
        self.function = Callback(self._ask)
        self.answering = Answering(policy.drain)

    def _ask(self, point: int) -> int:
        try:
            target = self.answering.drain(_POINTS[point], self)
            if target is None:
                return NONE
            return min(target, _MOST) if isinstance(target, int) and target >= 0 else _NO_ANSWER
        except (*RAISED, Endless):
            return _NO_ANSWER

    @contextmanager
    def asked(self) -> Iterator[None]:
        """While compiled code runs: what it prints goes aside, and it has as long to answer as ever."""
        with prints_aside(), patience(lambda: self.answering.calls, self.answering.stuck):
            yield

    @property
    def posted_bytes(self) -> int:
        """RAM bytes posted as writes."""
        return int(self._state["posted_bytes"])

    @property
    def completed_bytes(self) -> int:
        """RAM bytes whose completion was polled."""
        return int(self._state["completed_bytes"])

    @property
    def pending_bytes(self) -> int:
        """RAM bytes posted and not completed."""
        return int(self._state["pending"])

    @property
    def chunks(self) -> int:
        """Chunks left behind."""
        return int(self._state["chunks"])

    @property
    def slice(self) -> int:
        """The slice, from 1."""
        return int(self._state["slices"])

    @property
    def round(self) -> int:
        """The pass over the bitmap, from 1."""
        return int(self._state["rounds"])

    @property
    def bandwidth_bytes_s(self) -> int:
        """The estimate."""
        return int(self._state["bandwidth_bytes_s"])

    @property
    def downtime_limit_ns(self) -> int:
        """How long the guest may stand still."""
        return int(self._state["downtime_limit_ns"])

    @property
    def now_ns(self) -> int:
        """The source host's clock."""
        return int(self._state["now"]) + int(self._state["debt"][0])
