"""What would never end ends with a verdict that names it; budgets are kept; answers that change are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from simmig.migration.policies import Point, Sender
from simmig.migration.source import _Source
from simmig.verbs.sim.host import Host, HostCosts
from simmig.verbs.sim.runtime import SimRuntime
from simmig.verbs.sim.timeline import Timeline
from simmig.verify.exhaustive import tasks
from simmig.verify.explore import Tally, by_seed, spread
from simmig.verify.instants import run_to_rest
from simmig.verify.migration.case import Case, Small
from simmig.verify.migration.play import play
from simmig.verify.migration.subject import MIGRATION, Migrations
from simmig.verify.patience import Endless
from simmig.verify.report import counterexample
from tests.interrupts import heeding

POLICIES = Path(__file__).parents[1] / "data" / "policies"
SIMMIG = [sys.executable, "-m", "simmig.cli"]


@pytest.mark.parametrize("name", ["Loop", "Wait"])
def test_a_policy_that_does_not_answer_is_named_with_its_seed_and_point(name: str, tmp_path: Path) -> None:
    tally = by_seed(Migrations((f"{POLICIES}/endless.py:{name}", {})), range(5, 30))
    (found,) = tally.found
    assert (found.invariant, found.seed) == ("policy_answers", 4 + tally.cases)
    assert f"{name}: the policy did not answer at chunk-full" in found.words
    began = time.monotonic()
    figures, lines = counterexample(MIGRATION, found, tmp_path)
    assert time.monotonic() - began < 2  # without waiting for it again
    assert figures["seed"] == found.seed
    assert any("BROKEN policy_answers" in line for line in lines)


def test_a_run_with_such_a_policy_is_bad_input(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('[guest]\nmemory = "8 MiB"\n[link]\nbandwidth = "10 Gbit/s"\nlatency = "2 us"\n')
    done = subprocess.run(
        [*SIMMIG, "run", scenario, "--policy", f"{POLICIES}/endless.py:Loop"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "endless.py:Loop: the policy did not answer at chunk-full within 3 s" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_protocol_that_spins_in_one_instant_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def spin(self: _Source) -> None:
        while True:
            await self._runtime.sleep(0)

    monkeypatch.setattr(_Source, "_hand_over", spin)
    (first, *_) = play(Case(Small(pages=(1,)))).broken
    assert first.invariant == "time_passes"
    assert "the source spins" in first.words


def test_a_protocol_that_does_not_even_wait_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def spin(self: _Source) -> None:
        while True:
            pass

    monkeypatch.setattr(_Source, "_hand_over", spin)
    (first, *_) = play(Case(Small(pages=(1,)))).broken
    assert first.invariant == "time_passes"
    assert "the source does not wait" in first.words


def test_an_instant_without_end_ends_outside_of_verify() -> None:
    env = Timeline()
    host = Host(env, "source", HostCosts())
    runtime = SimRuntime(host)

    async def spin() -> None:
        await runtime.sleep(7)
        while True:
            await runtime.sleep(0)

    runtime.start(spin(), "spinner")
    with pytest.raises(Endless, match="the source spins, 5000 events at 7 ns"):
        run_to_rest(env, [host], 5000)


@pytest.mark.parametrize("name", ["Shared", "Chance"])
def test_answers_that_do_not_repeat_are_told_with_a_pair(name: str, tmp_path: Path) -> None:
    tally = by_seed(Migrations((f"{POLICIES}/state_and_chance.py:{name}", {})), range(1, 200))
    found = tally.found[0]
    assert found.invariant == "answers_repeat"
    _, lines = counterexample(MIGRATION, found, tmp_path)
    text = "\n".join(lines)
    assert "do not repeat" in text
    assert "the first time" in text
    assert list(tmp_path.iterdir()) == []


def test_a_policy_that_keeps_to_itself_repeats() -> None:
    class Own:
        def __init__(self) -> None:
            self.asked = 0

        def drain(self, point: Point, sender: Sender) -> int | None:
            self.asked += 1
            return 0 if self.asked % 7 == 0 else None

    assert play(Case(), policy=Own()).answers == play(Case(), policy=Own()).answers


def test_a_budget_is_kept_within_a_batch() -> None:
    began = time.monotonic()
    tally = by_seed(MIGRATION, range(1, 10**6), deadline=began + 0.5)
    assert time.monotonic() - began < 5
    assert tally.cut
    assert tally.cases > 0


def test_a_budget_is_kept_within_a_search() -> None:
    began = time.monotonic()
    tally: Tally = spread(tasks(MIGRATION, 3, began + 1), 1, began + 1, lambda _: None)
    assert time.monotonic() - began < 6
    assert tally.cut


def _descendants(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # gone meanwhile
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "command",
    [
        ("verify", "--jobs", "2", "--seed", "1"),
        ("demo",),
        ("verify", "--exhaustive", "--jobs", "2", "--deviations", "2"),
    ],
    ids=["seeds", "demo", "exhaustive"],
)
def test_no_worker_outlives_its_parent(command: tuple[str, ...], sent: signal.Signals, tmp_path: Path) -> None:
    process: Any = subprocess.Popen(
        [*SIMMIG, *command, "--out", str(tmp_path / "out")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=heeding,  # noqa: PLW1509
    )
    workers: set[int] = set()
    deadline = time.monotonic() + 60
    while (
        process.poll() is None and time.monotonic() < deadline and len(workers) < 3
    ):  # a tracker and two at least
        workers = _descendants(process.pid)
        time.sleep(0.1)
    assert len(workers) >= 3
    os.kill(process.pid, sent)
    process.wait(timeout=60)
    deadline = time.monotonic() + 20
    while (left := {pid for pid in workers if Path(f"/proc/{pid}").exists()}) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_the_statement_of_a_search_says_what_it_prunes_by(tmp_path: Path) -> None:
    done = subprocess.run(
        [*SIMMIG, "verify", "--exhaustive", "--budget", "2 s", "--jobs", "1", "--json", "--out", tmp_path / "x"],
        capture_output=True,
        check=False,
    )
    said = json.loads(done.stdout)
    assert "Of simultaneous events one of the first 4 comes next" in said["bound"]
    assert "Pruned: " in said["bound"]
    assert not said["complete"]
