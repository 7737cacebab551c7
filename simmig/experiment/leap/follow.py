"""What the destination's memory holds, followed from a trace's rows: of each page, how recent it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from simmig.experiment.leap import record
from simmig.experiment.leap.guest import written_by
from simmig.experiment.leap.state import RING_MASK, RING_SIZE, Ints, Memory, Readings, entry


def begin_ring() -> Ints:
    """Runs of pages posted (first, count, reading), and behind them how many were posted and how many read."""
    return np.zeros((RING_SIZE + 1, 3), dtype=np.int64)


@entry
def follow(s: Any, m: Memory, rows: Ints, end_row: int, ring: Ints, arrived: Readings) -> int:
    """Go through those rows; `arrived` (one row) has of each page which reading it holds, 0 for none.

    A reading is known by how many writes of the guest's came before it, and one more.

    Returns how many rows are for Python to deal with.
    """
    special = 0
    for row in range(end_row):
        form = rows[row, 0]
        if form == record.SAVED_DATA or form == record.MEMORY_READ:  # whichever of a write's comes first
            reads = 1 if form == record.MEMORY_READ else 0
            ordinal = ring[RING_SIZE, reads]
            ring[RING_SIZE, reads] += 1
            place = ordinal & RING_MASK
            if reads:
                writes = rows[row, 2]
                if rows[row, 3]:
                    writes = max(writes, written_by(s, m, rows[row, 1]))
                ring[place, 2] = writes
            else:
                ring[place, 0], ring[place, 1] = rows[row, 2], rows[row, 3]
            if ring[RING_SIZE, 1 - reads] > ordinal:
                arrived[0, ring[place, 0] : ring[place, 0] + ring[place, 1]] = ring[place, 2] + 1
        elif form == record.SAVED_ZERO:
            arrived[0, rows[row, 2] : rows[row, 2] + rows[row, 3]] = rows[row, 4] + 1
        elif form >= record.FORMS:
            special += 1
    return special
