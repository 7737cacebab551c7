"""Where a recorded speed changes for good: a rate limit set on the way, a link that became slower.

Speeds of one stretch scatter: slices, drains and polls fall as they fall. A change is taken for one where the
means on both sides differ by so many standard errors that chance does not explain it, even looked for at every
place, and by so much that it matters (Scott and Knott's binary segmentation, 1974, with Welch's statistic).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_LEAST = 3
"""Readings on either side."""
_SURE = 5.0
"""Standard errors."""
_MATTERS = 1.25
_FLOOR = 0.01
"""Of the mean: no reading is known better than that."""


def stretches(spent: Sequence[float], moved: Sequence[float]) -> list[tuple[int, int]]:
    """Readings (time, amount) parted where their speed changes: (first, past the last) of each stretch."""
    speeds = [amount / time for time, amount in zip(spent, moved, strict=True)]
    return _part(speeds, 0, len(speeds))


def _part(speeds: Sequence[float], first: int, end: int) -> list[tuple[int, int]]:
    places = range(first + _LEAST, end - _LEAST + 1)
    place = max(places, key=lambda at: _apart(speeds[first:at], speeds[at:end]), default=None)
    if place is None or _apart(speeds[first:place], speeds[place:end]) < _SURE:
        return [(first, end)]
    return [*_part(speeds, first, place), *_part(speeds, place, end)]


def _apart(one: Sequence[float], other: Sequence[float]) -> float:
    """How many standard errors lie between the means; 0 where they are too near to matter."""
    means = [sum(each) / len(each) for each in (one, other)]
    if max(means) < _MATTERS * min(means):
        return 0.0
    squares = 0.0
    for each, mean in zip((one, other), means, strict=True):
        variance = sum((value - mean) ** 2 for value in each) / (len(each) - 1)
        squares += max(variance, (_FLOOR * mean) ** 2) / len(each)
    return abs(means[0] - means[1]) / math.sqrt(squares) if squares else 0.0
