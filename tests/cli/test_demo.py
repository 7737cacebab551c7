"""simmig demo, on a guest small enough for a test."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simmig.cli.main import main
from simmig.experiment.scenario import data
from simmig.experiment.studies.demo import WIRES, compare, good, runs
from tests.interrupts import heeding

SCENARIO = """# A small guest.
[guest]
memory = "32 MiB"
zero_fraction = 0.1
workload = { kind = "sweep", working_set = "8 MiB", rate = "20 MiB/s" }
[link]
bandwidth = "10 Gbit/s"
latency = "2 us"
[host]
register_page = "650 ns"
post = "500 ns"
[migration]
downtime_limit = "2 ms"
"""


@pytest.fixture
def scenarios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Has the demo's scenario in place of the real one."""
    path = tmp_path / "scenarios"
    path.mkdir()
    (path / "quickstart.toml").write_text(SCENARIO)
    monkeypatch.setattr(data, "data_dir", lambda name: tmp_path / name)
    return path


def test_every_policy_runs_on_both_wires_in_order(scenarios: Path, tmp_path: Path) -> None:
    rows = list(compare(scenarios / "quickstart.toml", tmp_path / "timeline.png"))
    assert [(row.wire, row.policy) for row in rows] == runs()
    assert all(good(row) for row in rows)
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")
    as_it_is, freed = ([row.figures for row in rows if row.wire == wire] for wire in WIRES)
    assert {figures["pending_bytes_at_stop"] for figures in as_it_is} == {0}
    assert max(figures["pending_bytes_at_stop"] for figures in freed) > 0


def test_the_demo_leaves_table_and_pictures_and_tells_what_next(
    scenarios: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["demo", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert sorted(path.name for path in out.iterdir()) == [
        "comparison.csv",
        "comparison.txt",
        "timeline.png",
        "tradeoff.png",
    ]
    assert (out / "comparison.txt").read_text() in printed.out
    assert len((out / "comparison.csv").read_text().splitlines()) == 1 + 16
    for words in (str(out / "tradeoff.png"), "per-iteration", "QEMU's wire", " run ", "--out"):
        assert words in printed.out
    assert main(["demo", "--out", str(out)]) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_the_demo_asks_for_matplotlib(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert main(["demo"]) == 2
    assert "pip install 'simmig[plot]'" in capsys.readouterr().err


def test_an_interrupt_ends_the_demo_cleanly(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command_line = [sys.executable, "-m", "simmig.cli", "demo", "--out", str(out)]
    process = subprocess.Popen(
        command_line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heeding,  # noqa: PLW1509
    )
    while process.poll() is None and not list(tmp_path.glob(".out.*")):
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
    printed, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert (printed, error.strip()) == ("", "simmig: interrupted, nothing was written")
    assert list(tmp_path.iterdir()) == []
