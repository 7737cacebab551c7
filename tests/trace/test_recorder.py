"""A trace goes to disk and comes back the same, byte for byte."""

import gzip
import hashlib
from pathlib import Path

import pytest

from simmig.trace import events as ev
from simmig.trace.reader import TraceError, read_trace
from simmig.trace.recorder import Recorder, TraceFile

EVENTS: list[ev.AnyEvent] = [
    ev.MigrationBegan(0, "source", 4096, 4096, "rdma", True, "per-chunk", 1),
    *(ev.WorkPosted(i, "source", 1, i, "write", 4096, 0, 0, 3) for i in range(10_000)),
    ev.MigrationEnded(10_000, "source", "completed", ""),
]


def record(path: Path) -> str:
    seen: list[ev.AnyEvent] = []
    with TraceFile(path) as file:
        recorder = Recorder([seen.append], file.sink)
        for event in EVENTS:
            recorder.emit(event)
        digest = recorder.sha256()
    assert seen == EVENTS
    return digest


def test_a_trace_comes_back_as_it_was(tmp_path: Path) -> None:
    digest = record(tmp_path / "trace.jsonl.gz")
    assert list(read_trace(tmp_path / "trace.jsonl.gz")) == EVENTS
    assert hashlib.sha256(gzip.decompress((tmp_path / "trace.jsonl.gz").read_bytes())).hexdigest() == digest


def test_the_same_trace_is_the_same_file(tmp_path: Path) -> None:
    record(tmp_path / "one.gz")
    record(tmp_path / "two.gz")
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()


def test_the_digest_is_known() -> None:
    recorder = Recorder()
    recorder.emit(ev.VmStopped(5, "source"))
    assert recorder.sha256() == hashlib.sha256(b'{"event":"vm-stopped","t_ns":5,"side":"source"}\n').hexdigest()


def test_a_plain_file_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"event":"vm-stopped","t_ns":5,"side":"source"}\n')
    assert list(read_trace(path)) == [ev.VmStopped(5, "source")]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda data: data[: len(data) // 2], "cut short or damaged"),
        (lambda data: data[:100] + b"\x00" * 50 + data[150:], "cut short or damaged"),
        (
            lambda _: b'{"event":"vm-stopped","t_ns":5,"side":"source"}\n{"event":"nonsense"}\n',
            "line 2 is no event",
        ),
        (lambda _: b"not json\n", "line 1 is no event"),
    ],
)
def test_a_damaged_trace_is_told_with_its_name(tmp_path: Path, damage, told: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "trace.jsonl.gz"
    record(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TraceError, match=f"trace.jsonl.gz.*{told}"):
        list(read_trace(path))


def test_a_missing_trace_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"nowhere\.gz: cannot be read: No such file"):
        list(read_trace(tmp_path / "nowhere.gz"))
