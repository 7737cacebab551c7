"""Whether the protocol asks the policy where it promises to (`migration.policies.Point`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from simmig.migration.policies import Point, Policy, Sender
from simmig.trace.events import (
    AnyEvent,
    DeviceStateSent,
    RoundBegan,
    RoundEnded,
    SliceBegan,
    SliceEnded,
    VmStopped,
)

_DUE = {
    SliceEnded: (Point.SLICE_END, SliceBegan),
    RoundEnded: (Point.ROUND_END, RoundBegan),
    VmStopped: (Point.BEFORE_STOP, None),
    DeviceStateSent: (Point.BEFORE_DEVICE_STATE, VmStopped),
}
"""Before such an event of the source's the policy is asked at that point, since the event it belongs to."""


class Asked:
    """Listens in on a policy; what it answers and what the trace says of it stay the same."""

    def __init__(self, policy: Policy, events: Sequence[AnyEvent]) -> None:
        self._events = events
        self._asked: list[tuple[Point, int]] = []  # and after how many events
        self._drain = policy.drain
        heard: Any = policy
        heard.drain = self._hear

    def _hear(self, point: Point, sender: Sender) -> int | None:
        self._asked.append((point, len(self._events)))
        return self._drain(point, sender)

    def missed(self) -> Iterator[tuple[int, str]]:
        """Events before which the policy should have been asked and was not: their index, and the point."""
        last: dict[type, int] = {}
        for index, event in enumerate(self._events):
            if event.side != "source":
                continue
            last[type(event)] = index
            if type(event) in _DUE:
                point, since = _DUE[type(event)]
                begin = 0 if since is None else last.get(since, 0)
                if not any(at is point and begin < count <= index for at, count in self._asked):
                    yield index, point.value
