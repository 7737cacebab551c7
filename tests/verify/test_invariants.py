"""Each invariant holds on a good trace, and breaks on the trace that breaks it."""

import pytest

from simmig.trace import events as ev
from simmig.verify.invariants import Invariants

GOOD: list[ev.AnyEvent] = [
    ev.WorkPosted(1, "source", 7, 1, "write", 4096, 0, 0, 3),
    ev.WorkPosted(1, "source", 7, 4000, "recv", 512),
    ev.VmStopped(2, "source"),
    ev.WorkCompleted(3, "source", 7, 1, "write"),
    ev.MemoryCompared(4, "destination", 10, 0),
    ev.VmResumed(5, "destination"),
    ev.MigrationEnded(6, "source", "completed", ""),
]


def held(events: list[ev.AnyEvent]) -> dict[str, bool]:
    invariants = Invariants()
    for event in events:
        invariants(event)
    return invariants.results()


def without(kind: type) -> list[ev.AnyEvent]:
    return [event for event in GOOD if type(event) is not kind]


def test_all_hold_on_a_good_trace() -> None:
    assert all(held(GOOD).values())


def test_all_hold_when_the_source_keeps_the_guest() -> None:
    failed = [
        GOOD[0],
        ev.WorkFailed(3, "source", 7, 1, "IBV_WC_RETRY_EXC_ERR"),
        ev.MigrationEnded(4, "source", "failed", "x"),
    ]
    assert all(held(failed).values())


@pytest.mark.parametrize(
    ("broken", "events"),
    [
        ("memory_identical", without(ev.MemoryCompared)),
        (
            "memory_identical",
            [ev.MemoryCompared(4, "destination", 10, 1) if type(e) is ev.MemoryCompared else e for e in GOOD],
        ),
        ("one_side_runs", without(ev.VmStopped)),
        ("one_side_runs", without(ev.VmResumed)),
        ("one_side_runs", [*GOOD, ev.VmResumed(7, "source")]),
        (
            "no_write_in_flight_at_resume",
            [*without(ev.WorkCompleted), ev.WorkCompleted(7, "source", 7, 1, "write")],
        ),
        ("all_work_ended", [*GOOD, ev.WorkPosted(7, "destination", 8, 2000, "send", 16)]),
        ("completions_match_posts", [*GOOD, ev.WorkCompleted(7, "source", 7, 1, "write")]),
    ],
)
def test_each_breaks(broken: str, events: list[ev.AnyEvent]) -> None:
    assert not held(events)[broken]
