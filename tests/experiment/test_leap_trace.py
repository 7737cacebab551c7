"""What a leap's trace is made of: lines from rows of numbers, and the memory that the rows move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simmig.trace import events as ev
from simmig.trace.recorder import Recorder
from tests.endtoend.worlds import scenario
from tests.experiment.test_leap import Leap, leap  # noqa: F401  (a fixture)

pytest.importorskip("numba")

numbers = st.one_of(st.integers(-1, 20), st.integers(0, 2**62))


class Kept(bytearray):
    """A sink."""

    def write(self, data: bytes) -> int:
        self.extend(data)
        return len(data)


@given(rows=st.lists(st.tuples(st.integers(0, 37), st.lists(numbers, min_size=6, max_size=6)), max_size=50))
def test_lines_are_those_that_a_recorder_writes(leap: Leap, rows: list[tuple[int, list[int]]]) -> None:  # noqa: F811
    from simmig.experiment.leap import lines  # noqa: PLC0415

    table = np.zeros((max(1, len(rows)), 8), dtype=np.int64)
    kept = Kept()
    recorder = Recorder((), kept)
    for row, (form, values) in zip(table, rows, strict=False):
        example = lines._examples(False)[form]
        if lines._name(1) in vars_of(example).values():
            values[1] %= len(lines.NAMES)
        row[:7] = form, *values
        recorder.emit(filled(example, values, lines))
    recorder.flush()
    out = np.empty(lines.room_for(len(table)), dtype=np.uint8)
    size = lines.write_lines(table, 0, len(rows), out, *lines.templates(False))
    assert out[:size].tobytes() == bytes(kept)


def vars_of(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def filled(example: Any, values: list[int], lines: Any) -> ev.AnyEvent:
    """The example with those values in its columns."""
    columns: dict[Any, Any] = {lines._number(at): value for at, value in enumerate(values)}
    columns[lines._name(1)] = lines.NAMES[values[1]] if values[1] < len(lines.NAMES) else None
    return type(example)(*(columns.get(value, value) for value in vars_of(example).values()))  # type: ignore[no-any-return]


@given(data=st.data())
def test_the_memory_followed_is_the_latest_reading_of_each_page(leap: Leap, data: st.DataObject) -> None:  # noqa: F811
    """Writes are read in the order of their posts, at once or later, and zeros come by themselves."""
    from simmig.experiment.leap import begin, follow, record  # noqa: PLC0415

    pages = 20
    (state,), memory, _ = begin.begin(scenario(guest__memory=f"{pages * 4} KiB"), 1)
    expected = [0] * pages
    rows: list[list[int]] = []
    posted: list[tuple[int, int]] = []
    writes = 0
    for _ in range(data.draw(st.integers(0, 30))):
        writes += data.draw(st.integers(0, 3))
        first = data.draw(st.integers(0, pages - 1))
        count = data.draw(st.integers(1, pages - first))
        what = data.draw(st.sampled_from(["post", "post read at once", "read", "zero"]))
        if what == "zero":
            rows.append([record.SAVED_ZERO, 0, first, count, writes, 0, 0, 0])
            expected[first : first + count] = [writes + 1] * count
        elif what == "post":
            posted.append((first, count))
            rows.append([record.SAVED_DATA, 0, first, count, 0, 0, 0, 0])
        elif what == "read" and posted:
            first, count = posted.pop(0)
            rows.append([record.MEMORY_READ, 0, writes, 0, 0, 0, 0, 0])
            expected[first : first + count] = [writes + 1] * count
        elif what == "post read at once" and not posted:
            rows.append([record.MEMORY_READ, 0, writes, 0, 0, 0, 0, 0])  # the device is told first
            rows.append([record.SAVED_DATA, 0, first, count, 0, 0, 0, 0])
            expected[first : first + count] = [writes + 1] * count
    arrived = np.zeros((1, pages), dtype=np.int32)
    table = np.array(rows, dtype=np.int64).reshape(-1, 8)
    cut = data.draw(st.integers(0, len(rows)))
    ring = follow.begin_ring()
    for part in (table[:cut].copy(), table[cut:].copy()):
        assert follow.follow(state, memory, part, len(part), ring, arrived) == 0
    assert arrived[0].tolist() == expected
