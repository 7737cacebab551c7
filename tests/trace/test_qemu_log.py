"""The reader of QEMU's trace logs, held against what query-migrate said and against every way to spoil a log."""

from __future__ import annotations

import gzip
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simmig.trace import events as ev
from simmig.trace.metrics import Metrics
from simmig.trace.qemu_events import events_of
from simmig.trace.qemu_log import LogError, read_lines
from simmig.trace.qemu_reader import read_recording

DATA = Path(__file__).parents[1] / "data" / "qemu-7.2-rxe"
SAID = json.loads((DATA / "query-migrate.json").read_text())
RUNS = list(SAID)
SMALLEST = DATA / "net60-dirty6-96-pinall.src.trace.gz"
PLAIN = gzip.decompress(SMALLEST.read_bytes())
LINES = PLAIN.splitlines(keepends=True)


def trace(run: str) -> Path:
    return DATA / f"{run}.src.trace.gz"


@pytest.mark.parametrize("run", RUNS)
def test_a_recording_has_the_figures_that_query_migrate_told(run: str) -> None:
    said = SAID[run]
    recording = read_recording(trace(run))
    assert recording.pin_all == said["pin_all"]
    assert recording.downtime_limit_ns == said["downtime_limit_ms"] * 1_000_000
    assert len(recording.syncs) == said["bitmap_syncs"]
    assert sum(run.pages for run in recording.runs if not run.zero) == said["pages_written"]
    assert sum(run.pages for run in recording.runs if run.zero) == said["zero_pages"]
    # query-migrate counts whole milliseconds, from before and to after the printed lines, on another clock.
    assert recording.ended_ns / 1e6 == pytest.approx(said["total_time_ms"], abs=10)
    assert (recording.ended_ns - recording.decided_ns) / 1e6 == pytest.approx(said["downtime_ms"], abs=7)
    setup_ns = recording.setup_ended_ns - recording.thread_began_ns
    assert setup_ns / 1e6 == pytest.approx(said["setup_time_ms"], abs=2)


@pytest.mark.parametrize("run", RUNS)
def test_new_pages_are_those_that_qemu_reports_added_up_over_a_second(run: str) -> None:
    expected = []
    reset_ns = reported = 0
    for line in read_lines(trace(run)):
        if line.event == "migration_bitmap_sync_end":
            total = int(line.arguments.removeprefix("dirty_pages "))
            expected.append(total - reported)
            reported = total
            if not reset_ns:
                reset_ns = line.t_ns
            elif line.t_ns > reset_ns + 1_001_000_000:
                reset_ns, reported = line.t_ns, 0
    assert [sync.new_pages for sync in read_recording(trace(run)).syncs] == expected


@pytest.mark.parametrize("run", RUNS)
def test_metrics_read_its_events_like_those_of_a_simulation(run: str) -> None:
    said = SAID[run]
    events = events_of(read_recording(trace(run)))
    assert all(before.t_ns <= after.t_ns for before, after in pairwise(events))
    metrics = Metrics()
    for event in events:
        metrics(event)
    assert metrics.counts.posted_bytes == said["bytes_posted"]
    assert metrics.counts.data_pages == said["pages_written"]
    assert metrics.counts.zero_pages == said["zero_pages"]
    assert metrics.total_time_ns / 1e6 == pytest.approx(said["total_time_ms"], abs=10)
    assert metrics.downtime_ns / 1e6 == pytest.approx(said["downtime_ms"], abs=7)
    assert metrics.pending_bytes == metrics.pending_bytes_at_stop == 0
    assert len(metrics.rounds) == said["bitmap_syncs"] - 1
    # One drain at the end of each slice, and nothing is left undrained.
    began = [event for event in events if isinstance(event, ev.DrainBegan)]
    ended = [event for event in events if isinstance(event, ev.DrainEnded)]
    assert len(began) == len(ended)
    assert sum(event.asked_by == "policy" for event in began) <= len(metrics.slices)


def test_a_plain_log_reads_like_a_compressed_one(tmp_path: Path) -> None:
    path = tmp_path / "src.trace"
    path.write_bytes(PLAIN)
    assert read_recording(path) == read_recording(SMALLEST)


@given(st.integers(0, len(PLAIN) - 1))
def test_a_log_cut_short_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.trace"
    path.write_bytes(PLAIN[:size])
    with pytest.raises(LogError, match=re.escape(str(path))):
        read_recording(path)


@given(st.integers(0, SMALLEST.stat().st_size - 1))
def test_a_compressed_log_cut_short_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.trace.gz"
    path.write_bytes(SMALLEST.read_bytes()[:size])
    with pytest.raises(LogError, match=re.escape(str(path))):
        read_recording(path)


def test_a_log_cut_short_says_where() -> None:
    path = DATA / "absent.gz"
    with pytest.raises(LogError, match="No such file"):
        read_recording(path)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"# not a log\n", "line 1: not a line of a QEMU trace log"),
        (b"1@2.000003:x \n" * 2 + b"1@1.000000:x \n", "line 3: its time is before that of the line above"),
        (b"1@2.000003:x \n1@2.00", "line 2: the file is cut short"),
        (b"1@2.000003:savevm_state_setup \n", "holds no migration"),
        (b"1@2.000003:migrate_set_state new state setup\n", "holds no RDMA migration"),
        (b"1@2.000003:migrate_set_state new state failed\n", "holds no migration"),
        (gzip.compress(b"1@2.000003:x \n", mtime=0)[:-9], "cut short: its gzip stream has no end"),
        (gzip.compress(b"1@2.000003:x \n", mtime=0)[:-8] + b"12345678", "the gzip stream is damaged"),
        (LINES[0] + LINES[0].replace(b"setup", b"failed"), "line 2: this migration did not complete"),
        (b"".join(LINES[:400]), "line 400: the log is cut short: it ends before the migration has completed"),
        (b"".join(LINES[:-1]), "it ends before QEMU has cleaned up"),
        (b"".join(line for line in LINES if b"rdma_write_flush" not in line), "gaps: ends of writes"),
        (b"".join(line for line in LINES if b"sync_end" not in line), "are left"),
        (PLAIN.replace(b"bytes 1048576", b"bytes 1048577"), "cannot be"),
        (PLAIN.replace(b"max 0 (pre", b"max ? (pre"), "has other arguments than QEMU 7.2 prints"),
    ],
)
def test_what_is_wrong_with_a_log_is_told(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "src.trace"
    path.write_bytes(data)
    with pytest.raises(LogError) as caught:
        read_recording(path)
    assert told in str(caught.value)


def test_a_destinations_log_is_told_from_a_sources() -> None:
    with pytest.raises(LogError, match="line 1: this is the log of a destination; the source's is needed"):
        read_recording(DATA / "destination.trace.gz")


@given(st.binary(max_size=400))
def test_garbage_is_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.trace"
    path.write_bytes(data)
    with pytest.raises(LogError):
        read_recording(path)


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A real log with a few lines left out, repeated, swapped or given another number."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.integers(0, len(lines) - 2))
        match draw(st.sampled_from(["drop", "repeat", "swap", "number"])):
            case "drop":
                del lines[index]
            case "repeat":
                lines.insert(index, lines[index])
            case "swap":
                lines[index], lines[index + 1] = lines[index + 1], lines[index]
            case _:
                stamp, _, rest = lines[index].partition(b":")
                number = str(draw(st.integers(0, 2**40))).encode()
                lines[index] = stamp + b":" + re.sub(rb"\d+", number, rest, count=draw(st.integers(1, 3)))
    return b"".join(lines)


@given(spoiled())
def test_a_spoiled_log_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "spoiled.trace"
    path.write_bytes(data)
    try:
        recording = read_recording(path)
    except LogError:
        return
    assert events_of(recording)
