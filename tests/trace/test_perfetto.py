"""The timeline is what Perfetto and Chrome read: well-formed, whole, in microseconds."""

import json
from typing import Any

from simmig.trace import events as ev
from simmig.trace.metrics import Metrics
from simmig.trace.perfetto import Timeline

EVENTS: list[ev.AnyEvent] = [
    ev.MigrationBegan(0, "source", 4096, 4096, "rdma", True, "per-chunk", 1),
    ev.SetupEnded(1000, "source"),
    ev.RoundBegan(1000, "source", 1, 5),
    ev.SliceBegan(1000, "source", 1),
    ev.WorkPosted(1500, "source", 1, 1, "write", 4096, 0, 0, 3),
    ev.DrainBegan(2000, "source", "wire", "READY", 4096, 0),
    ev.WorkCompleted(2400, "source", 1, 1, "write"),
    ev.DrainEnded(2500, "source", "wire", 0),
    ev.SliceEnded(2600, "source", 1),
    ev.RoundEnded(2700, "source", 1),
    ev.VmStopped(3000, "source"),
    ev.VmResumed(4500, "destination"),
    ev.MigrationEnded(5000, "source", "completed", ""),
]


def timeline(events: list[ev.AnyEvent]) -> list[dict[str, Any]]:
    metrics, timeline = Metrics(), Timeline()
    for event in events:
        metrics(event)
        timeline(event)
    document = json.loads(timeline.json(metrics.pending, metrics.remaining_pages))
    entries: list[dict[str, Any]] = document["traceEvents"]
    return entries


def spans(events: list[ev.AnyEvent]) -> dict[tuple[str, str, int], tuple[float, float]]:
    return {
        (entry["cat"], entry["name"], entry["pid"]): (entry["ts"], entry["dur"])
        for entry in timeline(events)
        if entry["ph"] == "X"
    }


def test_every_entry_has_what_its_phase_needs() -> None:
    needed = {
        "X": {"name", "ts", "dur", "pid", "tid"},
        "i": {"name", "ts", "pid", "tid", "s"},
        "C": {"name", "ts", "pid", "args"},
        "M": {"name", "pid", "args"},
    }
    entries = timeline(EVENTS)
    assert {entry["ph"] for entry in entries} == set(needed)
    for entry in entries:
        assert needed[entry["ph"]] <= set(entry)
        assert entry.get("dur", 0) >= 0


def test_spans_are_where_they_were() -> None:
    found = spans(EVENTS)
    assert found["phases", "setup", 1] == (0, 1)
    assert found["rounds", "round 1", 1] == (1, 1.7)
    assert found["slices", "slice 1", 1] == (1, 1.6)
    assert found["drains: wire", "READY", 1] == (2, 0.5)
    assert found["guest", "stopped", 1] == (3, 2)
    assert found["guest", "running", 2] == (4.5, 0.5)


def test_a_trace_that_breaks_off_leaves_no_open_span() -> None:
    found = spans(EVENTS[:6])
    assert found["drains: wire", "READY", 1] == (2, 0)
    assert found["rounds", "round 1", 1] == (1, 1)


def test_pending_bytes_are_a_counter() -> None:
    values = [
        entry["args"]["value"]
        for entry in timeline(EVENTS)
        if entry["ph"] == "C" and entry["name"] == "pending bytes"
    ]
    assert max(values) == 4096
    assert values[-1] == 0
