"""The migration, on real devices: every policy, every transport, real memory, the invariants of the simulation."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from simmig.experiment.result import Result
from simmig.experiment.runs.run_rdma import run_rdma
from simmig.experiment.scenario.load import Overrides, load_scenario
from simmig.experiment.scenario.machine import Devices
from simmig.trace.events import AnyEvent, PagesSaved
from simmig.trace.readers import Reader
from simmig.verbs.rdma.binding import Binding
from tests.device.conftest import DESTINATION, SOURCE

SCENARIO = """# A guest small enough to be migrated under emulation.
seed = 1
[guest]
memory = "6 MiB"
device_state = "64 KiB"
zero_fraction = 0.2
workload = { kind = "sweep", working_set = "1 MiB", rate = "512 KiB/s" }
[link]
bandwidth = "100 Mbit/s"
latency = "10 us"
[migration]
pin_all = true
downtime_limit = "1 s"
max_rounds = 20
[policy]
name = "per-iteration"
"""
POLICIES = [
    "final-only",
    "per-iteration",
    "per-round",
    "per-chunk",
    "pending-limit,limit=1 MiB",
    "every-bytes,interval=2 MiB",
    "at-switch",
    "downtime-budget",
]
WAYS = {
    "dynamic": ["migration.pin_all=false"],
    "batch": ["migration.pin_all=false", "migration.registration_batch=8"],
    "own": ["migration.control_qp=own"],
    "deferred": ["migration.control_wait=deferred", "migration.slice=unlimited"],
    "tcp": ["migration.transport=tcp"],
    "uniform": ["guest.workload.kind=uniform", "guest.workload.rate=64 KiB/s"],
}

pytestmark = pytest.mark.usefixtures("verbs")


def migrate(
    path: Path, settings: list[str] | None = None, policy: str | None = None, live: Sequence[Reader] = ()
) -> Result:
    file = path / "scenario.toml"
    file.write_text(SCENARIO)
    scenario = load_scenario(file, Overrides(tuple(settings or ()), policy, None))
    return run_rdma(scenario, Devices(SOURCE, DESTINATION), live)


def check_completed(result: Result) -> None:
    figures = result.figures()
    assert result.status == "completed", result.reason
    assert figures["memory_identical"]
    assert [name for name, held in result.invariants.items() if not held] == []
    assert (result.source_running, result.destination_running) == (False, True)
    assert 0 < figures["downtime_ns"] < figures["total_time_ns"]
    assert figures["bytes_on_wire"] > figures["bytes_posted"]


@pytest.mark.parametrize("policy", POLICIES)
def test_policy(tmp_path: Path, policy: str) -> None:
    check_completed(migrate(tmp_path, policy=policy))


@pytest.mark.parametrize("way", WAYS)
def test_way(tmp_path: Path, way: str) -> None:
    check_completed(migrate(tmp_path, WAYS[way], "final-only"))


@pytest.mark.parametrize("transport", ["rdma", "tcp"])
def test_max_bandwidth_is_kept(tmp_path: Path, transport: str) -> None:
    limit = ["migration.max_bandwidth=2 MiB/s", "migration.downtime_limit=100 ms", "guest.workload.rate=64 KiB/s"]
    result = migrate(tmp_path, [*limit, f"migration.transport={transport}"])
    check_completed(result)
    assert "rate_limit_kept" in result.invariants
    # 6 MiB, 0.2 MiB or so of them in the 100 ms of the stop: more than two seconds, however fast the link.
    figures = result.figures()
    assert figures["total_time_ns"] - figures["downtime_ns"] - figures["setup_time_ns"] > 2_000_000_000


@pytest.mark.parametrize("transport", ["rdma", "tcp"])
def test_an_interrupt_cancels_and_the_source_goes_on(tmp_path: Path, transport: str) -> None:
    endless = ["guest.workload.rate=4 MiB/s", "migration.downtime_limit=1 us", "migration.max_rounds=1000000"]

    interrupted: list[AnyEvent] = []

    def interrupt(event: AnyEvent) -> None:
        if isinstance(event, PagesSaved) and not interrupted:
            interrupted.append(event)
            os.kill(os.getpid(), signal.SIGINT)

    result = migrate(tmp_path, [*endless, f"migration.transport={transport}"], live=[interrupt])
    assert result.status == "cancelled", result.reason
    assert (result.source_running, result.destination_running) == (True, False)


def test_nothing_leaks(tmp_path: Path, verbs: Binding) -> None:
    migrate(tmp_path)
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        check_completed(migrate(tmp_path))
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
