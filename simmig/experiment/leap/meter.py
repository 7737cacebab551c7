"""The figures of a migration as it goes: `trace.metrics`, without the events between."""

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

BY_POLICY, BY_WIRE, BY_PROTOCOL = 0, 1, 2
RESIDUAL, DRAIN, DEVICE_STATE, SWITCH = 0, 1, 2, 3


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
    s.waited[asked_by].spread(began, t, t - began)
    s.counts[DRAINS + 1 + asked_by] += t - began


@compiled
def write_posted(s: Any, t: int, length: int) -> None:
    """RAM bytes were posted."""
    s.counts[POSTED] += length
    s.pending += length
    s.posted_bytes += length
    s.max_pending = max(s.max_pending, s.pending)
    s.pending_gauge.set(t, s.pending)


@compiled
def pages_saved(s: Any, kind: int, t: int, pages: int) -> None:
    """Pages left the bitmap, as data or as zeros (the count of that name)."""
    s.counts[kind] += pages
    s.remaining -= pages
    s.remaining_gauge.set(t, max(s.remaining, 0))


@compiled
def remaining(s: Any, t: int, dirty: int) -> None:
    """So many pages are dirty."""
    s.remaining = dirty
    s.remaining_gauge.set(t, dirty)


@compiled
def dirtied(s: Any, rounds: Ints, t: int, writes: int) -> None:
    """The guest wrote; what a bitmap sync finds belongs to the round that has just ended."""
    record.one_of(s, record.DIRTIED, t, writes, 0)
    s.counts[GUEST_WRITES] += writes
    if s.rounds and rounds[s.rounds - 1, 4] >= 0:
        rounds[s.rounds - 1, 6 + GUEST_WRITES] += writes
    s.dirtied_amount.spread(s.dirtied_at, t, writes * 4096)
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
