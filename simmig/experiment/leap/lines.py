"""From rows of numbers to lines of a trace, byte for byte as `simmig.trace.recorder` writes those events.

The text around the numbers is taken from an event of each form, written as every trace is.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np

from simmig.experiment.leap import record
from simmig.experiment.leap.state import Bytes, Ints, entry
from simmig.migration.policies.policy import Point
from simmig.migration.wire import BUFFER_BYTES, Type
from simmig.trace import events as ev
from simmig.verbs.sim.nic import FIRST_QP_NUM, QP_NUMS

SIDES = get_args(ev.Side)
ASKERS = get_args(ev.AskedBy)
_QPS = [FIRST_QP_NUM + index * QP_NUMS for index in range(len(SIDES))]
"""Those made first; a second one has the number behind."""

NAMES = [
    *(kind.name for kind in Type),
    *(f"READY for {kind.name}" for kind in Type),
    "acknowledgement",
    "READY for the last message",
    *(point.value for point in Point),
]
"""What a column with a name holds a number of, as `record` counts them."""

_COLUMN = re.compile(rb'"name-([0-9])"|1125899906842([0-9]{3})')
"""What stands for a column's value where the text around it is looked up."""
_LONGEST_LINE = 400
_DIGITS = 20
_2, _10, _100 = np.uint64(2), np.uint64(10), np.uint64(100)
_TENS, _UNITS = (np.array([ord(f"{n:02}"[place]) for n in range(100)], dtype=np.uint8) for place in (0, 1))
"""The digits of the numbers below 100: two at a time are written in half the time."""


def _number(column: int) -> int:
    return 1125899906842000 + column


def _name(column: int) -> Any:
    return f"name-{column}"


def _examples(own_control: bool) -> list[ev.AnyEvent]:
    """An event of each form, in the order of their numbers, with its columns in the places where they go."""
    t, (a, b, c, d, e) = _number(0), (_number(column) for column in range(1, 6))
    name = _name(1)
    both = [(side, qp + own_control) for side, qp in zip(SIDES, _QPS, strict=True)]
    source, qp = SIDES[0], _QPS[0]
    destination = SIDES[1]
    return [
        *(ev.WorkPosted(t, side, qp, a, "recv", BUFFER_BYTES) for side, qp in both),
        *(ev.WorkPosted(t, side, qp, a, "send", b) for side, qp in both),
        *(ev.WorkCompleted(t, side, qp, a, "recv", b) for side, qp in both),
        *(ev.WorkCompleted(t, side, qp, a, "send", 0) for side, qp in both),
        *(ev.ControlSent(t, side, name, b, c) for side in SIDES),
        *(ev.ControlReceived(t, side, name, b, c) for side in SIDES),
        *(ev.MemoryRegistered(t, side, a, b, c, d) for side in SIDES),
        *(ev.MemoryDeregistered(t, side, a, b, c) for side in SIDES),
        ev.WorkPosted(t, source, qp, a, "write", b, c, d, e),
        ev.WorkCompleted(t, source, qp, a, "write", b),
        ev.PagesSaved(t, source, a, b, "data"),
        ev.PagesSaved(t, source, a, b, "zero"),
        ev.PagesDirtied(t, source, a),
        ev.BitmapSynced(t, source, a, b),
        ev.RoundBegan(t, source, a, b),
        ev.RoundEnded(t, source, a),
        ev.SliceBegan(t, source, a),
        ev.SliceEnded(t, source, a),
        ev.BandwidthEstimated(t, source, a, b),
        ev.VmStopped(t, source),
        ev.VmResumed(t, destination),
        ev.DeviceStateSent(t, source, a),
        ev.DeviceStateLoaded(t, destination, a),
        ev.SetupEnded(t, source),
        *(ev.DrainBegan(t, source, asker, name, b, c) for asker in ASKERS),
        *(ev.DrainEnded(t, source, asker, a) for asker in ASKERS),
        ev.DowntimeLimitChanged(t, source, a),
        ev.BandwidthLimitChanged(t, source, a),
        ev.BandwidthLimitChanged(t, source, None),
    ]


class Templates(NamedTuple):
    """The text of each form: pieces (begin and end in `text`, and the column that follows, -1 behind the last).

    `forms` has the first piece of each, `names` begin and end of what a column stands for where _IS_NAME is added.
    """

    text: Bytes
    pieces: Ints
    forms: Ints
    names: Ints


_IS_NAME = 100


def templates(own_control: bool) -> Templates:
    """Of all forms."""
    text = bytearray()
    pieces: list[tuple[int, int, int]] = []
    forms: list[tuple[int]] = []
    for example in _examples(own_control):
        forms.append((len(pieces),))
        line, at = msgspec.json.encode(example) + b"\n", 0
        for found in _COLUMN.finditer(line):
            named, number = found.groups()
            column = int(named) + _IS_NAME if named else int(number)
            pieces.append((len(text), len(text) + found.start() - at, column))
            text += line[at : found.start()]
            at = found.end()
        pieces.append((len(text), len(text) + len(line) - at, -1))
        text += line[at:]
    names: list[tuple[int, int]] = []
    for name in map(msgspec.json.encode, NAMES):
        names.append((len(text), len(text) + len(name)))
        text += name
    tables = (np.array(table, dtype=np.int64) for table in (pieces, forms, names))
    return Templates(np.frombuffer(text, dtype=np.uint8).copy(), *tables)


def room_for(rows: int) -> int:
    """Bytes that so many lines never exceed."""
    return rows * _LONGEST_LINE


@entry
def write_lines(
    rows: Ints, first_row: int, end_row: int, out: Bytes, text: Bytes, pieces: Ints, forms: Ints, names: Ints
) -> int:
    """Write the lines of those rows, leaving out what is no event; returns how many bytes they are."""
    at, one = np.uint64(0), np.uint64(1)  # with a sign each would be looked at for being negative
    digits = np.empty(_DIGITS, dtype=np.uint8)
    for row in range(first_row, end_row):
        form = rows[row, 0]
        if form >= record.FORMS:
            continue
        piece = forms[form, 0]
        while True:
            for i in range(np.uint64(pieces[piece, 0]), np.uint64(pieces[piece, 1])):
                out[at] = text[i]
                at += one
            column = pieces[piece, 2]
            if column < 0:
                break
            piece += 1
            if column >= _IS_NAME:
                name = rows[row, 1 + column - _IS_NAME]
                for i in range(np.uint64(names[name, 0]), np.uint64(names[name, 1])):
                    out[at] = text[i]
                    at += one
                continue
            value = rows[row, 1 + column]
            if value < 0:
                out[at] = 45
                at += one
                value = -value
            left = np.uint64(value)
            begin = np.uint64(_DIGITS)
            while left >= _100:
                rest = left // _100
                begin -= _2
                pair = left - rest * _100
                digits[begin], digits[begin + one] = _TENS[pair], _UNITS[pair]
                left = rest
            begin -= one
            digits[begin] = _UNITS[left]
            if left >= _10:
                begin -= one
                digits[begin] = _TENS[left]
            for i in range(begin, np.uint64(_DIGITS)):
                out[at] = digits[i]
                at += one
    return int(at)
