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
from simmig.trace.qemu_attempts import read_log, read_recording
from simmig.trace.qemu_events import events_of
from simmig.trace.qemu_log import LogError, read_lines

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
def test_a_log_cut_short_anywhere_is_refused_or_says_so(
    tmp_path_factory: pytest.TempPathFactory, size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.trace"
    path.write_bytes(PLAIN[:size])
    try:
        logged = read_log(path)
    except LogError:
        return
    assert logged.recording.complete == (b"migration_thread_after_loop" in PLAIN[:size])
    assert logged.recording.complete or any("ends early" in remark for remark in logged.notes.remarks)
    assert events_of(logged.recording)


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(LogError, match="No such file"):
        read_recording(DATA / "absent.gz")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"# not a log\n", "not a QEMU trace log: no line holds THREAD@SECONDS.MICROS:event"),
        (b"1@2.000003:savevm_state_setup \n", "holds no migration"),
        (b"1@2.000003:migrate_set_state new state setup\n", "holds no RDMA migration"),
        (b"1@2.000003:migrate_set_state new state failed\n", "holds no migration"),
        (gzip.compress(b"1@2.000003:x \n", mtime=0)[:12], "its compressed stream has no end"),
        (LINES[0] + LINES[0].replace(b"setup", b"failed"), "this migration did not complete, it became 'failed'"),
        (
            b"".join(line for line in LINES if b"rdma_write_flush" not in line),
            "lacks events: qemu_rdma_write_flush",
        ),
        (b"".join(line for line in LINES if b"rdma_poll_write" not in line), "lacks events: qemu_rdma_poll_write"),
        (b"".join(line for line in LINES if b"rdma_poll_other" not in line), "lacks events: qemu_rdma_poll_other"),
    ],
)
def test_what_is_wrong_with_a_log_is_told(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "src.trace"
    path.write_bytes(data)
    with pytest.raises(LogError) as caught:
        read_recording(path)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("garbled", "counted"),
    [
        (PLAIN.replace(b"bytes 1048576\n", b"bytes 1048577\n", 1), "a run of 1048577 bytes at 0"),
        (PLAIN.replace(b"max 0 (pre", b"max ? (pre"), "migrate_pending pending size"),
    ],
)
def test_a_line_that_cannot_be_is_left_out_and_shown(tmp_path: Path, garbled: bytes, counted: str) -> None:
    path = tmp_path / "src.trace"
    path.write_bytes(garbled)
    notes = read_log(path).notes
    assert notes.strange
    assert any(counted in text for _, text in notes.shown)


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
