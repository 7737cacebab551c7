"""The figures of a migration as it goes: `trace.metrics` and `trace.series`, without the events between."""

from __future__ import annotations

from typing import Any

from simmig.experiment.leap import record
from simmig.experiment.leap.state import (
    COUNTS,
    DRAINS,
    GUEST_WRITES,
    POSTED,
    Ints,
    TableFull,
    compiled,
)
from simmig.trace.series import MAX_BINS

PENDING_GAUGE, REMAINING_GAUGE = 0, 1
BY_POLICY, BY_WIRE, BY_PROTOCOL = 0, 1, 2
ARRIVED_AMOUNT, DIRTIED_AMOUNT = 3, 4  # the first three are the times waited, by who asked
RESIDUAL, DRAIN, DEVICE_STATE, SWITCH = 0, 1, 2, 3


@compiled
def _open_bin(s: Any, which: int, t: int, value: int) -> None:
    n = s.g_count[which]
    before = s.g_last[which, n - 1] if n else value
    s.g_index[which, n] = t >> s.g_shift[which]
    s.g_low[which, n] = s.g_high[which, n] = s.g_last[which, n] = before
    n += 1
    while n > MAX_BINS:
        s.g_shift[which] += 1
        kept = 0
        for i in range(n):
            index = s.g_index[which, i] >> 1
            if kept and s.g_index[which, kept - 1] == index:
                s.g_low[which, kept - 1] = min(s.g_low[which, kept - 1], s.g_low[which, i])
                s.g_high[which, kept - 1] = max(s.g_high[which, kept - 1], s.g_high[which, i])
                s.g_last[which, kept - 1] = s.g_last[which, i]
            else:
                s.g_index[which, kept] = index
                s.g_low[which, kept] = s.g_low[which, i]
                s.g_high[which, kept] = s.g_high[which, i]
                s.g_last[which, kept] = s.g_last[which, i]
                kept += 1
        n = kept
    s.g_count[which] = n
    s.g_end[which] = (s.g_index[which, n - 1] + 1) << s.g_shift[which]


@compiled
def gauge(s: Any, which: int, t: int, value: int) -> None:
    """From `t` on it is `value`."""
    if t >= s.g_end[which]:
        _open_bin(s, which, t, value)
    i = s.g_count[which] - 1
    if value > s.g_high[which, i]:
        s.g_high[which, i] = value
    elif value < s.g_low[which, i]:
        s.g_low[which, i] = value
    s.g_last[which, i] = value


@compiled
def _bin(s: Any, which: int, index: int) -> int:
    """The place of that bin, made if it is not there; bins are mostly the latest."""
    n = s.a_count[which]
    place = n
    while place > 0 and s.a_index[which, place - 1] > index:
        place -= 1
    if place > 0 and s.a_index[which, place - 1] == index:
        return place - 1
    for i in range(n, place, -1):
        s.a_index[which, i] = s.a_index[which, i - 1]
        s.a_value[which, i] = s.a_value[which, i - 1]
    s.a_index[which, place] = index
    s.a_value[which, place] = 0.0
    s.a_count[which] = n + 1
    return place


@compiled
def _coarsen(s: Any, which: int) -> None:
    s.a_shift[which] += 1
    kept = 0
    for i in range(s.a_count[which]):
        index = s.a_index[which, i] >> 1
        value = s.a_value[which, i]
        if kept and s.a_index[which, kept - 1] == index:
            s.a_value[which, kept - 1] += value
        else:
            s.a_index[which, kept] = index
            s.a_value[which, kept] = value
            kept += 1
    s.a_count[which] = kept


@compiled
def amount(s: Any, which: int, t: int, value: int) -> None:
    """All of it at one moment."""
    s.a_value[which, _bin(s, which, t >> s.a_shift[which])] += value
    while s.a_count[which] > MAX_BINS:
        _coarsen(s, which)


@compiled
def spread(s: Any, which: int, begin: int, end: int, value: int) -> None:
    """Evenly over a time."""
    if end <= begin:
        amount(s, which, end, value)
        return
    while (end - begin) >> s.a_shift[which] > MAX_BINS:
        _coarsen(s, which)
    per_ns = value / (end - begin)
    shift = s.a_shift[which]
    for index in range(begin >> shift, ((end - 1) >> shift) + 1):
        inside = min(end, (index + 1) << shift) - max(begin, index << shift)
        s.a_value[which, _bin(s, which, index)] += inside * per_ns
    while s.a_count[which] > MAX_BINS:
        _coarsen(s, which)


@compiled
def account(s: Any, t: int) -> None:
    """Add the time since the last boundary to the part of the downtime it belongs to."""
    if s.stopped < 0 or s.resumed_at >= 0:
        return
    waits = s.draining[0] >= 0 or s.draining[1] >= 0 or s.draining[2] >= 0
    s.parts[DRAIN if waits else s.phase] += t - s.part_began
    s.part_began = t


@compiled
def drain_began(s: Any, asked_by: int, t: int, why: int, target: int) -> None:
    """The source starts to wait for writes."""
    record.wide(s, record.DRAIN_BEGAN + asked_by, t, why, s.pending, target, 0, 0)
    account(s, t)
    s.draining[asked_by] = t
    if asked_by == BY_POLICY:
        s.counts[DRAINS] += 1


@compiled
def drain_ended(s: Any, asked_by: int, t: int) -> None:
    """It stops waiting."""
    record.one_of(s, record.DRAIN_ENDED + asked_by, t, s.pending, 0)
    account(s, t)
    began = s.draining[asked_by]
    s.draining[asked_by] = -1
    spread(s, asked_by, began, t, t - began)
    s.counts[DRAINS + 1 + asked_by] += t - began


@compiled
def write_posted(s: Any, t: int, length: int) -> None:
    """RAM bytes were posted."""
    s.counts[POSTED] += length
    s.pending += length
    s.posted_bytes += length
    s.max_pending = max(s.max_pending, s.pending)
    gauge(s, PENDING_GAUGE, t, s.pending)


@compiled
def pages_saved(s: Any, kind: int, t: int, pages: int) -> None:
    """Pages left the bitmap, as data or as zeros (the count of that name)."""
    s.counts[kind] += pages
    s.remaining -= pages
    gauge(s, REMAINING_GAUGE, t, max(s.remaining, 0))


@compiled
def remaining(s: Any, t: int, dirty: int) -> None:
    """So many pages are dirty."""
    s.remaining = dirty
    gauge(s, REMAINING_GAUGE, t, dirty)


@compiled
def dirtied(s: Any, rounds: Ints, t: int, writes: int) -> None:
    """The guest wrote; what a bitmap sync finds belongs to the round that has just ended."""
    record.one_of(s, record.DIRTIED, t, writes, 0)
    s.counts[GUEST_WRITES] += writes
    if s.rounds and rounds[s.rounds - 1, 4] >= 0:
        rounds[s.rounds - 1, 6 + GUEST_WRITES] += writes
    spread(s, DIRTIED_AMOUNT, s.dirtied_at, t, writes * 4096)
    s.dirtied_at = t


@compiled
def close_row(s: Any, table: Ints, rows: int, t: int) -> None:
    """The latest round or slice is over, if it was not."""
    if rows and table[rows - 1, 4] < 0:
        table[rows - 1, 4] = t
        table[rows - 1, 5] = s.pending
        for i in range(COUNTS):
            table[rows - 1, 6 + i] = s.counts[i] - table[rows - 1, 6 + i]


@compiled
def open_row(s: Any, table: Ints, rows: int, index: int, at_round: int, t: int, dirty: int) -> None:
    """A round or slice begins."""
    close_row(s, table, rows, t)
    if rows == len(table):
        raise TableFull
    table[rows, 0] = index
    table[rows, 1] = t
    table[rows, 2] = at_round
    table[rows, 3] = dirty
    table[rows, 4] = -1
    table[rows, 5] = 0
    for i in range(COUNTS):
        table[rows, 6 + i] = s.counts[i]
