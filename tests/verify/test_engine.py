"""The engine: a case plays the same anywhere, a planted bug is found, shrunk and replayed, every fault happens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from simmig.migration.source import _Source
from simmig.verify import faults as f
from simmig.verify.choices import KINDS, Choice, Drawn, Logged
from simmig.verify.dice import Dice
from simmig.verify.exhaustive import search
from simmig.verify.explore import by_seed
from simmig.verify.migration.case import Case, Small, from_json, to_json
from simmig.verify.migration.generate import FAULT_MAKERS, generate
from simmig.verify.migration.play import play
from simmig.verify.migration.subject import MIGRATION
from simmig.verify.replay import ReplayError, encode, read, record
from simmig.verify.shrink import shrink
from simmig.verify.subject import Subject

COUNTEREXAMPLES = sorted((Path(__file__).parent / "counterexamples").glob("*.json"))


def named(_: str) -> Subject:
    return MIGRATION


def test_what_a_seed_draws_plays_again_from_its_schedule_alone() -> None:
    for seed in range(40, 50):
        case, drawn = generate(seed)
        first = play(case, drawn)
        spelled = msgspec.structs.replace(case, schedule=first.choices)
        again = play(from_json(to_json(spelled)))
        assert again.digest() == first.digest()
        assert again.choices == first.choices
        assert again.happened == first.happened


def test_a_case_plays_the_same_whatever_the_hash_seed() -> None:
    code = (
        "from simmig.verify.migration.generate import generate\n"
        "from simmig.verify.migration.play import play\n"
        "print([play(*generate(seed)).digest() for seed in range(3)])"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "4711")
    }
    assert told == {repr([play(*generate(seed)).digest() for seed in range(3)]).encode() + b"\n"}


def test_the_shipped_protocol_holds() -> None:
    tally = by_seed(MIGRATION, range(7000, 7050))
    assert tally.cases == 50
    assert not tally.found
    assert tally.outcomes["completed"] > 10
    assert tally.faults


@pytest.mark.parametrize("kind", sorted(FAULT_MAKERS))
def test_every_kind_of_fault_happens(kind: str) -> None:
    dice = Dice(1)
    happened: set[f.Fault] = set()
    for _ in range(12):
        fault = FAULT_MAKERS[kind](dice, Small())
        happened.update(play(Case(Small(pages=(257,)), (fault,))).happened)
    assert happened


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_choice_makes_a_difference(kind: str) -> None:
    case = Case(Small(pages=(300,), latency_ns=0, workload="sweep", busy_host=kind == "spurious"))
    usual = play(case)
    needed = {"completion": 0.5} if kind == "late" else {}  # only what is held back can come late
    other = play(case, Drawn(3, {kind: 0.5} | needed))
    assert {choice.kind for choice in other.choices} == {kind, *needed}
    assert other.digest() != usual.digest()
    assert not other.broken


def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source takes the guest for handed over as soon as its device state is on the way."""

    async def hand_over_early(self: _Source) -> None:
        self._handed_over = True
        await original(self)

    original = _Source._hand_over
    monkeypatch.setattr(_Source, "_hand_over", hand_over_early)


def test_a_planted_bug_is_found_shrunk_and_replayed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    planted(monkeypatch)
    tally = by_seed(MIGRATION, range(1, 2000))
    found = next(each for each in tally.found if each.invariant == "one_side_runs")
    case, verdict = shrink(MIGRATION, found.case, found.invariant)
    assert len(case.faults) <= 1
    assert not case.schedule
    assert case.migration.pages == (1,)  # one page is enough for that bug
    path = tmp_path / "replay.json"
    path.write_bytes(encode(record(MIGRATION, case, verdict)))
    replay = read(path, named)[0]
    assert replay.case == case
    assert play(replay.case).digest() == replay.trace_sha256
    monkeypatch.undo()
    assert not play(replay.case).broken


def test_a_search_runs_every_schedule_once() -> None:
    """Held against a count by hand: every subset of at most two deviations, each behind the one before."""
    root = Case(Small(pages=(1,), pin_all=True, transport="tcp"))
    logged = Logged()
    play(root, logged)
    points = logged.log
    singles = [Choice(kind, number, option) for kind, number, options in points for option in range(1, options)]
    expected = 1 + len(singles)
    for single in singles:
        behind = Logged((single,))
        play(msgspec.structs.replace(root, schedule=(single,)), behind)
        place = [(kind, number) for kind, number, _ in behind.log].index((single.kind, single.number))
        expected += sum(options - 1 for _, _, options in behind.log[place + 1 :])
    assert search(MIGRATION, root, 1).cases == 1 + len(singles)
    assert 1 + len(singles) < search(MIGRATION, root, 2).cases <= expected


def test_two_faults_of_a_plan_both_happen() -> None:
    plan = (f.Packet("source", 3, "drop"), f.Cancel("destination", 60))
    verdict = play(Case(Small(pages=(257,)), plan))
    assert verdict.happened == plan
    assert verdict.status in ("failed", "cancelled")
    assert not verdict.broken


def test_a_file_that_is_no_replay_is_told(tmp_path: Path) -> None:
    path = tmp_path / "no.json"
    with pytest.raises(ReplayError, match=r"no\.json"):
        read(path, named)[0]
    path.write_text('{"format": 1}')
    with pytest.raises(ReplayError, match="no replay file"):
        read(path, named)[0]


@pytest.mark.parametrize("path", COUNTEREXAMPLES, ids=lambda path: path.stem)
def test_what_once_broke_holds(path: Path) -> None:
    """Each a bug that `simmig verify` found: the case that broke the invariant in the file's name."""
    verdict = play(read(path, named)[0].case)
    assert verdict.happened or not read(path, named)[0].case.faults
    assert not verdict.broken
