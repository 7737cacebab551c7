"""The lab itself, booted. Slow under emulation, so only where it is asked for: SIMMIG_TEST_LAB=1."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    os.environ.get("SIMMIG_TEST_LAB") != "1", reason="boots virtual machines: set SIMMIG_TEST_LAB=1"
)

LAB = [sys.executable, "-m", "simmig.cli", "lab"]


def _machines_of(directory: Path) -> list[int]:
    """Processes that have the directory in their command line: the machine shares it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"qemu" in (line := entry.read_bytes()) and os.fsencode(directory) in line:
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert _machines_of(tmp_path) == []


def test_streams_status_files_and_devices(here: Path) -> None:
    script = """
        rdma link; tc qdisc show dev veth1; echo complaint >&2; read line; echo "read $line"
        echo kept > kept; echo gone > /usr/gone; ip route get 10.9.9.2; exit 42
    """
    options = ["--rate", "100 Mbit/s", "--delay", "2 ms", "--timeout", "2 min"]
    command = [*LAB, *options, "--", "bash", "-c", script]
    done = subprocess.run(command, input=b"input\n", capture_output=True, check=False)
    out = done.stdout.decode()
    assert done.returncode == 42, done.stderr.decode()
    complaints = [
        line for line in done.stderr.splitlines() if not line.startswith(b"lab: ")
    ]  # that KVM is of no use
    assert complaints == [b"complaint"]
    for part in (
        "rxe0/1 state ACTIVE",
        "rxe1/1 state ACTIVE",
        "delay 2ms rate 100Mbit",
        "read input",
        "10.9.9.2 dev veth0 table 102 src 10.9.9.1",
    ):
        assert part in out
    assert (here / "kept").read_text() == "kept\n"
    assert not Path("/usr/gone").exists()


def test_a_command_that_takes_too_long_is_killed(here: Path) -> None:
    done = subprocess.run([*LAB, "--timeout", "1 s", "sleep", "600"], capture_output=True, text=True, check=False)
    assert done.returncode == 124
    assert "still running after 1 s" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_lab(here: Path, number: signal.Signals) -> None:
    process = subprocess.Popen([*LAB, "sleep", "600"], stderr=subprocess.DEVNULL)
    for _ in range(1200):
        if _machines_of(here):
            break
        time.sleep(0.05)
    assert _machines_of(here), "the machine never started"
    process.send_signal(number)
    assert process.wait(20) == (-signal.SIGKILL if number is signal.SIGKILL else 128 + number)
    for _ in range(200):
        if not _machines_of(here):
            break
        time.sleep(0.05)
