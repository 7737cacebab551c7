"""The source's guest: what it has written by a moment, and the dirty log. Memory's contents are not needed."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import numpy as np
from numba.extending import overload, register_jitable

from simmig.experiment.leap import meter, record
from simmig.experiment.leap.call_back import call_back
from simmig.experiment.leap.lane import now_of
from simmig.experiment.leap.state import Declined, Memory, compiled
from simmig.guest.workload import recorded_by, recorded_page

MOST_WRITES = (1 << 31) - 2
"""Of which a trace can tell each from the others."""
IDLE, SWEEP, UNIFORM, HOTSPOT, RECORDED, MIXTURE = 0, 1, 2, 3, 4, 5

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_56 = np.uint64(56)
_0 = np.uint64(0)
_SECOND_NS = 1_000_000_000
_PAGE_BYTES = 4096
_ONES = np.uint64(0x0101010101010101)
_recorded_by, _recorded_page = register_jitable(recorded_by), register_jitable(recorded_page)


@overload(bisect_left, strict=False)
def _bisect_left(table: Any, value: Any) -> Any:
    return lambda table, value: np.searchsorted(table, value)  # noqa: PLW0108  (compiled)


@compiled
def written_by(s: Any, m: Memory, now: int) -> int:
    """How many pages the workload writes by then."""
    if s.kind != RECORDED:
        seconds = now // _SECOND_NS
        return (s.rate * seconds + s.rate * (now - seconds * _SECOND_NS) // _SECOND_NS) // _PAGE_BYTES
    return _recorded_by(m.recorded_ends, m.recorded_totals, now)


@compiled
def _page(s: Any, m: Memory, write: int) -> int:
    """Which page that write hits."""
    if s.workload == RECORDED:
        totals = m.recorded_totals
        return _recorded_page(m.recorded_firsts, m.recorded_starts, totals[-1], totals[-1] - totals[-2], write)
    if s.workload == SWEEP:
        return write % s.span
    bits = np.uint64(call_back(s.draw_address, s.random_address))
    place = bits >> _32
    if s.workload == UNIFORM:
        return np.int64((place * np.uint64(s.span)) >> _32)  # type: ignore[return-value]
    low = np.int64(bits & _LOW)
    if s.workload == MIXTURE:
        which = 0
        while m.recorded_ends[which] <= low:
            which += 1
        return m.recorded_firsts[which] + np.int64((place * np.uint64(m.recorded_totals[which])) >> _32)
    if low < s.hot_below:
        return np.int64((place * np.uint64(s.hot)) >> _32)  # type: ignore[return-value]
    return s.hot + np.int64((place * np.uint64(s.span - s.hot)) >> _32)


@compiled
def advance(s: Any, m: Memory, now: int) -> None:
    """Have the guest write what it has written by then."""
    if s.workload == IDLE:
        return
    target = written_by(s, m, now)
    zeros, traced = len(m.zero) > 0, len(m.written) > 0
    if traced and target > MOST_WRITES:
        raise Declined
    for write in range(s.writes, target):
        page = _page(s, m, write)
        if s.logging:
            m.log[page] = 1
        if zeros:
            m.zero[page] = 0
        if traced:
            m.written[page] = write + 1
    s.writes = max(s.writes, target)


@compiled
def report(s: Any, m: Memory) -> None:
    """Tell how many pages were written since the last time."""
    if s.writes > s.told:
        meter.dirtied(s, m.rounds, now_of(s, 0), s.writes - s.told)
    s.told = s.writes


@compiled
def _spread(s: Any, m: Memory) -> None:
    """Mark all of each of the log's pages that has a mark; nothing that was given back."""
    for block in range(len(m.block_first)):
        end = m.block_end[block]
        for first in range(m.block_first[block], end, s.log_page):
            after = min(first + s.log_page, end)
            if m.log[first:after].any():
                for page in range(first, after):
                    m.log[page] = 1
    for i in range(len(m.balloon)):
        for page in range(m.balloon[i, 0], m.balloon[i, 0] + m.balloon[i, 1]):
            m.log[page] = 0


@compiled
def sync(s: Any, m: Memory) -> None:
    """Merge the dirty log into the bitmap, and walk on from where the walk is."""
    advance(s, m, now_of(s, 0))
    report(s, m)
    if s.log_page > 1:
        _spread(s, m)
    found: Any = np.int64(0)
    for i in range(len(m.log_words)):
        marked = m.log_words[i]
        if marked:
            new = marked & ~m.page_words[i]
            found += np.int64((new * _ONES) >> _56)
            m.page_words[i] |= marked
            m.log_words[i] = _0
    s.dirty += found
    s.debt[0] += s.sync[0] * s.page_count
    record.one_of(s, record.SYNCED, now_of(s, 0), found, s.dirty)
    s.cursor = s.scan_at = s.window_end = s.position
    s.cut_at = -1
    meter.remaining(s, now_of(s, 0), s.dirty)


@compiled
def is_zero(s: Any, m: Memory, first: int, count: int) -> bool:
    """Whether these pages are all zero now; charges for the look."""
    zero = len(m.zero) > 0
    if zero:
        advance(s, m, now_of(s, 0))
        for page in range(first, first + count):
            if not m.zero[page]:
                zero = False
                break
    s.debt[0] += s.zero_test[0] * (count if zero else 1)
    return zero
