"""What each policy answers, and how one is found."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from simmig.migration import policies
from simmig.migration.policies import Point


@dataclass
class FixedSender:
    posted_bytes: int = 0
    completed_bytes: int = 0
    pending_bytes: int = 0
    chunks: int = 0
    slice: int = 1
    round: int = 1
    bandwidth_bytes_s: int = 0
    downtime_limit_ns: int = 300_000_000
    now_ns: int = 0


EXPECTED = {  # point -> answer, None where not asked for; bandwidth 1 GB/s, 64 MiB posted
    "final-only": {Point.BEFORE_DEVICE_STATE: 0},
    "at-switch": {},
    "per-round": {Point.ROUND_END: 0},
    "per-iteration": {Point.SLICE_END: 0},
    "per-chunk": {Point.CHUNK_FULL: 0},
    "pending-limit": {Point.CHUNK_FULL: 64 << 20},
    "every-bytes": {Point.CHUNK_FULL: 0},
    "downtime-budget": {Point.CHUNK_FULL: 300_000_000, Point.BEFORE_STOP: 300_000_000},
}


def test_there_are_eight() -> None:
    assert set(policies.builtin()) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("point", Point)
def test_where_a_policy_drains_and_how_far(name: str, point: Point) -> None:
    policy = policies.load(name)()
    sender = FixedSender(posted_bytes=64 << 20, bandwidth_bytes_s=1_000_000_000)
    assert policy.drain(point, sender) == EXPECTED[name].get(point)


def test_every_bytes_counts_from_its_last_drain() -> None:
    policy = policies.load("every-bytes")(interval=10)  # type: ignore[call-arg]
    answers = [policy.drain(Point.CHUNK_FULL, FixedSender(posted_bytes=n)) for n in (4, 9, 12, 16, 22, 30, 33)]
    assert answers == [None, None, 0, None, 0, None, 0]


def test_a_budget_without_an_estimate_is_no_budget() -> None:
    policy = policies.load("downtime-budget")()
    assert policy.drain(Point.CHUNK_FULL, FixedSender()) is None


@pytest.mark.parametrize(
    ("name", "parameter", "unit"), [("pending-limit", "limit", "bytes"), ("every-bytes", "interval", "bytes")]
)
def test_parameters_carry_their_unit(name: str, parameter: str, unit: str) -> None:
    parameters = {f.name: f.metadata.get("unit") for f in fields(policies.load(name)) if f.init}  # type: ignore[arg-type]
    assert parameters == {parameter: unit}


OWN = """
class Mine:
    def drain(self, point, sender):
        return 42
NotAPolicy = 3
"""


def test_a_policy_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    assert policies.load(f"{path}:Mine")().drain(Point.CHUNK_FULL, FixedSender()) == 42


@pytest.mark.parametrize(
    ("content", "name", "complaint"),
    [
        (None, "Mine", "no such file"),
        (OWN, "Yours", "defines no 'Yours'"),
        (OWN, "NotAPolicy", "no class with a drain"),
        ("1 / 0", "Mine", "raised ZeroDivisionError"),
        ("def :", "Mine", "raised SyntaxError"),
    ],
)
def test_a_policy_file_that_does_not_do(tmp_path: Path, content: str | None, name: str, complaint: str) -> None:
    path = tmp_path / "own.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(policies.PolicyError, match=complaint):
        policies.load(f"{path}:{name}")


def test_an_unknown_policy_gets_the_nearest_name() -> None:
    with pytest.raises(policies.PolicyError, match="did you mean 'pending-limit'"):
        policies.load("pending-limt")
