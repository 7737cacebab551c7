"""What is asked of a run beside its trace: zeros, the dirty log, a policy's answers; a slip breaks each."""

from __future__ import annotations

from typing import Any

import pytest

from simmig.guest.sim import SimGuest
from simmig.migration.policies import Point, Sender
from simmig.migration.ram_writer import RamWriter
from simmig.migration.source import _Source
from simmig.trace.events import BandwidthEstimated
from simmig.verify.faults import Cancel
from simmig.verify.migration.case import Case, Small
from simmig.verify.migration.play import play

ZEROS = Case(Small(pages=(1024,), zero_fraction=0.5, registration_batch=4))
SLOW = Case(Small(pages=(1280,), bandwidth_bit_s=100_000_000, slice_ns=100_000))
"""Four windows long."""


def broken(case: Case) -> set[str]:
    return {each.invariant for each in play(case).broken}


def test_chunks_of_zeros_are_not_registered_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken(ZEROS) == set()
    original = RamWriter._is_zero

    def only_runs(self: RamWriter, first: int, count: int) -> bool:
        return (first, count) == (self._held.first, self._held.count) and original(self, first, count)

    monkeypatch.setattr(RamWriter, "_is_zero", only_runs)
    assert broken(ZEROS) == {"zeros_stay_off_the_wire"}


def test_runs_of_zeros_are_not_written_to_a_chunk_that_needs_registering(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(Small(pages=(512,), zero_fraction=0.3, slice_ns=1))
    assert broken(case) == set()
    monkeypatch.setattr(RamWriter, "_is_zero", lambda *_: False)
    assert broken(case) == {"zeros_stay_off_the_wire"}


@pytest.mark.parametrize("faults", [(), (Cancel("source", 40),), (Cancel("destination", 40),)])
def test_the_dirty_log_ends_on_every_way_out(monkeypatch: pytest.MonkeyPatch, faults: Any) -> None:
    case = Case(faults=faults)
    assert broken(case) == set()
    monkeypatch.setattr(SimGuest, "stop_dirty_log", lambda _: None)
    assert broken(case) == {"dirty_log_ends"}


class Half:
    """Half a chunk may stay pending, at every full chunk."""

    def drain(self, point: Point, sender: Sender) -> int | None:
        return 1 << 19 if point is Point.CHUNK_FULL else None


@pytest.mark.parametrize("slip", ["too far", "never", "always"])
def test_a_policy_is_obeyed(monkeypatch: pytest.MonkeyPatch, slip: str) -> None:
    case = Case(Small(pages=(1024,), control_qp="own", control_wait="deferred", slice_ns=None, pin_all=True))
    original = _Source._decide
    assert not play(case, policy=Half()).broken

    def decide(self: _Source, point: Point) -> int | None:
        target = original(self, point)
        if slip == "always":
            return 0
        return None if target is None or slip == "never" else target // 2

    monkeypatch.setattr(_Source, "_decide", decide)
    assert {each.invariant for each in play(case, policy=Half()).broken} == {"policy_is_obeyed"}


def test_slow_links_close_windows() -> None:
    """Without estimates nothing of thresholds and rounds is exercised."""
    verdict = play(SLOW)
    assert not verdict.broken
    assert sum(isinstance(event, BandwidthEstimated) for event in verdict.events) > 1


@pytest.mark.parametrize(
    ("module", "name", "value", "found"),
    [
        ("convergence", "WINDOW_NS", 50_000_000, "estimates_in_time"),
        ("convergence", "WINDOW_NS", 200_000_000, "estimates_in_time"),
        ("per_second", "SECOND_NS", 100_000_000, "stop_fits_estimate"),
    ],
)
def test_wrong_windows_and_thresholds_are_found(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, value: int, found: str
) -> None:
    monkeypatch.setattr(f"simmig.migration.{module}.{name}", value)
    assert found in broken(SLOW)
