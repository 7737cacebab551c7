"""What happens, noted down as rows of numbers where somebody wants a trace: `lines.py` makes events of them.

A row is a form (which event, on which side), a time, and up to six columns. Rows with a form
beyond `FORMS` are no events: Python deals with them.
"""

from __future__ import annotations

from typing import Any

from simmig.experiment.leap.call_back import call_back
from simmig.experiment.leap.state import TRACE_ROWS, Declined, compiled

# Forms with two numbers have one for each side.
RECEIVE_POSTED, SEND_POSTED, RECEIVE_COMPLETED, SEND_COMPLETED = 0, 2, 4, 6
CONTROL_SENT, CONTROL_RECEIVED, REGISTERED, DEREGISTERED = 8, 10, 12, 14
WRITE_POSTED, WRITE_COMPLETED, SAVED_DATA, SAVED_ZERO = 16, 17, 18, 19
DIRTIED, SYNCED, ROUND_BEGAN, ROUND_ENDED, SLICE_BEGAN, SLICE_ENDED = 20, 21, 22, 23, 24, 25
ESTIMATED, STOPPED, RESUMED, STATE_SENT, STATE_LOADED, SETUP_ENDED = 26, 27, 28, 29, 30, 31
DRAIN_BEGAN, DRAIN_ENDED = 32, 35  # one for each that may ask
DOWNTIME_LIMIT, BANDWIDTH_LIMIT, NO_BANDWIDTH_LIMIT = 38, 39, 40
FORMS = 41
MEMORY_READ, COMPARED, SOURCE_ENDED, DESTINATION_OVER = 41, 42, 43, 44

# Why there is a drain: a message is sent (its type), READY for it is due, or one of these.
READY_FOR, ACKNOWLEDGEMENT, LAST_MESSAGE, POINT = 12, 24, 25, 26


@compiled
def _row(s: Any, form: int, t: int, a: int, b: int, c: int, d: int, e: int) -> None:
    row = s.rows
    s.trace[row, 0] = form
    s.trace[row, 1] = t
    s.trace[row, 2] = a
    s.trace[row, 3] = b
    s.trace[row, 4] = c
    s.trace[row, 5] = d
    s.trace[row, 6] = e
    s.rows = row + 1
    if row + 1 == TRACE_ROWS:
        if call_back(s.trace_address, s.rows):
            raise Declined
        s.rows = 0


@compiled
def one_of(s: Any, form: int, t: int, a: int, b: int) -> None:
    """A row of at most two columns."""
    if s.traced:
        _row(s, form, t, a, b, 0, 0, 0)


@compiled
def wide(s: Any, form: int, t: int, a: int, b: int, c: int, d: int, e: int) -> None:
    """A row of more."""
    if s.traced:
        _row(s, form, t, a, b, c, d, e)


@compiled
def memory_read(s: Any) -> None:
    """The device reads what the oldest write not yet read is to carry: as the guest has it now, if it runs."""
    if s.traced:
        _row(s, MEMORY_READ, s.now, s.writes, s.workload, 0, 0, 0)
