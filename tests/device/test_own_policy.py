"""A policy of one's own, property-tested on devices: a wrong one is told with its simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from simmig.migration.policies import Point, Sender
from simmig.migration.policies.per_round import PerRound
from simmig.verify import testing
from simmig.verify.migration import on_devices
from simmig.verify.testing import every_migration
from tests.device.conftest import DESTINATION, SOURCE
from tests.verify.test_testing import Negative


@dataclass
class Raising:
    """At fault in every migration, so that how many a slow machine carries out does not matter."""

    def drain(self, point: Point, sender: Sender) -> int | None:
        return 1 // 0 if point is Point.SLICE_END else None


@pytest.fixture(autouse=True)
def _devices(verbs: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_devices, "wanted", on_devices.Wanted((SOURCE, DESTINATION), True))
    testing.accounts.clear()


def run(policy: Any, seconds: float, examples: int = 6) -> list[str]:
    seen: list[str] = []

    @every_migration(policy, on="devices", examples=examples, seconds=seconds)
    def test(verdict: Any) -> None:
        assert verdict.events
        seen.append(verdict.status)

    test()
    return seen


def test_a_good_policy_passes() -> None:
    assert "completed" in run(PerRound, 30)
    assert len(testing.accounts) == 1
    assert f"on {SOURCE}, {DESTINATION} in " in testing.accounts[0]


@pytest.mark.parametrize(
    ("policy", "told"), [(Raising, "the policy raised ZeroDivisionError"), (Negative, "the policy answered -1")]
)
def test_a_wrong_policy_is_told_with_its_simulation(policy: Any, told: str) -> None:
    with pytest.raises(AssertionError) as caught:
        run(policy, 20)
    there, simulated = str(caught.value).split("the same migration in simulation", 1)
    assert told in there
    assert told in simulated
