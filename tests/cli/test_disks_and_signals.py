"""Full disks, limits, closed outputs, signals: one line that names the file, nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from simmig.cli.main import main
from simmig.experiment.errors import InputError
from simmig.experiment.output import OutputDir
from simmig.verify import report
from simmig.whole_file import write_new
from tests.cli.test_errors import MINIMAL, refused

COMMAND = [sys.executable, "-m", "simmig.cli"]
LONG = MINIMAL.replace("8 MiB", "2 GiB")
"""Some minutes of work, traced."""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(MINIMAL)
    return path


def left(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def limited(what: int, to: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(what, (to, to))


@pytest.mark.parametrize("option", ["--out", "--report"])
def test_a_disk_that_is_full(scenario: Path, option: str) -> None:
    place = scenario.parent / "results"
    command = [*COMMAND, "run", str(scenario), option, str(place)]
    limit = limited(resource.RLIMIT_FSIZE, 4096)
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"simmig: {option} {place}: cannot be written: File too large\n"
    assert left(scenario.parent) == ["scenario.toml"]
    assert ("total" in done.stdout) == (option == "--report")  # which comes last: the figures are not lost


def test_a_sweep_on_a_full_disk_goes_on_later(scenario: Path) -> None:
    sweep = scenario.parent / "sweep.toml"
    sweep.write_text('scenario = "scenario.toml"\n[axes]\nseed = { from = 1, to = 40 }\n')
    command = [*COMMAND, "sweep", str(sweep), "--out", str(scenario.parent / "out"), "--jobs", "1", "--json"]
    limit = limited(resource.RLIMIT_FSIZE, 6000)
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    assert "cannot be written: " in done.stderr
    assert "what is done is kept, and the same command goes on there" in done.stderr
    assert not list((scenario.parent / "out").rglob("*.unfinished"))
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["points"] == 40


def test_few_files_may_be_open(scenario: Path) -> None:
    code = (
        "import resource, sys\nfrom simmig.cli.main import main\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\nsys.exit(main(['run', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(scenario)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("simmig: ")
    assert done.stderr.endswith(": Too many open files\n")
    assert done.stderr.count("\n") == 1


def test_standard_output_that_takes_nothing(scenario: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "run", str(scenario)], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "simmig: standard output: No space left on device\n"


def test_standard_output_that_is_closed(scenario: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "run", str(scenario)],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=lambda: os.close(1),
    )
    assert done.returncode == 2
    assert done.stderr.startswith("simmig: standard output is closed")
    quiet = subprocess.run(
        [*COMMAND, "run", str(scenario)], stdout=subprocess.PIPE, check=False, preexec_fn=lambda: os.close(2)
    )
    assert quiet.returncode == 0
    assert b"total" in quiet.stdout


@pytest.mark.parametrize("command", ["calibrate", "run", "verify"])
def test_a_place_that_cannot_be_is_told_at_once(
    capsys: pytest.CaptureFixture[str], scenario: Path, command: str
) -> None:
    below = scenario / "out"
    arguments = {
        "calibrate": ["--out", scenario],
        "run": [scenario, "--report", below],
        "verify": ["--seeds", 10**6, "--out", below],
    }[command]
    message = refused(capsys, command, *arguments)
    assert str(scenario) in message
    assert left(scenario.parent) == ["scenario.toml"]


def test_a_counterexample_is_told_though_it_cannot_be_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "write_new", full)
    policy = tmp_path / "liar.py"
    policy.write_text("class Liar:\n    promise = 4096\n    def drain(self, point, sender): return None\n")
    arguments = ["verify", "--seeds", "200", "--seed", "1", "--jobs", "1", "--policy", f"{policy}:Liar"]
    status = main([*arguments, "--out", str(tmp_path / "found")])
    printed = capsys.readouterr().out
    assert status == 1
    assert "BROKEN: " in printed
    assert "NOT written to" in printed
    assert left(tmp_path / "found") == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("ignoring", [False, True])
def test_a_signal_ends_it_tidily(tmp_path: Path, number: signal.Signals, status: int, ignoring: bool) -> None:
    if ignoring and number == signal.SIGINT:
        pytest.skip("it is ignored")
    (tmp_path / "scenario.toml").write_text(LONG)

    def begin() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN if ignoring else signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    process = subprocess.Popen(
        [*COMMAND, "run", str(tmp_path / "scenario.toml"), "--out", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=begin,  # noqa: PLW1509
    )
    wait_for(lambda: any((tmp_path / ".out.simmig-unfinished").glob("trace*")))
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert "interrupted, nothing was written" in said
    assert "Traceback" not in said
    assert left(tmp_path) == ["scenario.toml"]


@pytest.mark.parametrize("jobs", [["--jobs", "1"], []])
def test_verify_that_is_interrupted_says_no_more_than_that(jobs: list[str]) -> None:
    """Wherever it is: a simulation that is cut short has coroutines that can no longer wait for anything."""
    process = subprocess.Popen(
        [*COMMAND, "verify", "--seeds", "1000000", *jobs],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        start_new_session=True,
    )
    assert process.stdout is not None
    assert "seeds from" in process.stdout.readline()
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said.strip() == "simmig: interrupted, nothing was written"


def test_what_a_kill_left_is_removed_by_the_next_run(scenario: Path) -> None:
    out = scenario.parent / "out"
    long = scenario.parent / "long.toml"
    long.write_text(LONG)
    work = scenario.parent / ".out.simmig-unfinished"
    process = subprocess.Popen([*COMMAND, "run", str(long), "--out", str(out)])
    wait_for(lambda: any(work.glob("trace*")))
    with pytest.raises(InputError, match="another run is writing there"), OutputDir(out):
        pass
    process.kill()
    process.wait()
    assert work.is_dir()
    assert main(["run", str(scenario), "--out", str(out), "--json"]) == 0
    assert not work.exists()
    assert "summary.txt" in left(out)


def test_who_comes_last_into_a_place_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with OutputDir(out) as one:
        (one.work / "mine").touch()
        out.mkdir()
        (out / "theirs").touch()
        with pytest.raises(InputError, match=r"was taken meanwhile; the results are in .*out-2"):
            one.keep()
    assert left(tmp_path) == ["out", "out-2"]
    assert left(tmp_path / "out-2") == ["mine"]


def test_a_directory_that_is_there_stays_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with OutputDir(Path(".")) as directory:
        (directory.work / "mine").touch()
        directory.keep()
    assert left(Path(".")) == ["mine"]


def test_parents_that_were_made_for_nothing_go_again(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), OutputDir(tmp_path / "a" / "b" / "c"):
        _ = 1 // 0
    assert left(tmp_path) == []


def test_a_new_file_is_whole_and_never_over_another(tmp_path: Path) -> None:
    write_new(tmp_path / "file", "text")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "file", b"other")
    assert (tmp_path / "file").read_text() == "text"
    assert left(tmp_path) == ["file"]


def wait_for(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.02)
