"""Values over time in a bounded number of bins, which double in width whenever they are too many.

Bins lie in columns of fixed length, in order of time, as compiled code keeps them too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_BINS = 2048
FIRST_SHIFT = 14  # bins start 16 us wide


@dataclass(slots=True)
class GaugeBin:
    """The lowest, the highest and the last value in one bin."""

    low: int
    high: int
    last: int


class Gauge:
    """A value that steps, such as bytes pending."""

    __slots__ = ("count", "end_ns", "high", "index", "last", "low", "shift")

    def __init__(self) -> None:
        self.count = self.end_ns = 0
        self.shift = FIRST_SHIFT
        self.index, self.low, self.high, self.last = ([0] * (MAX_BINS + 1) for _ in range(4))

    @property
    def bins(self) -> dict[int, GaugeBin]:
        """By number, in order of time."""
        columns = (np.array(each[: self.count]).tolist() for each in (self.index, self.low, self.high, self.last))
        return {index: GaugeBin(low, high, last) for index, low, high, last in zip(*columns, strict=True)}

    @property
    def width_ns(self) -> int:
        """Time that one bin covers; bin i begins at i x width_ns."""
        return 1 << self.shift

    def set(self, t_ns: int, value: int) -> None:
        """From `t_ns` on it is `value`. What comes late counts for the newest bin."""
        if t_ns >= self.end_ns:
            self._open(t_ns, value)
        at = self.count - 1
        if value > self.high[at]:
            self.high[at] = value
        elif value < self.low[at]:
            self.low[at] = value
        self.last[at] = value

    def _open(self, t_ns: int, value: int) -> None:
        """A new bin begins with what the one before it ended with."""
        at = self.count
        self.index[at] = t_ns >> self.shift
        self.low[at] = self.high[at] = self.last[at] = self.last[at - 1] if at else value
        self.count = at + 1
        while self.count > MAX_BINS:
            self.shift += 1
            kept = 0
            for i in range(self.count):
                index = self.index[i] >> 1
                if kept and self.index[kept - 1] == index:
                    self.low[kept - 1] = min(self.low[kept - 1], self.low[i])
                    self.high[kept - 1] = max(self.high[kept - 1], self.high[i])
                    self.last[kept - 1] = self.last[i]
                else:
                    self.index[kept] = index
                    self.low[kept], self.high[kept], self.last[kept] = self.low[i], self.high[i], self.last[i]
                    kept += 1
            self.count = kept
        self.end_ns = (self.index[self.count - 1] + 1) << self.shift


class Amount:
    """Something that adds up over time, such as bytes sent or time spent waiting."""

    __slots__ = ("count", "index", "shift", "value")

    def __init__(self) -> None:
        self.count = 0
        self.shift = FIRST_SHIFT
        self.index = [0] * (2 * MAX_BINS + 2)  # what is spread adds as many as there may be, at most
        self.value = [0.0] * (2 * MAX_BINS + 2)

    @property
    def bins(self) -> dict[int, float]:
        """By number, in order of time."""
        columns = (np.array(each[: self.count]).tolist() for each in (self.index, self.value))
        return dict(zip(*columns, strict=True))

    @property
    def width_ns(self) -> int:
        """Time that one bin covers; bin i begins at i x width_ns."""
        return 1 << self.shift

    def add(self, t_ns: int, amount: float) -> None:
        """All of it at one moment."""
        self._add_to(t_ns >> self.shift, amount)
        while self.count > MAX_BINS:
            self._coarsen()

    def spread(self, begin_ns: int, end_ns: int, amount: float) -> None:
        """Evenly over a time."""
        if end_ns <= begin_ns:
            self.add(end_ns, amount)
            return
        while (end_ns - begin_ns) >> self.shift > MAX_BINS:
            self._coarsen()
        per_ns = amount / (end_ns - begin_ns)
        shift = self.shift
        for index in range(begin_ns >> shift, (end_ns - 1 >> shift) + 1):
            inside_ns = min(end_ns, (index + 1) << shift) - max(begin_ns, index << shift)
            self._add_to(index, inside_ns * per_ns)
        while self.count > MAX_BINS:
            self._coarsen()

    def _add_to(self, index: int, amount: float) -> None:
        """Bins are mostly the latest; one that is not there is made."""
        place = self.count
        while place > 0 and self.index[place - 1] > index:
            place -= 1
        if place > 0 and self.index[place - 1] == index:
            self.value[place - 1] += amount
            return
        for i in range(self.count, place, -1):
            self.index[i], self.value[i] = self.index[i - 1], self.value[i - 1]
        self.index[place], self.value[place] = index, amount
        self.count += 1

    def _coarsen(self) -> None:
        self.shift += 1
        kept = 0
        for i in range(self.count):
            index = self.index[i] >> 1
            if kept and self.index[kept - 1] == index:
                self.value[kept - 1] += self.value[i]
            else:
                self.index[kept], self.value[kept] = index, self.value[i]
                kept += 1
        self.count = kept
