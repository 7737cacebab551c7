"""Told to give up when its rounds have stopped to shrink, a migration does: where, and where not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simmig.experiment.result import Result
from simmig.trace import events as ev
from tests.endtoend.worlds import simulate

SLOW = {"bandwidth": "200 Mbit/s", "latency": "2 us"}


def guest(rate_mib_s: int, working_set_mib: int = 8) -> dict[str, Any]:
    workload = {"kind": "uniform", "working_set": f"{working_set_mib} MiB", "rate": f"{rate_mib_s} MiB/s"}
    return {"memory": "16 MiB", "workload": workload}


def sizes(result: Result) -> list[int]:
    """Dirty pages of the rounds while the guest ran."""
    stopped_ns = result.metrics.stopped_ns
    return [row.dirty_pages for row in result.metrics.rounds if stopped_ns is None or row.began_ns < stopped_ns]


def ends_after(rounds: list[int]) -> int | None:
    """By definition: three rounds in a row, and the next, no smaller than 95 % of the smallest before each."""
    flat = [at > 0 and 20 * pages > 19 * min(rounds[:at]) for at, pages in enumerate(rounds)]
    return next((at for at in range(4, len(rounds)) if all(flat[at - 3 : at + 1])), None)


@settings(max_examples=25, deadline=None)
@given(
    rate_mib_s=st.integers(2, 200),
    working_set_mib=st.integers(1, 8),
    downtime_limit=st.sampled_from(["100 us", "2 ms", "20 ms"]),
    slice_length=st.sampled_from(["50 ms", "unlimited"]),
    transport=st.sampled_from(["rdma", "tcp"]),
)
def test_it_is_the_same_migration_up_to_where_it_ends(
    rate_mib_s: int, working_set_mib: int, downtime_limit: str, slice_length: str, transport: str
) -> None:
    migration: dict[str, Any] = {"downtime_limit": downtime_limit, "slice": slice_length, "transport": transport}
    world: dict[str, Any] = {"guest": guest(rate_mib_s, working_set_mib), "link": SLOW}
    whole, _ = simmed(world, migration | {"max_rounds": 10})
    ended, _ = simmed(world, migration | {"max_rounds": 10, "stop_when_flat": True})
    end = ends_after(sizes(whole))
    assert sizes(ended) == sizes(whole)[:end]
    if end is None:  # or only the next round would have told, which it may not have: then the reason says both
        assert (ended.reason or "").endswith(whole.reason or "")
        reason_apart = {"trace_sha256": "", "reason": ""}
        assert ended.figures() | reason_apart == whole.figures() | reason_apart
        return
    assert ended.status == "not-converging"
    assert ended.reason.startswith(
        f"rounds did not shrink from round {ended.flat_since_round} on: after {end} rounds"
    )
    assert (ended.source_running, ended.destination_running) == (True, False)
    assert all(ended.invariants.values())
    assert ended.figures()["downtime_ns"] is None


def simmed(world: dict[str, Any], migration: dict[str, Any]) -> tuple[Result, list[ev.AnyEvent]]:
    return simulate(**world, migration=migration)


def test_it_ends_after_the_first_round_that_could_tell() -> None:
    """The guest writes its 8 MiB again in every round: the second is smaller, none after it."""
    migration = {"downtime_limit": "100 us", "max_rounds": 30, "stop_when_flat": True}
    result, events = simulate(guest=guest(200), link=SLOW, migration=migration)
    assert result.status == "not-converging"
    assert len(result.metrics.rounds) == 5
    assert result.flat_since_round == 3
    assert not any(isinstance(event, ev.VmStopped) for event in events)
    ended = {event.side: event.status for event in events if isinstance(event, ev.MigrationEnded)}
    assert ended == {"source": "not-converging", "destination": "failed"}


@pytest.mark.parametrize(
    "change",
    [
        {"round": 14, "downtime_limit": "900 ms"},
        {"at": "13 s", "downtime_limit": "900 ms"},
        {"round": 14, "max_bandwidth": "unlimited"},
    ],
)
def test_it_waits_for_limits_that_are_still_to_change(change: dict[str, Any]) -> None:
    """Flat well before the change, for as long as the limits are what they were."""
    migration: dict[str, Any] = {"downtime_limit": "50 ms", "max_rounds": 40, "max_bandwidth": "5 MiB/s"}
    busy = guest(10, 4)
    hopeless, _ = simulate(guest=busy, link=SLOW, migration=migration | {"stop_when_flat": True})
    assert hopeless.status == "not-converging"
    assert len(hopeless.metrics.rounds) < 14
    assert hopeless.metrics.total_time_ns < 13_000_000_000
    result, _ = simulate(guest=busy, link=SLOW, migration=migration | {"stop_when_flat": True, "change": [change]})
    assert result.status == "completed"
