"""Limits that are changed on the way, by time and by round: what is sent before and after, and when it stops."""

from __future__ import annotations

from typing import Any

import pytest

from simmig.experiment.errors import InputError
from simmig.migration.convergence import Convergence
from simmig.migration.rate_limit import RateLimit
from simmig.trace import events as ev
from tests.endtoend.test_rate_limit import FAST, WAYS, limited, windows
from tests.endtoend.worlds import scenario, simulate

BUSY = {
    "memory": "16 MiB",
    "workload": {"kind": "uniform", "working_set": "8 MiB", "rate": "40 MiB/s"},
}
SLOW = {"bandwidth": "200 Mbit/s", "latency": "2 us"}


@WAYS
def test_every_window_takes_the_share_of_its_own_time(transport: str, slice_length: str) -> None:
    """4 MiB/s are 103 pages a window, 32 MiB/s 820, and the change is due in the fourth window."""
    result, events = limited(
        "4 MiB/s",
        "16 MiB",
        transport=transport,
        slice=slice_length,
        change=[{"at": "350 ms", "max_bandwidth": "32 MiB/s"}],
    )
    shares = windows(events)
    assert shares[:4] == [103] * 4
    assert set(shares[4:-1]) == {820}
    (changed,) = [event for event in events if isinstance(event, ev.BandwidthLimitChanged)]
    assert changed.max_bandwidth_bytes_s == 32 << 20
    assert 350_000_000 <= changed.t_ns < 460_000_000
    assert result.status == "completed"
    assert result.invariants["rate_limit_kept"]


@pytest.mark.parametrize("slice_length", ["50 ms", "unlimited"])
def test_a_limit_may_come_and_go(slice_length: str) -> None:
    changes = [{"at": "250 ms", "max_bandwidth": "4 MiB/s"}, {"at": "650 ms", "max_bandwidth": 0}]
    result, events = simulate(
        guest={"memory": "32 MiB"},
        link=SLOW,
        migration={"downtime_limit": "1 us", "pin_all": True, "slice": slice_length, "change": changes},
        policy={"name": "pending-limit", "limit": "1 MiB"},  # else all is posted before the first change
    )
    told = [event.max_bandwidth_bytes_s for event in events if isinstance(event, ev.BandwidthLimitChanged)]
    assert told == [4 << 20, None]
    assert result.status == "completed"
    assert result.invariants["rate_limit_kept"]
    free_ns = 32 * 2**20 * 8 * 1000 // 200  # as long as it takes without a limit
    assert result.metrics.total_time_ns == pytest.approx(free_ns + 400_000_000 * (1 - 4 / 23.8), rel=0.06)


def test_a_guest_too_busy_for_its_limit_is_stopped_once_the_limit_is_raised() -> None:
    """25 MB/s x 10 ms is 61 pages; what is dirtied meanwhile is more than that for ever, but less than 300 ms."""

    def run(**migration: Any) -> Any:
        return simulate(guest=BUSY, link=SLOW, migration={"downtime_limit": "10 ms", "max_rounds": 8, **migration})

    without, _ = run()
    assert without.status == "not-converging"
    by_round, events = run(change=[{"round": 3, "downtime_limit": "500 ms"}])
    assert by_round.status == "completed"
    assert by_round.invariants["stop_fits_estimate"]
    began = [event.index for event in events if isinstance(event, ev.RoundBegan)]
    raised = next(at for at, event in enumerate(events) if isinstance(event, ev.DowntimeLimitChanged))
    before = [event.index for event in events[:raised] if isinstance(event, ev.RoundBegan)]
    assert before[-1] == 3
    assert began[-1] <= 5
    by_time, _ = run(change=[{"at": "1200 ms", "downtime_limit": "500 ms"}])
    assert by_time.status == "completed"
    assert by_time.metrics.total_time_ns > 1_200_000_000


def test_a_source_that_forgets_a_change_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The invariants go by the trace: one that tells a change and keeps the old limit breaks them."""
    monkeypatch.setattr(Convergence, "limit_ns", property(lambda _: 1_000, lambda *_: None), raising=False)
    changes = [{"at": "250 ms", "max_bandwidth": "4 MiB/s", "downtime_limit": "2 us"}]
    kept, _ = limited("32 MiB/s", change=changes)
    assert not kept.invariants["stop_fits_estimate"]
    assert kept.invariants["rate_limit_kept"]
    allow = RateLimit.allow
    monkeypatch.setattr(RateLimit, "allow", lambda rate, _: allow(rate, 32 << 20))
    lax, _ = limited("32 MiB/s", change=changes)
    assert not lax.invariants["rate_limit_kept"]


def test_changes_that_never_come_leave_every_figure_as_it_is() -> None:
    late = [{"at": "100 s", "downtime_limit": "1 s"}, {"round": 900, "downtime_limit": "2 s"}]
    plain, _ = simulate(guest=BUSY, link=FAST, migration={})
    changed, _ = simulate(guest=BUSY, link=FAST, migration={"change": late})
    assert plain.trace_sha256 == changed.trace_sha256


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"downtime_limit": "1 s"}, 'needs at = "10 s" or round = 3'),
        ({"at": "1 s", "round": 2, "downtime_limit": "1 s"}, 'needs at = "10 s" or round = 3'),
        ({"at": "1 s"}, "changes nothing"),
        ({"round": 1, "downtime_limit": "1 s"}, "change[0].round"),
        ({"at": "1 s", "downtime_limit": "1 MiB"}, "change[0].downtime_limit"),
        ({"at": "1 s", "downtimelimit": "1 s"}, "downtime_limit"),
    ],
)
def test_bad_changes_are_told_by_their_key(change: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as error:
        scenario(guest={"memory": "1 MiB"}, link=FAST, migration={"change": [change]})
    assert told in str(error.value)
    assert "migration.change" in str(error.value)
