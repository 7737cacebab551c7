"""`simmig send` and `simmig receive`: two processes, and what each says of every way a migration can end."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from simmig.cli.main import main
from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import Binding, load
from simmig.verbs.rdma.endpoint import RdmaDialer
from simmig.verbs.rdma.runtime import RdmaRuntime
from tests.device.conftest import DESTINATION, PATIENCE_S, PORT, SOURCE
from tests.device.test_connection import Queue

SCENARIO = """# An idle guest, in one slice: everything that is compared is settled beforehand.
[guest]
memory = "6 MiB"
device_state = "64 KiB"
zero_fraction = 0.2
[link]
bandwidth = "100 Mbit/s"
latency = "10 us"
[migration]
slice = "unlimited"
downtime_limit = "1 s"
[policy]
name = "per-chunk"
"""
ENDLESS = [
    "guest.workload={ kind = 'sweep', working_set = '1 MiB', rate = '8 MiB/s' }",
    "migration.downtime_limit=1 us",
    "migration.max_rounds=1000000",
    "migration.slice=50 ms",
    "migration.pin_all=true",
]
COUNTED = [
    "status",
    "bytes_posted",
    "pages_written",
    "zero_pages",
    "rounds",
    "slices",
    "memory_identical",
    "invariants",
]
"""Not the drains: one begins only where something is pending; whether a write has completed by then is chance."""

pytestmark = pytest.mark.usefixtures("verbs")


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO)
    return path


class End:
    """One end's process: the command in a child that has nothing to import any more."""

    def __init__(self, directory: Path, *arguments: object) -> None:
        self._said = directory / f"{arguments[0]}.said"
        self.complaints = directory / f"{arguments[0]}.complaints"
        self.complaints.touch()
        self.pid = os.fork()
        self.status: int | None = None
        if self.pid == 0:
            status = 99
            try:
                os.dup2(os.open(self._said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 1)
                os.dup2(os.open(self.complaints, os.O_WRONLY), 2)
                sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
                status = main([*map(str, arguments), "--json"])
            finally:
                os._exit(status)

    def ended(self) -> tuple[int, dict[str, Any]]:
        """Its exit status, and the one object that is all it printed."""
        deadline = time.monotonic() + PATIENCE_S
        while self.running():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert self.status is not None
        return self.status, json.loads(self._said.read_text())

    def running(self) -> bool:
        """Whether it still does."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is None

    def signal(self, number: signal.Signals) -> None:
        """Send it one."""
        if self.running():
            os.kill(self.pid, number)

    def end(self) -> None:
        """Make an end of it."""
        self.signal(signal.SIGKILL)
        while self.running():
            time.sleep(0.02)


def _settings(settings: list[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


@pytest.fixture
def address(verbs: Binding) -> str:
    return f"{device.address(verbs, DESTINATION).ip}:{PORT}"


def _ip(name: str) -> str:
    return device.address(load(), name).ip


@contextmanager
def _receiver(scenario: Path, *arguments: object) -> Iterator[End]:
    """A destination that listens."""
    end = End(scenario.parent, "receive", scenario, "--device", DESTINATION, *arguments)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while f"waiting for a source on {_ip(DESTINATION)}:{PORT}\n" not in end.complaints.read_text():
            assert end.running(), end.complaints.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield end
    finally:
        end.end()


def _sender(scenario: Path, address: str, *arguments: object) -> End:
    return End(scenario.parent, "send", scenario, "--device", SOURCE, "--to", address, *arguments)


@pytest.mark.parametrize("transport", ["rdma", "tcp"])
def test_two_processes_do_what_one_does(
    scenario: Path, address: str, capsys: pytest.CaptureFixture[str], transport: str
) -> None:
    way = ["--set", f"migration.transport={transport}"]
    assert main(["run", str(scenario), "--backend", "rdma", "--json", *way]) == 0
    alone = json.loads(capsys.readouterr().out)
    there, here = scenario.parent / "there", scenario.parent / "here"
    with _receiver(scenario, *way, "--out", there) as receiver:
        status, sent = _sender(scenario, address, *way, "--out", here).ended()
        assert (status, sent["reason"]) == (0, "")
        status, received = receiver.ended()
        assert (status, received["reason"]) == (0, "")
    assert {name: sent[name] for name in COUNTED} == {name: alone[name] for name in COUNTED}
    assert sent["memory_identical"] is True
    assert (sent["source_running"], sent["destination_running"]) == (False, True)
    assert sent["peer"] == {"status": "completed", "reason": "", "clock_uncertainty_ns": 0}
    assert 0 < sent["downtime_ns"] < sent["total_time_ns"]
    assert received | {"side": "source"} == sent  # both have the whole of it, trace_sha256 and all
    assert (there / "timeline.json").read_bytes() == (here / "timeline.json").read_bytes()


def test_nobody_listens(scenario: Path, address: str) -> None:
    status, sent = _sender(scenario, address).ended()
    assert status == 1
    assert sent["status"] == "failed"
    assert "refused" in sent["reason"]
    assert sent["source_running"] is True
    assert sent["peer"] is None
    assert sent["memory_identical"] is None


def test_guests_of_different_size(scenario: Path, address: str) -> None:
    with _receiver(scenario, "--set", "guest.memory=8 MiB") as receiver:
        status, sent = _sender(scenario, address).ended()
        assert (status, sent["status"], sent["source_running"]) == (1, "failed", True)
        assert "has 6291456 bytes there and 8388608 here" in sent["peer"]["reason"]
        status, received = receiver.ended()
        assert (status, received["destination_running"]) == (1, False)


def test_the_destination_dies(scenario: Path, address: str) -> None:
    with _receiver(scenario, *_settings(ENDLESS)) as receiver:
        sender = _sender(scenario, address, *_settings(ENDLESS))
        _wait_for_registration(receiver.pid)
        receiver.end()
        status, sent = sender.ended()
    assert (status, sent["status"], sent["source_running"]) == (1, "failed", True)
    assert sent["reason"]
    assert (sent["peer"], sent["destination_running"]) == (None, None)
    assert "cannot be asked" in sent["peer_silence"]


def test_the_source_dies(scenario: Path, address: str) -> None:
    with _receiver(scenario, *_settings(ENDLESS)) as receiver:
        sender = _sender(scenario, address, *_settings(ENDLESS))
        _wait_for_registration(receiver.pid)
        sender.end()
        status, received = receiver.ended()
    assert (status, received["status"], received["destination_running"]) == (1, "failed", False)
    assert received["reason"]
    assert (received["peer"], received["total_time_ns"], received["source_running"]) == (None, None, None)


def test_an_interrupt_cancels_and_the_source_goes_on(scenario: Path, address: str) -> None:
    with _receiver(scenario, *_settings(ENDLESS)) as receiver:
        sender = _sender(scenario, address, *_settings(ENDLESS))
        _wait_for_registration(receiver.pid)
        sender.signal(signal.SIGINT)
        status, sent = sender.ended()
        assert (status, sent["status"], sent["source_running"]) == (1, "cancelled", True)
        assert sent["peer"]["status"] == "failed"
        status, received = receiver.ended()
        assert (status, received["status"], received["destination_running"]) == (1, "cancelled", False)


def test_an_interrupt_ends_the_wait_for_a_source(scenario: Path) -> None:
    with _receiver(scenario) as receiver:
        receiver.signal(signal.SIGINT)
        status, received = receiver.ended()
    assert (status, received["status"]) == (1, "cancelled")
    assert received["peer_silence"] == "no source came"


def test_a_source_of_another_version(scenario: Path, verbs: Binding) -> None:
    async def dial() -> None:
        dialer = RdmaDialer(verbs, RdmaRuntime(), device.address(verbs, DESTINATION).ip, PORT, SOURCE)
        connection = await dialer.dial(10_000_000_000)
        queue = Queue(verbs, connection)
        with pytest.raises(ConnectionRefusedError):
            await connection.connect(queue.qp, bytes([0, 0, 0, 9, 0, 0, 0, 0]), 10_000_000_000)
        queue.close()
        dialer.close()

    with _receiver(scenario) as receiver:
        asyncio.run(asyncio.wait_for(dial(), PATIENCE_S))
        status, received = receiver.ended()
    assert (status, received["status"]) == (1, "failed")
    assert "speaks version 9 of the protocol, this is version 1" in received["reason"]


def _wait_for_registration(pid: int) -> None:
    """Until the process has all its memory registered: the migration is under way."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/status").read_text()
        pinned = next(line for line in status.splitlines() if line.startswith("VmPin:"))
        if int(pinned.split()[1]) >= 6 << 10:
            return
        time.sleep(0.05)
    pytest.fail("no memory was registered")
