"""Whether the protocol asks the policy where it promises to (`migration.policies.Point`), and does as it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from simmig.migration.policies import Point, Policy, Sender
from simmig.trace.events import (
    AnyEvent,
    DeviceStateSent,
    DrainBegan,
    RoundBegan,
    RoundEnded,
    SliceBegan,
    SliceEnded,
    VmStopped,
)
from simmig.verify.migration.answering import Answering
from simmig.verify.patience import PATIENCE_S, Endless

_DUE = {
    SliceEnded: (Point.SLICE_END, SliceBegan),
    RoundEnded: (Point.ROUND_END, RoundBegan),
    VmStopped: (Point.BEFORE_STOP, None),
    DeviceStateSent: (Point.BEFORE_DEVICE_STATE, VmStopped),
}
"""Before such an event of the source's the policy is asked at that point, since the event it belongs to."""


class NoAnswer(Exception):
    """What the protocol sees of a policy that was ended: one that raises."""


class Asked:
    """Listens in on a policy; what it answers and what the trace says of it stay the same."""

    def __init__(self, policy: Policy, events: Sequence[AnyEvent]) -> None:
        self._events = events
        self._asked: list[tuple[Point, int]] = []  # and after how many events
        self._name = type(policy).__name__
        self.unanswered: tuple[int, str] | None = None
        """After which event of the trace the policy did not answer, and words."""
        self.answers: list[tuple[str, int, Any]] = []
        """At which point, with how many bytes pending, and what the policy said to it."""
        self._wants: dict[int, tuple[Point, int | None]] = {}  # the answer by the events before it, None: no drain
        self.answering = Answering(policy.drain)
        heard: Any = policy
        heard.drain = self._hear

    def _hear(self, point: Point, sender: Sender) -> int | None:
        self._asked.append((point, len(self._events)))
        pending = sender.pending_bytes
        try:
            answer = self.answering.drain(point, sender)
        except Endless as endless:
            self.unanswered = max(0, len(self._events) - 1), f"{self._name}: {endless}"
            raise NoAnswer(str(endless)) from None
        self.answers.append((point.value, pending, answer))
        if answer is None or isinstance(answer, int):
            waits = answer is not None and pending > answer >= 0
            self._wants[len(self._events)] = (point, answer if waits else None)
        return answer

    def stuck(self, busy_s: float) -> str:
        """See `patience`: neither the policy nor the protocol has got on."""
        words = f"no step in {PATIENCE_S} s of processor time"
        return self.answering.stuck() or (words if busy_s > PATIENCE_S else "")

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

    def disobeyed(self) -> Iterator[tuple[int, str]]:
        """Where the policy's answer and the drain that followed, or did not, differ: index, and words."""
        drains = {
            index: event
            for index, event in enumerate(self._events)
            if isinstance(event, DrainBegan) and event.asked_by == "policy"
        }
        for index, (point, answer) in self._wants.items():
            drain = drains.pop(index, None)
            if answer is not None and drain is None and index < len(self._events):
                if self._events[index].side == "source":
                    yield index, f"the policy asked at {point.value} for a drain to {answer} bytes, and none began"
            elif drain is not None and (drain.point, drain.target_bytes) != (point.value, answer):
                asked = "for none" if answer is None else f"to {answer} bytes"
                words = (
                    f"a drain to {drain.target_bytes} bytes began at {drain.point}, asked at {point.value} {asked}"
                )
                yield index, words
        for index, drain in drains.items():
            yield index, f"a drain began at {drain.point} in the policy's name, which was not asked"
