"""A chart tells a trace in few rows, leaves out no incident, and marks what broke."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from simmig.trace import events as ev
from simmig.verify.chart import chart, rows
from simmig.verify.chart_svg import chart_svg
from simmig.verify.invariants import Violation
from simmig.verify.migration.steps import STORY
from simmig.verify.story import time_text
from tests.endtoend.worlds import simulate
from tests.verify.traces import (
    GOOD,
    SETUP,
    D,
    S,
    arrived,
    failed,
    message,
    receive,
    violations,
    without,
    write,
    written,
)

Trace = list[ev.AnyEvent]


def texts(events: Trace, violation: Violation | None = None) -> list[str]:
    return [row.step.text if row.step is not None else "BROKEN" for row in rows(STORY, events, violation)]


def long_trace() -> Trace:
    """Twenty slices of three writes each."""
    live: Trace = []
    for number in range(20):
        at = 10 + number * 10
        live.append(ev.SliceBegan(at, S, number + 1))
        for offset in range(3):
            live += [*write(at + offset), written(at + offset)]
        finished = "REGISTER_FINISHED"
        live += [receive(at + 4, S), *message(at + 4, S, finished), *arrived(at + 5, D, finished)]
        live += [receive(at + 6, D), ev.SliceEnded(at + 7, S, number + 1)]
    return [*SETUP, *live]


def test_a_short_trace_is_told_in_full() -> None:
    assert texts(GOOD) == [
        "registered 4 regions",
        "1 write, 4 KiB",
        "policy drains (slice-end): 4 KiB, 1 ns",
        "guest stops",
        "device state sent (1 KiB)",
        "QEMU_FILE (99 B)",
        "guest resumes",
        "completed",
        "completed",
    ]


def test_repeated_slices_are_one_row() -> None:
    told = texts([*long_trace(), ev.VmStopped(500, S)])
    assert told == ["setup, slices 1 to 20: 60 writes, 240 KiB, 20 messages, 4 registered", "guest stops"]


def test_what_led_up_to_a_violation_is_told_in_full_and_the_row_follows_it() -> None:
    trace = [*long_trace(), *write(300), *write(301), ev.MigrationEnded(400, S, "failed", "x")]
    found = next(each for each in violations(trace) if each.invariant == "one_write_per_chunk")
    told = texts(trace, found)
    assert told[-5:] == [
        "REGISTER_FINISHED",
        "1 write, 4 KiB, not completed by then",
        "1 write, 4 KiB, not completed by then",
        "BROKEN",
        "failed: x",
    ]
    assert len(told) <= 8


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (ev.FaultInjected(300, S, "drops a packet"), "drops a packet"),
        (ev.WorkFailed(300, S, 7, 1, "IBV_WC_RETRY_EXC_ERR"), "write: IBV_WC_RETRY_EXC_ERR"),
        (ev.Stalled(300, D), "waits for what never comes"),
        (ev.HostDied(300, D), "its host is dead"),
        (ev.MemoryCompared(300, D, 8, 3), "3 of 8 pages differ"),
        (ev.MigrationEnded(300, S, "cancelled", "by the user"), "cancelled: by the user"),
    ],
)
def test_no_incident_is_left_out(event: ev.AnyEvent, told: str) -> None:
    assert told in texts([*long_trace(), event, *long_trace()[len(SETUP) :]])


def test_a_message_that_never_came_is_marked() -> None:
    (step,) = [row.step for row in rows(STORY, failed(*message(9, S, "COMPRESS"))) if row.step and row.step.arrow]
    assert step.lost
    assert "✗" in chart(STORY, failed(*message(9, S, "COMPRESS")))


def test_the_lifelines_tell_where_the_guest_runs() -> None:
    lines = chart(STORY, GOOD).splitlines()
    stops, resumes = (next(i for i, line in enumerate(lines) if what in line) for what in ("stops", "resumes"))
    assert {line[12] + line[-1] for line in lines[1:stops]} == {"┃│"}
    assert {line[12] + line[-1] for line in lines[stops:resumes]} == {"││"}
    assert {line[12] + line[-1] for line in lines[resumes:]} == {"│┃"}


@pytest.mark.parametrize("width", [60, 100, 160])
def test_every_line_is_as_wide_as_asked(width: int) -> None:
    trace = failed(*write(10), ev.MigrationEnded(12, S, "failed", "words " * 50))
    found = Violation("some_invariant", "R99", "many words " * 40, 12, len(trace) - 1)
    assert {len(line) for line in chart(STORY, trace, found, width=width).splitlines()} == {width}


def test_a_missing_end_is_marked_below_all() -> None:
    trace = without(ev.MigrationEnded)
    (found,) = (each for each in violations(trace) if each.invariant == "trace_is_whole")
    assert texts(trace, found)[-1] == "BROKEN"
    assert "BROKEN trace_is_whole (trace): the trace does not tell" in chart(STORY, trace, found)


def test_the_picture_has_the_rows_of_the_text() -> None:
    trace = [*long_trace(), *write(300), *write(301), ev.MigrationEnded(400, S, "failed", "<x> & y")]
    found = next(each for each in violations(trace) if each.invariant == "one_write_per_chunk")
    root = ET.fromstring(chart_svg(STORY, trace, found))
    drawn = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for row in rows(STORY, trace, found):
        if row.step is not None:
            assert row.step.text in drawn
    assert any((text or "").startswith("BROKEN one_write_per_chunk") for text in drawn)


def test_a_whole_simulated_migration_takes_few_rows() -> None:
    _, events = simulate(
        guest={"memory": "8 MiB", "workload": {"kind": "uniform", "working_set": "2 MiB", "rate": "200 MiB/s"}},
        migration={"slice": "1 ms", "downtime_limit": "1 ms"},
    )
    assert len(events) > 1000
    assert len(rows(STORY, events)) <= 10
    for violating in range(0, len(events), 97):
        found = Violation("x", "R1", "y", events[violating].t_ns, violating)
        assert len(rows(STORY, events, found)) <= 15


def test_times_are_told_in_units_of_their_size() -> None:
    assert [time_text(t) for t in (0, 999, 1000, 6_807_071, 2 * 10**9)] == [
        "0 ns",
        "999 ns",
        "1.000 us",
        "6.807 ms",
        "2.000 s",
    ]
