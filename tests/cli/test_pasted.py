"""Every command that simmig prints does what it says when it is pasted into a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.experiment.studies.sweep.small import write

PROGRAM = """import sys
from simmig.cli.main import main
if __name__ == "__main__":
    sys.exit(main())
"""
STUBBORN = """from simmig.migration.policies import Point


class Stubborn:
    def drain(self, point, sender):
        return "never" if point is Point.BEFORE_STOP and sender.posted_bytes else None
"""


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with a space in its name, and `simmig` on the path."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    program = bin_dir / "simmig"
    program.write_text(f"#!{sys.executable}\n{PROGRAM}")
    program.chmod(0o755)
    here = tmp_path / "my runs"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", f"{bin_dir}{os.pathsep}{os.environ['PATH']}")
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])))


def typed(line: str, status: int = 0) -> str:
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout


@pytest.mark.usefixtures("shell")
def test_advice_is_a_command_on_one_line_however_long() -> None:
    write(Path(), "")
    place = Path("a place with a name so long that no terminal is wide enough " * 2)
    place.mkdir()
    Path("small.toml").rename(place / "it is [bold] small.toml")
    options = "--trials 8 --seeds 2 --jobs 1 --freedoms --set link.latency='7 us' --policies pending-limit"
    told = typed(f"simmig advise '{place}/it is [bold] small.toml' --downtime '25 ms' {options}")
    (command,) = (line for line in told.splitlines() if line.startswith("  simmig run"))
    assert len(command) > 160
    figures = json.loads(typed(f"{command} --json"))
    assert figures["policy"] == "pending-limit"
    assert figures["downtime_ns"] <= 25_000_000


@pytest.mark.usefixtures("shell")
def test_a_counterexample_is_found_again_by_the_command_that_says_so() -> None:
    Path("my policy.py").write_text(STUBBORN)
    told = typed(
        "simmig verify --policy 'my policy.py:Stubborn' --seeds 4 --seed 11 --jobs 1 --out 'the worst'", 1
    )
    (again,) = (line.removeprefix("again: ") for line in told.splitlines() if line.startswith("again: "))
    (replay,) = (line.split("replay: ")[1] for line in told.splitlines() if line.strip().startswith("replay: "))
    assert "FAILED" in typed(again, 1)
    assert len(list(Path("the worst").glob("*.json"))) == 2
    assert "reproduced: the same trace" in typed(replay, 1)
