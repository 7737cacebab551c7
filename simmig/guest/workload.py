"""What a guest writes and when: pure functions of guest time, the same for a simulated and for a real machine.

A workload answers two questions: how many page writes have happened by a guest time (`writes_by`), and which page
each of them hits (`batch`). Both are exact and depend on nothing but the definition, so it makes no difference
how often, or in which steps, somebody asks. Guest time is the time the guest has been running, in nanoseconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
from numpy.random import PCG64
from numpy.typing import NDArray

from simmig.guest.api import PAGE_BYTES

BATCH_WRITES = 4096
"""Page writes named at once: large enough to forget the cost of a draw, small enough to stay in the cache."""

_PAGE_NS = PAGE_BYTES * 10**9  # bytes a page times nanoseconds a second: rates are bytes a second

Pages = NDArray[np.int64]


class Workload(Protocol):
    """Which pages a guest writes, in order, and how fast. Pages count through all RAM blocks of the machine."""

    @property
    def span(self) -> range:
        """The pages it may ever write lie within (empty: it writes none)."""

    def writes_by(self, guest_ns: int) -> int:
        """Page writes done once the guest has run for that long; never decreases."""

    def batch(self, index: int) -> Pages:
        """The pages hit by writes `index * BATCH_WRITES` up to `(index + 1) * BATCH_WRITES`, in order."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Writes nothing."""

    @property
    def span(self) -> range:
        """No page."""
        return range(0)

    def writes_by(self, guest_ns: int) -> int:
        """None, ever."""
        return 0

    def batch(self, index: int) -> Pages:
        """Not to be asked for: there are no writes."""
        raise IndexError("an idle guest writes nothing")


@dataclass(frozen=True, slots=True)
class _Steady:
    """A working set from page 0 on, written at a steady rate of `rate_bytes_s` (whole pages a write)."""

    working_set_bytes: int
    rate_bytes_s: int

    def __post_init__(self) -> None:
        _whole_pages("working set", self.working_set_bytes)
        if self.rate_bytes_s < 0:
            raise ValueError(f"rate must not be negative, is {self.rate_bytes_s} B/s")

    @property
    def span(self) -> range:
        """The working set."""
        return range(self.working_set_bytes // PAGE_BYTES)

    def writes_by(self, guest_ns: int) -> int:
        """Exactly floor(rate x time / page size)."""
        return self.rate_bytes_s * guest_ns // _PAGE_NS


@dataclass(frozen=True, slots=True)
class Sweep(_Steady):
    """Walks its working set page by page, round and round: what a memory-touching boot-sector guest does."""

    def batch(self, index: int) -> Pages:
        """Consecutive pages, wrapping at the end of the working set."""
        first = index * BATCH_WRITES
        return np.arange(first, first + BATCH_WRITES, dtype=np.int64) % len(self.span)


@dataclass(frozen=True, slots=True)
class Uniform(_Steady):
    """Every page of the working set is equally likely, each write independent of the others."""

    seed: int

    def batch(self, index: int) -> Pages:
        """Uniform draws."""
        return _scale(_draws(self.seed, index) >> np.uint64(32), len(self.span))


@dataclass(frozen=True, slots=True)
class Hotspot(_Steady):
    """A write hits the first `hot_set_bytes` with probability `hot_fraction`, else the rest of the working set."""

    hot_set_bytes: int
    hot_fraction: float
    seed: int

    def __post_init__(self) -> None:
        # Spelled out: a dataclass with slots is a new class, which a bare super() does not find.
        _Steady.__post_init__(self)
        _whole_pages("hot set", self.hot_set_bytes)
        if self.hot_set_bytes >= self.working_set_bytes:
            raise ValueError(
                f"hot set ({self.hot_set_bytes} B) must be smaller than the working set "
                f"({self.working_set_bytes} B)"
            )
        if not 0.0 <= self.hot_fraction <= 1.0:
            raise ValueError(f"hot fraction must lie between 0 and 1, is {self.hot_fraction}")

    def batch(self, index: int) -> Pages:
        """One draw a write: its low half decides between hot and cold, its high half on the page."""
        draws = _draws(self.seed, index)
        place = draws >> np.uint64(32)
        hot = (draws & np.uint64(0xFFFFFFFF)) < np.uint64(int(self.hot_fraction * 2**32))
        hot_pages = self.hot_set_bytes // PAGE_BYTES
        return np.where(hot, _scale(place, hot_pages), hot_pages + _scale(place, len(self.span) - hot_pages))


@dataclass(frozen=True, slots=True)
class Mixture:
    """Sets of pages side by side from page 0 on, each written at a rate of its own, all pages of a set alike.

    `sets` are (bytes, bytes a second) pairs; whole pages, and at least one.
    """

    sets: tuple[tuple[int, int], ...]
    seed: int

    def __post_init__(self) -> None:
        for length_bytes, rate_bytes_s in self.sets:
            _whole_pages("a set", length_bytes)
            if rate_bytes_s < 0:
                raise ValueError(f"rate must not be negative, is {rate_bytes_s} B/s")
        if not self.sets:
            raise ValueError("a mixture must have sets of pages")

    @property
    def rate_bytes_s(self) -> int:
        """Of all sets together."""
        return sum(rate for _, rate in self.sets)

    @property
    def span(self) -> range:
        """All sets."""
        return range(sum(length_bytes for length_bytes, _ in self.sets) // PAGE_BYTES)

    def writes_by(self, guest_ns: int) -> int:
        """Exactly floor(rate x time / page size)."""
        return self.rate_bytes_s * guest_ns // _PAGE_NS

    def batch(self, index: int) -> Pages:
        """One draw a write: its low half decides on the set, by the rates, its high half on the page."""
        ends, pages, firsts = self.tables()
        draws = _draws(self.seed, index)
        chosen = np.searchsorted(ends.astype(np.uint64), draws & np.uint64(0xFFFFFFFF), side="right")
        place = (draws >> np.uint64(32)) * pages[chosen].astype(np.uint64)
        return firsts[chosen] + (place >> np.uint64(32)).astype(np.int64)

    def tables(self) -> tuple[Pages, Pages, Pages]:
        """Of each set: below which low half of a draw it is chosen, how many pages it has, and its first page."""
        pages = np.array([length_bytes // PAGE_BYTES for length_bytes, _ in self.sets], dtype=np.int64)
        until = list(accumulate(rate for _, rate in self.sets))
        ends = np.array([(end << 32) // max(1, until[-1]) for end in until], dtype=np.int64)
        return ends, pages, np.cumsum(pages) - pages


class Recorded:
    """Writes seen elsewhere: each row says that these pages were written by `time_ns`, since the row before.

    Rows `(time_ns, first_page, count)` come in order of time, counted from the guest's start. Rows of one time
    make one interval, which begins at the time before (the first at 0); its writes are spread evenly over it, in
    the order of its rows. After the last interval that one repeats for ever.

    Raises ValueError for rows out of order, at time 0 or before it, or with a negative page or count.
    """

    __slots__ = ("_ends_ns", "_firsts", "_last_writes", "_row_starts", "_span", "_totals")

    def __init__(self, rows: Sequence[tuple[int, int, int]]) -> None:
        ends_ns = [0]
        totals = [0]  # totals[i]: writes by ends_ns[i]
        for time_ns, first_page, count in rows:
            if first_page < 0 or count < 0:
                raise ValueError(f"recorded row at {time_ns} ns: page and count must not be negative")
            if time_ns <= 0 or time_ns < ends_ns[-1]:
                raise ValueError(f"recorded row at {time_ns} ns: times must be positive and must not go back")
            if time_ns > ends_ns[-1]:
                ends_ns.append(time_ns)
                totals.append(totals[-1])
            totals[-1] += count
        hits = [row for row in rows if row[2]]
        self._ends_ns = ends_ns
        self._totals = totals
        self._last_writes = totals[-1] - totals[-2] if len(totals) > 1 else 0
        self._firsts = np.array([row[1] for row in hits], dtype=np.int64)
        counts = np.array([row[2] for row in hits], dtype=np.int64)
        self._row_starts = np.cumsum(counts) - counts
        self._span = range(
            min((row[1] for row in hits), default=0), max((row[1] + row[2] for row in hits), default=0)
        )

    @property
    def span(self) -> range:
        """From the lowest recorded page to the highest."""
        return self._span

    @property
    def repeated(self) -> tuple[int, int]:
        """What the last interval repeats for ever: so many writes in so many nanoseconds; nothing without rows."""
        return self._last_writes, self._ends_ns[-1] - self._ends_ns[-2] if len(self._ends_ns) > 1 else 1

    def tables(self) -> tuple[Pages, Pages, Pages, Pages]:
        """Intervals' ends and the writes by then, from 0; the rows' first pages and the writes before them."""
        ends_ns, totals = (np.array(table, dtype=np.int64) for table in (self._ends_ns, self._totals))
        return ends_ns, totals, self._firsts, self._row_starts

    def writes_by(self, guest_ns: int) -> int:
        """All of the intervals gone by, and an even share of the running one."""
        return recorded_by(self._ends_ns, self._totals, guest_ns)

    def batch(self, index: int) -> Pages:
        """The rows' pages in order; past their end, those of the last interval again and again."""
        first = index * BATCH_WRITES
        writes = np.arange(first, first + BATCH_WRITES, dtype=np.int64)
        pages: Pages = recorded_page(self._firsts, self._row_starts, self._totals[-1], self._last_writes, writes)
        return pages


def recorded_by(ends_ns: Any, totals: Any, guest_ns: int) -> int:
    """How many writes of a recording are done by then: of the interval running, or the last again, its share."""
    interval = min(bisect_left(ends_ns, guest_ns), len(ends_ns) - 1)
    if interval <= 0:
        return 0
    start_ns, start = ends_ns[interval - 1], totals[interval - 1]
    width_ns, writes = ends_ns[interval] - start_ns, totals[interval] - start
    again, rest_ns = divmod(guest_ns - start_ns, width_ns)
    return int(start + writes * again + writes * rest_ns // width_ns)


def recorded_page(firsts: Pages, starts: Pages, total: int, last_writes: int, write: Any) -> Any:
    """Which page that write of a recording hits, or those writes; past the end the last interval's come again."""
    repeated = max(last_writes, 1)  # writes that never happen may name any page
    write = write - np.maximum((write - total + repeated) // repeated, 0) * repeated
    row = np.searchsorted(starts, write, side="right") - 1
    return firsts[row] + (write - starts[row])


class Looped:
    """A recording again and again: its rows are a period, which ends with the last of them."""

    __slots__ = ("_pages", "_period_ns", "_recorded")

    def __init__(self, rows: Sequence[tuple[int, int, int]]) -> None:
        self._recorded = Recorded(rows)
        self._period_ns = rows[-1][0] if rows else 0
        total = self._recorded.writes_by(self._period_ns)
        batches = [self._recorded.batch(index) for index in range(-(-total // BATCH_WRITES))]
        self._pages = np.concatenate(batches)[:total] if batches else np.empty(0, dtype=np.int64)

    @property
    def span(self) -> range:
        """From the lowest recorded page to the highest."""
        return self._recorded.span

    def writes_by(self, guest_ns: int) -> int:
        """All of the periods gone by, and the running one's as recorded."""
        if not len(self._pages):
            return 0
        laps, rest_ns = divmod(guest_ns, self._period_ns)
        return laps * len(self._pages) + self._recorded.writes_by(rest_ns)

    def batch(self, index: int) -> Pages:
        """The rows' pages in order, and again."""
        first = index * BATCH_WRITES
        return self._pages[np.arange(first, first + BATCH_WRITES, dtype=np.int64) % len(self._pages)]


def _draws(seed: int, index: int) -> NDArray[np.uint64]:
    """Raw 64-bit draws, one a write. PCG64's own stream is fixed for good and can be entered anywhere in it.

    `Generator`'s distributions may change between NumPy versions (NEP 19), which would change traces.
    """
    source = PCG64(seed)
    source.advance(index * BATCH_WRITES)
    return np.asarray(source.random_raw(BATCH_WRITES), dtype=np.uint64)


def _scale(draws: NDArray[np.uint64], count: int) -> Pages:
    """Map 32-bit draws to 0..count-1 by multiplication (Lemire); the bias is below count / 2^32."""
    return ((draws * np.uint64(count)) >> np.uint64(32)).astype(np.int64)


def _whole_pages(what: str, length_bytes: int) -> None:
    if length_bytes <= 0 or length_bytes % PAGE_BYTES:
        raise ValueError(f"{what} must be a positive multiple of {PAGE_BYTES} B, is {length_bytes} B")
