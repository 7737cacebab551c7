"""The points at which the real world is free, and who decides there.

Option 0 is always what the plain simulator does, so a schedule is the short list of what differs from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random

import msgspec

KINDS = {
    "order": "which of several simultaneous events comes first",
    "preempt": "a task is not scheduled for a while at its next wait",
    "completion": "a completion enters its queue later than it could",
    "late": "a completion held back enters its queue just before a poll or an arming",
    "notify": "the event of a completion comes later than the completion",
    "spurious": "an event comes although nothing has completed",
    "ack": "an acknowledgement is held back, or left to a later one to cover",
    "dma": "the guest writes or clears a page just before or just after the device reads it",
}

PREEMPTIONS_NS = (0, 1_000, 60_000, 5_000_000)
COMPLETION_DELAYS_NS = (0, 700, 40_000, 2_000_000)
NOTIFY_DELAYS_NS = (0, 800, 60_000)
ACK_DELAYS_NS = (0, 900, 50_000)


class Choice(msgspec.Struct, frozen=True, order=True, array_like=True):
    """At the `number`-th point of that kind (from 0) the world took `option` and not 0, the usual one."""

    kind: str
    number: int
    option: int


class Choices:
    """Decides by a schedule, and keeps in `taken` what was decided; an option that is not there counts as 0."""

    def __init__(self, schedule: Iterable[Choice] = ()) -> None:
        self._scripted = {(choice.kind, choice.number): choice.option for choice in schedule}
        self._counts: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.taken: list[Choice] = []
        self.points = 0

    def choose(self, kind: str, options: int) -> int:
        """Which of that many options it is to be."""
        number = self._counts[kind]
        self._counts[kind] = number + 1
        self.points += 1
        option = self.decide(kind, number, options)
        if option:
            self.taken.append(Choice(kind, number, option))
        return option

    def decide(self, kind: str, number: int, options: int) -> int:
        """What the schedule says."""
        option = self._scripted.get((kind, number), 0)
        return option if option < options else 0


class Logged(Choices):
    """Decides by a schedule, and keeps in `log` every point: its kind, its number, how many options there were."""

    def __init__(self, schedule: Iterable[Choice] = ()) -> None:
        super().__init__(schedule)
        self.log: list[tuple[str, int, int]] = []

    def decide(self, kind: str, number: int, options: int) -> int:
        """What the schedule says."""
        self.log.append((kind, number, options))
        return super().decide(kind, number, options)


class Drawn(Choices):
    """Decides by lot: each kind has its own likelihood of anything but the usual.

    Only `Random.random` is used, whose sequence Python promises not to change.
    """

    def __init__(self, seed: int, likelihood: Mapping[str, float]) -> None:
        super().__init__()
        self._random = Random(seed).random
        self._likelihood = likelihood

    def decide(self, kind: str, number: int, options: int) -> int:
        """Draw."""
        likelihood = self._likelihood.get(kind, 0.0)
        if not likelihood or options < 2 or self._random() >= likelihood:
            return 0
        return 1 + int(self._random() * (options - 1))
