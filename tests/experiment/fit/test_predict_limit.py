"""The rate limit that a log's pauses tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from simmig.experiment.fit.predict_limit import DEFAULT_BYTES_S, limit_of
from simmig.experiment.fit.predict_range import known_errors, range_of
from simmig.trace.qemu_attempts import Logged, read_log
from simmig.trace.qemu_log import LogNotes
from simmig.trace.qemu_recording import LoggedEstimate, LoggedPause, LoggedRun, Recording

DATA = Path(__file__).parents[2] / "data"
WINDOW_NS = 100_000_000


def logged(windows: list[list[int]], *, posted: bool, paused: bool = True) -> Logged:
    """Windows of runs of so many pages, each ended by a pause of 20 ms."""
    recording = Recording()
    for index, runs in enumerate(windows):
        began_ns, end_ns = index * WINDOW_NS, (index + 1) * WINDOW_NS
        for place, pages in enumerate(runs):
            t_ns = began_ns + place
            recording.runs.append(
                LoggedRun(t_ns, t_ns, 0, 0, 0, pages, zero=False, returned_ns=t_ns, completed_ns=t_ns)
            )
        recording.estimates.append(LoggedEstimate(end_ns, 1, 1))
        if paused:
            recording.pauses.append(LoggedPause(end_ns - 20_000_000, end_ns - 1))
    return Logged(recording, LogNotes(), "", posted)


@pytest.mark.parametrize("mib_s", [1, 4, 32, 64, 128, 500])
def test_pages_of_a_window_tell_the_limit_of_7_2_to_a_page(mib_s: int) -> None:
    share = (mib_s << 20) // 10
    pages = share // 4096 + 1  # the first page that finds more than the share used does not go
    limit = limit_of(logged([[pages // 2, pages - pages // 2]] * 5, posted=False))
    assert limit.kept_as == "qemu-7.2"
    assert limit.bytes_s == pytest.approx(mib_s << 20, abs=4096 * 10)
    assert limit.low_bytes_s <= mib_s << 20 <= limit.high_bytes_s + 10
    assert limit.pauses == 5
    assert limit.paused_ns == pytest.approx(5 * 20_000_000, abs=5)


def test_a_chunk_that_slips_through_leaves_the_limit_of_10_0_open() -> None:
    limit = limit_of(logged([[10, 256, 1], [256, 1]], posted=True))
    assert limit.kept_as == "qemu-10.0"
    assert (limit.low_bytes_s, limit.high_bytes_s) == (10 * 4096 * 10, 256 * 4096 * 10)
    assert "slept 2 times" in limit.tell()


def test_without_pauses_the_limit_is_the_default_or_none() -> None:
    slow = limit_of(logged([[256]] * 3, posted=False, paused=False))
    assert (slow.bytes_s, slow.pauses) == (DEFAULT_BYTES_S, 0)
    fast = limit_of(logged([[256 * 40]] * 3, posted=False, paused=False))
    assert fast.bytes_s is None
    assert "none" in fast.tell()


@pytest.mark.parametrize("posted", [False, True])
def test_a_limit_that_changed_is_told_for_each_stretch(posted: bool) -> None:
    """Two limits, and none at all at the end: as they were, and since when."""
    slow, fast = ([[90, 10, 1]] * 8, [[200, 10, 1]] * 9)
    limit = limit_of(logged([*slow, *fast], posted=posted))
    assert limit.bytes_s == pytest.approx((95 if posted else 100.5) * 4096 * 10, rel=0.01)
    (change,) = limit.changes
    assert change.at_ns == 8 * WINDOW_NS
    assert change.bytes_s == pytest.approx((205 if posted else 210.5) * 4096 * 10, rel=0.01)
    assert "changed on the way: " in limit.tell()
    freed = logged([*slow, *[[500, 10, 1]] * 6], posted=posted)
    del freed.recording.pauses[8:]
    limit = limit_of(freed)
    assert [(each.at_ns, each.bytes_s) for each in limit.changes] == [(8 * WINDOW_NS, None)]
    bound = logged([*[[500, 10, 1]] * 6, *slow], posted=posted)
    del bound.recording.pauses[:6]
    limit = limit_of(bound)
    assert limit.bytes_s is None
    assert [each.at_ns for each in limit.changes] == [6 * WINDOW_NS]
    assert "none at first" in limit.tell()
    for_a_while = logged([*slow, *[[500, 10, 1]] * 6, *slow], posted=posted)
    del for_a_while.recording.pauses[8:14]
    limit = limit_of(for_a_while)
    assert [each.at_ns // WINDOW_NS for each in limit.changes] == [8, 14]
    assert [each.bytes_s for each in limit.changes] == [None, limit.bytes_s]


def test_no_recording_changed_its_limit() -> None:
    for path in DATA.glob("qemu-*-rxe/*.src.trace.gz"):
        assert not limit_of(read_log(path)).changes, path


def test_a_recorded_limit_of_4_mib_lies_between_what_is_said() -> None:
    path = DATA / "qemu-10.0-rxe" / "q10-net200-dirty6-96-dynamic-bw4.src.trace.gz"
    limit = limit_of(read_log(path))
    assert limit.low_bytes_s <= 4 << 20 <= limit.high_bytes_s
    assert limit.pauses == 37


def test_ranges_hold_the_runs_and_stretch_as_far_as_others_were_off() -> None:
    assert range_of([90, 100, 110], [0.95, 1.3]) == (90, 130)
    assert range_of([90, 100, 110], [0.5, 1.05]) == (50, 110)
    assert range_of([100], []) == (100, 100)


def test_every_recording_of_the_data_has_its_errors() -> None:
    names = {path.name.removesuffix(".src.trace.gz") for path in DATA.glob("qemu-*-rxe/*.src.trace.gz")}
    assert {each.recording.split("/")[1] for each in known_errors()} == names
    assert all(0.8 < each.total_time < 1.25 for each in known_errors())
