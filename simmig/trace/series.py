"""Values over time in a bounded number of bins, which double in width whenever they are too many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

MAX_BINS = 2048
_FIRST_SHIFT = 14  # bins start 16 us wide


@dataclass(slots=True)
class GaugeBin:
    """The lowest, the highest and the last value in one bin."""

    low: int
    high: int
    last: int


class Gauge:
    """A value that steps, such as bytes pending."""

    def __init__(self) -> None:
        self._bins: dict[int, GaugeBin] = {}
        self._make: Callable[[], dict[int, GaugeBin]] | None = None
        self._shift = _FIRST_SHIFT
        self._bin = GaugeBin(0, 0, 0)
        self._bin_end_ns = 0

    @classmethod
    def of(cls, make: Callable[[], dict[int, GaugeBin]], width_ns: int) -> Self:
        """One that is complete: `make` returns its bins, in order of time, once somebody looks at them."""
        gauge = cls()
        gauge._shift = width_ns.bit_length() - 1
        gauge._make = make
        return gauge

    @property
    def bins(self) -> dict[int, GaugeBin]:
        """By number, in order of time."""
        if self._make is not None:
            self._bins, self._make = self._make(), None
        return self._bins

    @property
    def width_ns(self) -> int:
        """Time that one bin covers; bin i begins at i x width_ns."""
        return 1 << self._shift

    def set(self, t_ns: int, value: int) -> None:
        """From `t_ns` on it is `value`. What comes late counts for the newest bin."""
        if t_ns >= self._bin_end_ns:
            self._open(t_ns, value)
        current = self._bin
        if value > current.high:
            current.high = value
        elif value < current.low:
            current.low = value
        current.last = value

    def _open(self, t_ns: int, value: int) -> None:
        """A new bin begins with what the one before it ended with."""
        index = t_ns >> self._shift
        before = self._bin.last if self._bins else value
        self._bin = self._bins[index] = GaugeBin(before, before, before)
        while len(self._bins) > MAX_BINS:
            self._shift += 1
            merged: dict[int, GaugeBin] = {}
            for old_index, old in self._bins.items():
                new = merged.setdefault(old_index >> 1, old)
                new.low, new.high, new.last = min(new.low, old.low), max(new.high, old.high), old.last
            self._bins = merged
            index >>= 1
        self._bin = self._bins[index]
        self._bin_end_ns = index + 1 << self._shift


class Amount:
    """Something that adds up over time, such as bytes sent or time spent waiting."""

    def __init__(self) -> None:
        self.bins: dict[int, float] = {}
        self._shift = _FIRST_SHIFT

    @classmethod
    def of(cls, bins: dict[int, float], width_ns: int) -> Self:
        """One with these bins."""
        amount = cls()
        amount._shift = width_ns.bit_length() - 1
        amount.bins = bins
        return amount

    @property
    def width_ns(self) -> int:
        """Time that one bin covers; bin i begins at i x width_ns."""
        return 1 << self._shift

    def add(self, t_ns: int, amount: float) -> None:
        """All of it at one moment."""
        index = t_ns >> self._shift
        if index in self.bins:
            self.bins[index] += amount
        else:
            self.bins[index] = amount
            self._limit()

    def spread(self, begin_ns: int, end_ns: int, amount: float) -> None:
        """Evenly over a time."""
        if end_ns <= begin_ns:
            self.add(end_ns, amount)
            return
        while (end_ns - begin_ns) >> self._shift > MAX_BINS:
            self._coarsen()
        per_ns = amount / (end_ns - begin_ns)
        width_ns = self.width_ns
        for index in range(begin_ns >> self._shift, (end_ns - 1 >> self._shift) + 1):
            inside_ns = min(end_ns, (index + 1) * width_ns) - max(begin_ns, index * width_ns)
            self.bins[index] = self.bins.get(index, 0.0) + inside_ns * per_ns
        self._limit()

    def _limit(self) -> None:
        while len(self.bins) > MAX_BINS:
            self._coarsen()

    def _coarsen(self) -> None:
        self._shift += 1
        merged: dict[int, float] = {}
        for index, amount in self.bins.items():
            merged[index >> 1] = merged.get(index >> 1, 0.0) + amount
        self.bins = merged
