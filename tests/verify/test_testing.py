"""A user's own policy, property-tested in ten lines: the documentation's example, good policies and wrong ones."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import seed

from simmig.migration.policies import Point, Sender
from simmig.migration.policies.per_chunk import PerChunk
from simmig.verify.testing import every_migration

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "verify.md"


@dataclass
class Forgetful:
    """Promises that at most a chunk is pending, and forgets every other one."""

    promise: int = 0

    def drain(self, point: Point, sender: Sender) -> int | None:
        return 0 if point is Point.CHUNK_FULL and sender.chunks % 2 else None


@dataclass
class Crashing:
    def drain(self, point: Point, sender: Sender) -> int | None:
        return 1 // 0 if sender.chunks > 1 else None


@dataclass
class Negative:
    def drain(self, point: Point, sender: Sender) -> int | None:
        return -1 if point is Point.SLICE_END else None


def run(policy: Any, examples: int = 200) -> str:
    """What the failing test says."""

    @every_migration(policy, examples=examples, with_faults=False)
    def test(verdict: Any) -> None:
        assert verdict.events

    with pytest.raises(AssertionError) as caught:
        seed(1)(test)()
    return str(caught.value)


def test_a_broken_promise_is_found_shrunk_and_charted() -> None:
    told = run(Forgetful)
    assert "BROKEN pending_within_promise" in told
    case = next(line for line in told.splitlines() if line.startswith("  migration: "))
    assert len(case.split(", ")) <= 4, case  # nothing is in it that need not be
    chart = told[told.index("source   ") :]
    assert len(chart.splitlines()) <= 16
    assert "not completed by then" in chart


@pytest.mark.parametrize(
    ("policy", "told"), [(Crashing, "the policy raised ZeroDivisionError"), (Negative, "the policy answered -1")]
)
def test_a_policy_at_fault_is_told(policy: Any, told: str) -> None:
    assert told in run(policy)


def test_the_test_sees_every_verdict() -> None:
    seen: list[str] = []

    @every_migration(PerChunk, examples=20)
    def test_mine(verdict: Any) -> None:
        """Mine."""
        seen.append(verdict.status)

    seed(1)(test_mine)()
    assert len(seen) >= 20
    assert "completed" in seen
    assert (test_mine.__name__, test_mine.__doc__) == ("test_mine", "Mine.")


def test_what_the_test_asserts_comes_on_top() -> None:
    @every_migration(PerChunk, examples=20, with_faults=False)
    def test(verdict: Any) -> None:
        assert verdict.status != "completed"

    with pytest.raises(AssertionError, match="completed"):
        seed(1)(test)()


def pytest_says(path: Path) -> str:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "simmig.pytest_plugin",
        "-p",
        "no:cacheprovider",
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=path.parent, check=False)
    return done.stdout + done.stderr


def test_the_documentations_example_is_a_test_that_passes(tmp_path: Path) -> None:
    example = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[0]
    code = [line for line in example.splitlines() if line and not line.startswith(("import ", "from "))]
    assert len(code) <= 10
    fixture = "\n\ndef test_with_the_fixture(check_policy):\n    check_policy(EveryOther, examples=5)\n"
    path = tmp_path / "test_every_other.py"
    path.write_text(
        example.replace("@every_migration(EveryOther)", "@every_migration(EveryOther, examples=5)") + fixture
    )
    assert "2 passed" in pytest_says(path)
