"""What somebody who waits is told of a long run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simmig.cli import progress
from simmig.cli.main import main
from simmig.trace import events as ev
from tests.experiment.studies.sweep.small import write


def test_the_rest_of_a_round_is_estimated_at_its_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("simmig.cli.progress.time.monotonic", lambda: now_s)
    monkeypatch.setattr(progress, "_LOOK_EVERY", 1)
    said: list[str] = []
    reader = progress.Progress(said.append)
    reader(ev.RoundBegan(t_ns=0, side="source", index=1, dirty_pages=1000))
    now_s = 100.5
    reader(ev.PagesSaved(t_ns=1, side="source", page=0, count=100, how="zero"))
    assert "about" not in said[-1]
    now_s = 102.0
    reader(ev.PagesSaved(t_ns=1, side="source", page=100, count=100, how="zero"))
    assert said[-1].endswith("about 8 s more for this round")
    reader(ev.RoundBegan(t_ns=2, side="source", index=2, dirty_pages=50))
    now_s = 103.0
    reader(ev.PagesSaved(t_ns=3, side="source", page=0, count=50, how="zero"))
    assert "about" not in said[-1]


class Clock:
    """Seconds that pass when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr("simmig.cli.progress.time.monotonic", lambda: self.now_s)


def test_a_log_has_a_line_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    line = progress.LogLine()
    for _ in range(1000):
        clock.now_s += 0.1
        line(f"at {clock.now_s:.0f}")
    assert capsys.readouterr().err == "simmig: at 130\nsimmig: at 160\nsimmig: at 190\n"


def test_the_rest_is_estimated_from_what_was_done_since_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that goes on has points that cost it nothing."""
    clock = Clock(monkeypatch)
    said: list[str] = []
    counted = progress.Counted(said.append)
    counted("simulating", 400, 1000)
    assert said[-1] == "simulating: 400 of 1000"
    clock.now_s += 60
    counted("simulating", 600, 1000)
    assert said[-1] == "simulating: 600 of 1000, about 2 min more"
    clock.now_s += 60
    counted("simulating", 1000, 1000)
    assert said[-1] == "simulating: 1000 of 1000"
    counted("testing", 1, 5)
    assert said[-1] == "testing: 1 of 5"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said every half minute is said at once."""
    for name, value in (("LOG_EVERY_S", 0.0), ("_SHOW_EVERY_S", 0.0), ("_LOOK_EVERY", 1)):
        monkeypatch.setattr(progress, name, value)


SWEEP = """
[axes]
policy = ["final-only", "per-chunk"]
"""


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["run", "small.toml"], "simmig: round 1: "),
        (["run", "small.toml", "--out", "out"], "simmig: round 1: "),
        (["run", "small.toml", "--against", "per-chunk"], "simmig: simulating 2 of 2: per-chunk"),
        (["sweep", "sweep.toml", "--out", "out", "--jobs", "1"], "simmig: simulating: 2 of 2"),
        (
            ["advise", "small.toml", "--downtime", "1 s", "--trials", "2", "--jobs", "1"],
            "simmig: searching: 2 of 2",
        ),
        (["verify", "--seeds", "3", "--seed", "1", "--jobs", "1"], "of 3 runs, "),
    ],
)
def test_a_long_command_says_in_a_log_how_far_it_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    told: Any,
) -> None:
    write(tmp_path, SWEEP)
    monkeypatch.chdir(tmp_path)
    main(command)
    assert told in capsys.readouterr().err
