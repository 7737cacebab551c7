"""From a case that breaks an invariant to the smallest one found that breaks the same.

Delta debugging (Zeller and Hildebrandt, 2002) on faults and schedule, then every figure towards its usual or
smallest value, over and over until nothing more can be left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from simmig.verify import faults as f
from simmig.verify.subject import Subject
from simmig.verify.verdict import Verdict


def shrink(
    subject: Subject, case: Any, invariant: str, tries: int = 1500, deadline: float | None = None
) -> tuple[Any, Verdict]:
    """The smallest case found, and its verdict; plays at most `tries` cases, until `deadline` of time.monotonic.

    Raises DoesNotBreak when `case` does not break that invariant.
    """
    return _Shrinker(subject, invariant, tries, deadline).shrink(case)


class DoesNotBreak(ValueError):
    """The case does not break what it was said to."""


class _Shrinker:
    def __init__(self, subject: Subject, invariant: str, tries: int, deadline: float | None) -> None:
        self._subject = subject
        self._invariant = invariant
        self._deadline = deadline
        self._left = tries
        self._seen: set[bytes] = set()

    def shrink(self, case: Any) -> tuple[Any, Verdict]:
        best = self._play(case)
        if best is None:
            raise DoesNotBreak(f"the case does not break {self._invariant}")
        smaller = True
        while smaller and not self._over:
            smaller = False
            for candidates in (_fewer_faults, _fewer_choices, self._subject.plainer, _smaller_numbers):
                while (found := self._first(candidates, case)) is not None:
                    case, best = found
                    smaller = True
        return case, best

    @property
    def _over(self) -> bool:
        return self._left <= 0 or (self._deadline is not None and time.monotonic() >= self._deadline)

    def _first(self, candidates: Callable[[Any], Iterator[Any]], case: Any) -> tuple[Any, Verdict] | None:
        for candidate in candidates(case):
            verdict = self._play(candidate)
            if verdict is not None:
                return candidate, verdict
        return None

    def _play(self, case: Any) -> Verdict | None:
        """The verdict if the case breaks the invariant and is new."""
        key = msgspec.json.encode(case)
        if key in self._seen or (self._seen and self._over):
            return None
        self._left -= 1
        self._seen.add(key)
        try:
            verdict = self._subject.play(case)
        except ValueError:  # no such scenario
            return None
        return verdict if any(broken.invariant == self._invariant for broken in verdict.broken) else None


def _fewer_faults(case: Any) -> Iterator[Any]:
    for index in range(len(case.faults)):
        yield msgspec.structs.replace(case, faults=case.faults[:index] + case.faults[index + 1 :])


def _fewer_choices(case: Any) -> Iterator[Any]:
    """Without a stretch of the schedule: all of it, halves, quarters, ... single choices; then without a kind."""
    schedule = case.schedule
    size = len(schedule)
    while size:
        for start in range(0, len(schedule), size):
            yield msgspec.structs.replace(case, schedule=schedule[:start] + schedule[start + size :])
        size //= 2
    for index, choice in enumerate(schedule):
        if choice.option > 1:
            less = msgspec.structs.replace(choice, option=1)
            yield msgspec.structs.replace(case, schedule=(*schedule[:index], less, *schedule[index + 1 :]))


_NUMBERS = ("number", "event", "by_ns", "for_ns", "times", "value", "length_bytes")
_LEAST = {"times": 1}


def _smaller_numbers(case: Any) -> Iterator[Any]:
    """With a fault that comes earlier or is milder."""
    for index, fault in enumerate(case.faults):
        for name in _NUMBERS:
            value = getattr(fault, name, None)
            least = _LEAST.get(name, 0)
            if not isinstance(value, int) or value <= least:
                continue
            for smaller in dict.fromkeys((least, value // 2, value * 7 // 8, value - 1)):
                if least <= smaller < value:
                    less: f.Fault = msgspec.structs.replace(fault, **{name: smaller})
                    yield msgspec.structs.replace(
                        case, faults=(*case.faults[:index], less, *case.faults[index + 1 :])
                    )
