"""Advice: what it rests on, that it is what a run does, and what it says when nothing suits."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simmig.cli.main import main
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.load import Overrides, load_scenario
from simmig.experiment.studies.advise.confidence import kept_share, seeds_for
from simmig.experiment.studies.advise.effort import Effort, effort
from simmig.experiment.studies.advise.search import Choice, _ties, to_test
from simmig.experiment.studies.advise.space import Candidate
from simmig.experiment.studies.advise.trial import Outcome, _is_flat
from simmig.migration.policies import builtin
from simmig.trace.metrics import Stretch
from tests.endtoend import worlds
from tests.experiment.studies.sweep.small import write


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


def choice(name: str, total_s: int, downtime_ms: int) -> Choice:
    return Choice(Candidate(name), Outcome(True, total_s * 10**9, downtime_ms * 10**6))


def test_the_one_with_most_to_spare_is_tested_however_long() -> None:
    near_copies = [choice(f"near {n}", 5, 49) for n in range(9)]
    others = [choice("longer", 6, 49), choice("some to spare", 7, 30), choice("worse", 8, 31)]
    keepers = [*near_copies, *others, choice("same", 8, 31), choice("most to spare", 90, 5)]
    names = [chosen.candidate.policy for chosen in to_test(keepers)]
    assert names == ["near 0", "longer", "some to spare", "worse", "most to spare"]
    steps = [choice(str(n), n, 50 - n) for n in range(20)]
    assert [chosen.candidate.policy for chosen in to_test(steps)] == ["0", "1", "2", "3", "19"]
    assert to_test([]) == []


def test_less_downtime_is_not_traded_for_a_hundredth_of_the_time() -> None:
    first, better, longer = choice("first", 1000, 49), choice("better", 1003, 19), choice("longer", 1020, 10)
    worse = choice("worse", 1004, 48)
    names = [chosen.candidate.policy for chosen in to_test([first, better, worse, longer])]
    assert names[0] == "better"
    assert names[-1] == "longer"
    many = [choice(str(n), 1000 + n, 49 - n) for n in range(9)]
    assert to_test(many)[0].candidate.policy == "8"


def test_what_fresh_seeds_undo_is_told_as_they_saw_it(
    scenario: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "simmig.experiment.studies.advise.search._over_seeds", lambda *_: Outcome(True, 10**9, 26 * 10**6)
    )
    options = ["--downtime", "25 ms", "--trials", "4", "--seeds", "5", "--policies", "per-chunk", "--jobs", "1"]
    assert main(["advise", str(scenario), *options]) == 1
    told = capsys.readouterr().out
    none = r"none of the \d tested kept 25 ms with all of 5 seeds; the nearest is .*downtime 26 ms"
    assert re.search(none, told)


def test_a_freedom_that_is_set_is_not_chosen(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--downtime", "1 s", "--trials", "4", "--freedoms", "--set", "migration . slice=round")
    _, found = advise(scenario, capsys, *options)
    assert [set(front["migration"]) for front in found["front"]] == [
        {"downtime_limit", "registration_batch", "control_wait", "control_qp"}
    ] * len(found["front"])
    assert found["command"].count("slice") == 1


def test_policies_are_looked_for_from_here(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "own.py").rename(tmp_path / "here/own.py")
    monkeypatch.chdir(tmp_path / "here")
    status, found = advise(scenario, capsys, "--downtime", "1 s", "--trials", "1", "--policies", "own.py:Slow")
    assert (status, found["winner"]["policy"]) == (0, f"{tmp_path}/here/own.py:Slow")


def test_one_run_is_enough_where_nothing_is_drawn(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    idle = ("--set", "guest.workload={ kind = 'idle' }", "--downtime", "1 s", "--trials", "2")
    status, found = advise(scenario, capsys, *idle)
    assert status == 0
    assert (found["depends_on_seed"], found["seeds"], found["kept_share_at_least"]) == (False, 1, 1.0)


def test_a_guest_that_outruns_every_policy_is_soon_given_up(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One migration tells it; that no policy would have come through is asked of each of them here."""
    busy = 'guest.workload={ kind = "uniform", working_set = "8 MiB", rate = "4 GiB/s" }'
    status, found = advise(scenario, capsys, "--downtime", "1 ms", "--set", busy)
    assert status == 1
    assert found["tried"] == 0
    assert found["pinned"]["winner"] is None
    assert found["pace"]["left_bytes"] > 2 * found["pace"]["fits_bytes"]
    assert found["pace"]["sent_bit_s"] == pytest.approx(1e9, rel=0.05), "the link's"
    assert found["pace"]["written_bit_s"] == pytest.approx(8 * (4 << 30), rel=0.05), "the guest's"
    for name in builtin():
        overrides = Overrides((busy, "migration.downtime_limit=1 ms"), name)
        assert run(load_scenario(scenario, overrides), traced=False).status == "not-converging", name
    settings = ("--set", busy, "--set", "migration.downtime_limit=1 ms")
    assert main(["run", str(scenario), *settings, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["status"] == "not-converging"


def test_why_nothing_keeps_it_is_told_in_numbers(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    busy = 'guest.workload={ kind = "uniform", working_set = "8 MiB", rate = "4 GiB/s" }'
    assert main(["advise", str(scenario), "--jobs", "1", "--downtime", "1 ms", "--set", busy]) == 1
    told = capsys.readouterr().out
    assert "nothing keeps 1 ms: not even final-only converges, which never waits" in told
    assert "each leaves about 8 MiB dirty" in told
    assert "The guest writes 4 GiB/s (34.4 Gbit/s) meanwhile, and 1000 Mbit/s are sent." in told
    assert "100% of the time: its bandwidth bounds it" in told
    assert "a downtime of about 67.1 ms" in told
    assert "migration.pin_all=true does not help" in told


SLOW_TO_REGISTER = (
    "guest.memory=16 MiB",
    "guest.zero_fraction=1",
    "guest.device_state=64 KiB",
    "guest.workload={ kind = 'uniform', working_set = '16 MiB', rate = '4 MiB/s' }",
    "host={ register = '20 ms', zero_test_page = '1 us' }",
    "migration.max_rounds=1",
)
"""What is registered in the first pass takes so long that too much is dirty afterwards."""


def test_pinning_is_tried_where_nothing_else_helps(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [word for setting in SLOW_TO_REGISTER for word in ("--set", setting)]
    policies = ("--policies", "per-round,final-only")
    options = [*settings, *policies, "--downtime", "15 ms", "--trials", "2", "--seeds", "2"]
    status, found = advise(scenario, capsys, *options)
    assert (status, found["winner"]) == (1, None)
    assert found["pinned"]["winner"]["downtime_ns"] <= 15_000_000
    command = shlex.split(found["pinned"]["command"])
    assert "migration.pin_all=true" in command
    assert main([*command[1:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["downtime_ns"] <= 15_000_000
    _, found = advise(scenario, capsys, *options, "--set", "migration.pin_all=false")
    assert found["pinned"] is None, "that was the user's to say"


def test_who_is_longer_by_less_than_repeats_differ_ties() -> None:
    def seen(name: str, total_ms: int, spread_ms: int, downtime_ms: int = 20) -> Choice:
        return Choice(
            Candidate(name), Outcome(True, total_ms * 10**6, downtime_ms * 10**6, False, spread_ms * 10**6)
        )

    best = seen("best", 1000, 10)
    others = [
        seen("in 1 %", 1009, 0),
        seen("in its spread", 1050, 60),
        seen("longer", 1050, 40),
        seen("late", 1001, 0, 51),
    ]
    names = [choice.candidate.policy for choice in _ties(best, [best, *others], 50 * 10**6)]
    assert names == ["in 1 %", "in its spread"]


def test_a_big_guest_is_tried_less_and_what_is_asked_for_is_done() -> None:
    small, big = 1000, 20_000_000
    scattered = worlds.scenario(guest__workload={"kind": "uniform", "working_set": "1 MiB", "rate": "1 MiB/s"})
    assert effort(scattered, small, None, None, 8) == Effort(64, 3, 20, False)
    reduced = effort(scattered, big, None, None, 8)
    assert (reduced.trials, reduced.search_seeds, reduced.reduced) == (8, 1, True)
    assert reduced.seeds < 20
    assert effort(scattered, big, 64, 20, 8) == Effort(64, 3, 20, False)


@pytest.mark.parametrize(
    ("dirty", "flat"),
    [([90, 8, 8, 8, 8], True), ([9, 8, 10, 9, 8], True), ([9, 8, 7, 7, 5], False), ([9, 8, 8, 8], False)],
)
def test_what_did_not_converge_is_flat_by_the_one_rule_there_is(dirty: list[int], flat: bool) -> None:
    result = run(worlds.scenario(guest__memory="1 MiB"))
    result.metrics.rounds = [Stretch(i, i, i, pages * 100) for i, pages in enumerate(dirty)]
    assert _is_flat(dataclasses.replace(result, status="not-converging")) is flat
    assert not _is_flat(result)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--downtime", "50"], '--downtime: "50" has no unit'),
        (["--downtime", "1 ns"], "out of bounds"),
        (["--downtime", "5 ms", "--policies", "per-chnuk"], "did you mean 'per-chunk'?"),
        (["--downtime", "5 ms", "--set", "seed=3"], "advise chooses seed itself"),
        (["--downtime", "5 ms", "--set", "policy.limit=3 MiB"], "advise chooses policy.limit itself"),
        (["--downtime", "5 ms", "--set", "migration . downtime_limit=3 ms"], "chooses migration.downtime_limit"),
        (["--downtime", "5 ms", "--set", "migration={ slice = 'round' }"], "set its other keys one by one"),
        (["--downtime", "5 ms", "--set", "guest.memroy=3 MiB"], "did you mean 'memory'?"),
    ],
)
def test_bad_input_is_told(
    scenario: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    assert main(["advise", str(scenario), *options]) == 2
    assert told in capsys.readouterr().err
