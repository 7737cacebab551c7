"""Advice: what it rests on, that it is what a run does, and what it says when nothing suits."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simmig.cli.main import main
from simmig.experiment.advise.confidence import kept_share, seeds_for
from tests.experiment.sweep.small import write


@given(st.integers(1, 2000), st.floats(0.5, 0.9999), st.integers(1, 5))
def test_the_bound_is_where_the_seeds_would_be_that_lucky(seeds: int, confidence: float, candidates: int) -> None:
    share = kept_share(seeds, confidence, candidates)
    assert share**seeds == pytest.approx((1 - confidence) / candidates, rel=1e-6)
    assert share >= kept_share(seeds, confidence, candidates + 1)


def test_the_textbook_numbers() -> None:
    assert kept_share(59, 0.95) == pytest.approx(0.9505, abs=1e-4)
    assert (seeds_for(0.95, 0.95), seeds_for(0.99, 0.95)) == (59, 299)


def advise(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    status = main(["advise", str(path), "--json", "--jobs", "1", *options])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, found


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    write(tmp_path, "")
    return tmp_path / "small.toml"


def test_the_winner_keeps_it_when_its_command_is_run(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--downtime", "25 ms", "--trials", "12", "--seeds", "5", "--freedoms")
    status, found = advise(scenario, capsys, *options)
    assert status == 0
    assert found["depends_on_seed"] is True
    assert found["seeds"] == 5
    assert found["kept_share_at_least"] == pytest.approx(kept_share(5, 0.95, found["finalists"]))
    assert found["winner"]["downtime_ns"] <= 25_000_000
    front = [(choice["total_time_ns"], -choice["downtime_ns"]) for choice in found["front"]]
    assert front == sorted(set(front))
    command = shlex.split(found["command"])
    assert main([*command[1:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["downtime_ns"] <= 25_000_000
    assert advise(scenario, capsys, *options) == (status, found), "not the same the second time"


def test_when_none_suits_the_nearest_is_told(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--downtime", "10 us", "--trials", "3", "--policies", "per-chunk,final-only", "--jobs", "1"]
    out = tmp_path / "advice"
    assert main(["advise", str(scenario), *options, "--out", str(out)]) == 1
    told = capsys.readouterr().out
    assert "keeps 10 us" in told
    assert "the nearest is" in told
    assert {file.name for file in out.iterdir()} == {"advice.txt", "advice.json", "front.png"}
    assert (out / "advice.txt").read_text() == told


def test_one_run_is_enough_where_nothing_is_drawn(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    idle = ("--set", "guest.workload={ kind = 'idle' }", "--downtime", "1 s", "--trials", "2")
    status, found = advise(scenario, capsys, *idle)
    assert status == 0
    assert (found["depends_on_seed"], found["seeds"], found["kept_share_at_least"]) == (False, 1, 1.0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--downtime", "50"], '--downtime: "50" has no unit'),
        (["--downtime", "1 ns"], "out of bounds"),
        (["--downtime", "5 ms", "--policies", "per-chnuk"], "did you mean 'per-chunk'?"),
        (["--downtime", "5 ms", "--set", "seed=3"], "advise chooses seed itself"),
        (["--downtime", "5 ms", "--set", "policy.limit=3 MiB"], "advise chooses policy.limit itself"),
        (["--downtime", "5 ms", "--set", "guest.memroy=3 MiB"], "did you mean 'memory'?"),
    ],
)
def test_bad_input_is_told(
    scenario: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    assert main(["advise", str(scenario), *options]) == 2
    assert told in capsys.readouterr().err
