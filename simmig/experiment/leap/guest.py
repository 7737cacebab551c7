"""The source's guest: what it has written by a moment, and the dirty log. Memory's contents are not needed.

A draw of numpy's PCG64 is made here as numpy makes it, for a compiled loop cannot call it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simmig.experiment.leap import meter, record
from simmig.experiment.leap.lane import now_of
from simmig.experiment.leap.state import Declined, Memory, compiled

MOST_WRITES = (1 << 31) - 2
"""Of which a trace can tell each from the others."""
IDLE, SWEEP, UNIFORM, HOTSPOT, RECORDED, MIXTURE = 0, 1, 2, 3, 4, 5

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_56 = np.uint64(56)
_58, _63, _64 = np.uint64(58), np.uint64(63), np.uint64(64)
_0, _1 = np.uint64(0), np.uint64(1)
_MULTIPLIER_HIGH = np.uint64(0x2360ED051FC65DA4)
_MULTIPLIER_LOW = np.uint64(0x4385DF649FCCF645)
_SECOND_NS = 1_000_000_000
_PAGE_BYTES = 4096
_ONES = np.uint64(0x0101010101010101)


@compiled
def draw(s: Any) -> Any:
    """The next 64 random bits (O'Neill's PCG XSL-RR 128/64: step, then output)."""
    low, high = s.pcg_low, s.pcg_high
    # 128-bit product, the low halves by 32-bit pieces
    a0, a1 = low & _LOW, low >> _32
    b0, b1 = _MULTIPLIER_LOW & _LOW, _MULTIPLIER_LOW >> _32
    p00, p01, p10, p11 = a0 * b0, a0 * b1, a1 * b0, a1 * b1
    middle = (p00 >> _32) + (p01 & _LOW) + (p10 & _LOW)
    new_low = (p00 & _LOW) | (middle << _32)
    new_high = p11 + (p01 >> _32) + (p10 >> _32) + (middle >> _32)
    new_high += low * _MULTIPLIER_HIGH + high * _MULTIPLIER_LOW
    new_low += s.pcg_inc_low
    new_high += s.pcg_inc_high + (_1 if new_low < s.pcg_inc_low else _0)
    s.pcg_low, s.pcg_high = new_low, new_high
    word = new_high ^ new_low
    turn = new_high >> _58
    return (word >> turn) | (word << ((_64 - turn) & _63))


@compiled
def written_by(s: Any, m: Memory, now: int) -> int:
    """How many pages the workload writes by then."""
    if s.kind != RECORDED:
        seconds = now // _SECOND_NS
        return (s.rate * seconds + s.rate * (now - seconds * _SECOND_NS) // _SECOND_NS) // _PAGE_BYTES
    ends, totals = m.recorded_ends, m.recorded_totals
    last = len(ends) - 1
    if now > ends[last]:
        width, writes = ends[last] - ends[last - 1], totals[last] - totals[last - 1]
        again = (now - ends[last]) // width
        return totals[last] + writes * again + writes * (now - ends[last] - again * width) // width
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        if ends[middle] < now:
            low = middle + 1
        else:
            high = middle
    if not low:
        return 0
    width = ends[low] - ends[low - 1]
    return totals[low - 1] + (totals[low] - totals[low - 1]) * (now - ends[low - 1]) // width


@compiled
def _recorded_page(m: Memory, write: int) -> int:
    """Which page a recorded write hits; behind the last one the last interval's come again."""
    totals, starts = m.recorded_totals, m.recorded_starts
    end = len(totals) - 1
    writes = max(totals[end] - totals[end - 1], 1)
    again_from = totals[end] - writes
    if write > again_from:
        write = again_from + (write - again_from) % writes
    low, high = 0, len(starts)
    while low < high:
        middle = (low + high) // 2
        if starts[middle] <= write:
            low = middle + 1
        else:
            high = middle
    return m.recorded_firsts[low - 1] + write - starts[low - 1]


@compiled
def _page(s: Any, m: Memory, write: int) -> int:
    """Which page that write hits."""
    if s.workload == RECORDED:
        return _recorded_page(m, write)
    if s.workload == SWEEP:
        return write % s.span
    bits = draw(s)
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
