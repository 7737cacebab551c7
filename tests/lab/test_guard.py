"""The guard lets nothing outlive its caller, however the caller ends and however hard a program tries."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# A program that loses its parent and its session on purpose, and says who it is.
ESCAPE = 'setsid bash -c "echo \\$\\$ > {pid}; sleep 600" & while ! test -s {pid}; do sleep 0.01; done; {then}'


def _gone(pid: int) -> bool:
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def _start(script: str) -> tuple["subprocess.Popen[bytes]", int]:
    lifeline, held = os.pipe()
    command = [sys.executable, "-m", "simmig.lab.guard", str(lifeline), "bash", "-c", script]
    process = subprocess.Popen(command, pass_fds=[lifeline])
    os.close(lifeline)
    return process, held


def _wait_for(path: Path) -> int:
    for _ in range(1000):
        if path.exists() and (text := path.read_text().strip()):
            return int(text)
        time.sleep(0.01)
    pytest.fail("the escaping program never started")


@pytest.mark.parametrize("status", [0, 7])
def test_exit_status_passes_and_nobody_stays_behind(tmp_path: Path, status: int) -> None:
    pid = tmp_path / "pid"
    process, held = _start(ESCAPE.format(pid=pid, then=f"exit {status}"))
    assert process.wait(10) == status
    os.close(held)
    assert _gone(_wait_for(pid))


def test_a_killed_program_reports_its_signal() -> None:
    process, held = _start("kill -9 $$")
    assert process.wait(10) == 128 + signal.SIGKILL
    os.close(held)


@pytest.mark.parametrize("how", ["lifeline", "term"])
def test_the_end_of_the_caller_ends_everything(tmp_path: Path, how: str) -> None:
    pid = tmp_path / "pid"
    process, held = _start(ESCAPE.format(pid=pid, then="sleep 600"))
    escaped = _wait_for(pid)
    if how == "lifeline":
        os.close(held)
    else:
        process.terminate()
    assert process.wait(10) == 128 + signal.SIGKILL
    assert _gone(escaped)
    if how == "term":
        os.close(held)


def test_an_interrupt_of_the_terminal_is_the_callers_to_judge(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    process, held = _start(ESCAPE.format(pid=pid, then="exit 3"))
    _wait_for(pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 3
    os.close(held)
