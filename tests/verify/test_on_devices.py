"""Tests of one's own policy on devices, as far as that can be looked at where there are none.

`tests/device/test_own_policy.py` has the same on devices; here simulations stand in for them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from simmig.migration.policies import Point, Policy, Sender
from simmig.migration.policies.per_chunk import PerChunk
from simmig.verify import testing
from simmig.verify.migration import on_devices, play
from simmig.verify.migration.case import Case
from simmig.verify.testing import every_migration
from tests.verify.test_testing import Forgetful

EXAMPLE = Path(__file__).parents[2] / "examples" / "my-policy"
TEST = """
import pytest
from simmig.migration.policies.per_chunk import PerChunk
from simmig.verify.testing import every_migration

@every_migration(PerChunk, examples=1)
def test_simulated(verdict):
    pass

@every_migration(PerChunk, on="devices", examples=1)
def test_on_devices(verdict):
    pass

@pytest.mark.simmig_devices
def test_marked(check_policy):
    check_policy(PerChunk, on="devices", examples=1)

def test_unmarked(check_policy):
    check_policy(PerChunk, on="devices", examples=1)
"""
STAND_IN = """
import simmig.pytest_lab as lab
from simmig.verify.migration import on_devices, play

on_devices.devices = lambda: ("one", "two")
on_devices.carry_out = lambda case, policy, names: play.play(case, policy=policy)
command = lab.Outside._command
lab.Outside._command = lambda self, reports: (words := command(self, reports))[words.index("--") + 1 :]
"""
NO_LAB = """
import sys
import simmig.pytest_lab as lab
lab.Outside._command = lambda self, reports: [sys.executable, "-c", "print('no machine'); raise SystemExit(125)"]
"""


def says(path: Path, *options: str, conftest: str = "") -> tuple[int, str]:
    (path / "test_mine.py").write_text(TEST)
    (path / "conftest.py").write_text(conftest)
    plugin = ["-p", "simmig.pytest_plugin", "-p", "no:cacheprovider", "-rA"]
    command = [sys.executable, "-m", "pytest", *plugin, *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=path, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Devices that take a twentieth of a second for a migration; when each was."""
    times: list[float] = []

    def carry_out(case: Case, policy: Policy, names: tuple[str, str]) -> play.Played:
        times.append(time.monotonic())
        time.sleep(0.05)
        return play.play(case, policy=policy)

    monkeypatch.setattr(on_devices, "carry_out", carry_out)
    monkeypatch.setattr(on_devices, "devices", lambda: ("one", "two"))
    testing.accounts.clear()
    return times


def holds(verdict: Any) -> None:
    assert verdict.status == "completed" or verdict.reason


def test_time_for_new_migrations_is_bounded(slow: list[float]) -> None:
    every_migration(PerChunk, on="devices", examples=1000, seconds=0.5)(holds)()
    assert 1 <= len(slow) <= 11
    assert testing.accounts == [f"{len(slow)} migrations on one, two in {testing.accounts[0].split()[-2]} s"]


def test_shrinking_is_bounded_in_time_and_the_failure_still_told(slow: list[float]) -> None:
    failed: list[float] = []

    def test(verdict: Any) -> None:
        if len(verdict.events) > 40:
            failed.append(time.monotonic())
            raise AssertionError("too long")

    with pytest.raises(AssertionError, match="too long") as caught:
        every_migration(PerChunk, on="devices", examples=1000, seconds=0.5)(test)()
    assert slow[-1] - failed[0] <= 0.6
    notes = "\n".join(caught.value.__notes__)
    assert "on devices one, two:" in notes
    assert "the same migration in simulation (10 Gbit/s, 2000 ns): the test fails there, too" in notes


def test_a_broken_invariant_is_told_twice(slow: list[float]) -> None:
    with pytest.raises(AssertionError) as caught:
        every_migration(Forgetful, on="devices", examples=200, seconds=20)(holds)()
    told = str(caught.value)
    assert told.startswith("on devices one, two: ")
    assert told.count("BROKEN pending_within_promise") == 2


def test_a_function_of_two_arguments_is_a_policy() -> None:
    asked: list[Point] = []

    def drain(point: Point, sender: Sender) -> int | None:
        asked.append(point)
        return None

    every_migration(drain, examples=3, with_faults=False)(holds)()
    assert Point.BEFORE_STOP in asked


def test_on_says_what_there_is() -> None:
    with pytest.raises(ValueError, match="simulation"):
        every_migration(PerChunk, on="moon")  # type: ignore[arg-type]


@pytest.mark.skipif(Path("/sys/class/infiniband").exists(), reason="there are devices here")
def test_without_devices_it_is_skipped_with_the_reason_and_fails_where_asked_for(tmp_path: Path) -> None:
    status, told = says(tmp_path)
    assert (status, "1 passed, 3 skipped" in told) == (0, True), told
    assert "needs two RDMA devices: " in told
    status, told = says(tmp_path, "--simmig-devices", "rxe7,rxe8")
    assert (status, "3 failed, 1 passed" in told) == (1, True), told
    assert "needs two RDMA devices: there is no RDMA device rxe7" in told


@pytest.mark.parametrize("names", ["rxe0", "rxe0,rxe0", "a,b,c", ","])
def test_devices_are_two(tmp_path: Path, names: str) -> None:
    status, told = says(tmp_path, "--simmig-devices", names)
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "names of two devices" in told


@pytest.mark.parametrize("how", [[], ["-n2"]], ids=["alone", "xdist"])
def test_the_lab_s_reports_count_here(tmp_path: Path, how: list[str]) -> None:
    status, told = says(tmp_path, "--simmig-lab", *how, conftest=STAND_IN)
    assert (status, "1 failed, 3 passed" in told) == (1, True), told
    assert "mark this test @pytest.mark.simmig_devices" in told
    for name in ("test_on_devices", "test_marked"):
        assert f"simmig: test_mine.py::{name}: 1 migration on one, two in " in told
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".simmig")] == []


def test_a_lab_that_does_not_come_up_fails_the_run(tmp_path: Path) -> None:
    status, told = says(tmp_path, "--simmig-lab", "-k", "not unmarked", conftest=NO_LAB)
    assert status == 1, told
    assert "tests on devices did not run in the lab: the lab ended with status 125" in told
    assert "no machine" in told


def test_nothing_for_the_lab_boots_none(tmp_path: Path) -> None:
    status, told = says(tmp_path, "--simmig-lab", "-k", "simulated", conftest=NO_LAB)
    assert status == 0, told


def test_the_example_project_passes_in_simulation(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "simmig.pytest_plugin", "-p", "no:cacheprovider", "-rs"]
    where = ["--rootdir", str(EXAMPLE), "-k", "plain_function", "."]
    done = subprocess.run([*command, *where], capture_output=True, text=True, cwd=EXAMPLE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
