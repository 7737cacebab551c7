"""Protocols of one's own: the examples hold, their planted bugs are found, shrunk, drawn and played again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simmig.cli.main import main
from simmig.verify.chart import rows
from simmig.verify.exhaustive import tasks
from simmig.verify.explore import by_seed, spread
from simmig.verify.own import Case, Own
from simmig.verify.shrink import shrink

EXAMPLES = Path(__file__).parents[2] / "examples"
RIGHT = [f"{EXAMPLES}/{name}" for name in ("ring_rpc.py", "rendezvous.py")]
PLANTED = [
    (f"{EXAMPLES}/ring_rpc.py:EagerCredit", "right_request"),
    (f"{EXAMPLES}/rendezvous.py:EagerFin", "intact"),
]


def test_an_example_can_be_read_in_one_sitting() -> None:
    files = sorted(EXAMPLES.glob("*.py"))
    assert len(files) >= 2
    assert all(len(path.read_text().splitlines()) < 150 for path in files)


@pytest.mark.parametrize("spec", RIGHT)
def test_the_right_version_holds_under_every_fault_and_single_deviation(spec: str) -> None:
    tally = spread(tasks(Own(spec), 1), 1, None, lambda _: None)
    assert tally.cases > 500
    assert not tally.found
    assert not tally.cut
    assert {"packet drop", "dies", "link-down", "disconnect"} <= set(tally.faults)


@pytest.mark.parametrize("spec", RIGHT)
def test_the_right_version_holds_for_seeds(spec: str) -> None:
    tally = by_seed(Own(spec), range(1, 150))
    assert not tally.found
    assert tally.outcomes["completed"] > 100


@pytest.mark.parametrize(("spec", "invariant"), PLANTED)
def test_a_planted_bug_needs_an_explorer_and_is_found(spec: str, invariant: str) -> None:
    own = Own(spec)
    assert not own.play(Case()).broken  # as one would try it
    tally = by_seed(own, range(1, 500))
    found = tally.found[0]
    assert found.invariant == invariant
    case, verdict = shrink(own, found.case, invariant)
    assert len(case.faults) + len(case.schedule) <= 4
    broken = next(each for each in verdict.broken if each.invariant == invariant)
    assert len(rows(own.story, verdict.events, broken)) <= 14
    assert own.play(case).digest() == verdict.digest()


def test_a_case_spells_out_what_a_seed_drew() -> None:
    own = Own(RIGHT[0])
    for seed in range(10):
        case, drawn = own.generate(seed)
        first = own.play(case, drawn)
        again = own.play(Case(case.scenario, case.faults, first.choices))
        assert (again.digest(), again.happened) == (first.digest(), first.happened)


def test_found_and_replayed_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = PLANTED[1][0]
    asked = ["verify", spec, "--seed", "1", "--seeds", "300", "--jobs", "1", "--json", "--out", str(tmp_path)]
    assert main(asked) == 1
    found = json.loads(capsys.readouterr().out)["counterexample"]
    assert found["invariant"] == "intact"
    assert "receiver" in Path(found["svg"]).read_text()
    assert main(["verify", "--replay", found["replay"], "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["same_trace"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "no such file"),
        ("x = 1\n", "no class in it is derived from"),
        ("raise RuntimeError('no')\n", "cannot be loaded: RuntimeError: no"),
        ("print('aside')\nimport sys\nsys.exit(3)\n", "cannot be loaded: SystemExit: 3"),
    ],
)
def test_a_file_that_is_no_protocol_is_bad_input(
    text: str | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    assert main(["verify", str(path), "--seeds", "1"]) == 2
    captured = capsys.readouterr()
    said = captured.err
    assert told in said
    assert "mine.py" in said
    assert "Traceback" not in said
    assert "aside" not in captured.out


def test_what_does_not_go_together_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", RIGHT[0], "--policy", "final-only"]) == 2
    assert main(["verify", "--devices", "rxe0,rxe1"]) == 2
    assert main(["verify", RIGHT[0], "--devices", "rxe0"]) == 2
    assert "two names" in capsys.readouterr().err


WAITS = """
from simmig.verify.protocol import Protocol

class Waits(Protocol):
    async def first(self, end):
        await end.open()
        await end.connect()
        await end.next()

    async def second(self, end):
        await end.open()
        await end.connect()
        await end.next()

class Slips(Protocol):
    async def first(self, end):
        raise KeyError("slip")

    async def second(self, end):
        await end.open()

class Leaks(Protocol):
    async def first(self, end):
        await end.open()
        end.left = end.verbs.PD(end._connection.context)
        await end.connect()

    async def second(self, end):
        await end.open()
        await end.connect()
"""


@pytest.mark.parametrize(
    ("name", "invariant"), [("Waits", "every_wait_ends"), ("Slips", "nothing_escapes"), ("Leaks", "nothing_leaks")]
)
def test_what_holds_of_any_protocol_is_checked_without_asking(name: str, invariant: str, tmp_path: Path) -> None:
    path = tmp_path / "waits.py"
    path.write_text(WAITS)
    assert invariant in {each.invariant for each in Own(f"{path}:{name}").play(Case()).broken}
