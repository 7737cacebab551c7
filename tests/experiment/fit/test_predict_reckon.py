"""Pre-copy reckoned, beside pre-copy simulated page by page on the same link."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simmig.experiment.fit.predict_reckon import can_reckon, reckon
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.load import build_scenario
from simmig.experiment.scenario.schema import Scenario

MIB = 1 << 20


def scenario(memory_mib: int, bandwidth_mib_s: float, workload: dict[str, Any], **migration: Any) -> Scenario:
    tables: dict[str, Any] = {
        "guest": {"memory": f"{memory_mib} MiB", "device_state": "128 KiB", "workload": workload},
        "link": {"bandwidth": f"{round(8 * MIB * bandwidth_mib_s)} bit/s", "latency": "1 us"},
        "host": {"connect": "20 ms"},
        "migration": {"transport": "tcp", "max_rounds": 30, **migration},
        "policy": {"name": "pending-limit", "limit": "512 KiB"},
    }
    return build_scenario(tables, Path("test.toml"))


def uniform(working_set_mib: int, rate_mib_s: float) -> dict[str, Any]:
    return {"kind": "uniform", "working_set": f"{working_set_mib} MiB", "rate": f"{rate_mib_s} MiB/s"}


def test_an_idle_guest_takes_its_memory_over_the_bandwidth() -> None:
    found = reckon(scenario(4096, 128, {"kind": "idle"}, downtime_limit="1 us"))
    assert found.good
    assert found.total_time_ns == pytest.approx(1e9 * (0.02 + (4096 + 1 / 8) / 128), rel=1e-6)
    assert found.posted_bytes == pytest.approx(4096 * MIB)


def test_the_rate_limit_holds_until_the_stop_and_may_be_raised() -> None:
    kept = reckon(scenario(1024, 128, {"kind": "idle"}, max_bandwidth="64 MiB/s", downtime_limit="1 us"))
    assert kept.total_time_ns == pytest.approx(1e9 * (0.02 + 1024 / 64), rel=1e-3)
    change = [{"at": "8020 ms", "max_bandwidth": "unlimited"}]
    raised = reckon(
        scenario(1024, 128, {"kind": "idle"}, max_bandwidth="64 MiB/s", downtime_limit="1 us", change=change)
    )
    assert raised.total_time_ns == pytest.approx(1e9 * (0.02 + 8 + 512 / 128), rel=0.01)


def test_what_is_dirtied_faster_than_it_is_sent_does_not_converge() -> None:
    found = reckon(scenario(1024, 64, uniform(512, 256), max_rounds=8))
    assert (found.status, found.rounds) == ("not-converging", 9)
    ended = reckon(scenario(1024, 64, uniform(512, 256), stop_when_flat=True))
    assert (ended.status, ended.rounds) == ("not-converging", 7)
    assert ended.reason.startswith("rounds did not shrink from round 4 on: after 6 rounds 501 MiB")
    change = [{"round": 4, "downtime_limit": "30 s"}]
    assert reckon(scenario(1024, 64, uniform(512, 256), max_rounds=8, change=change)).good


@pytest.mark.parametrize(
    ("memory_mib", "bandwidth_mib_s", "workload"),
    [
        (96, 32, {"kind": "idle"}),
        (96, 24, uniform(32, 6)),
        (96, 24, uniform(64, 12)),
        (64, 24, {"kind": "sweep", "working_set": "16 MiB", "rate": "8 MiB/s"}),
    ],
)
def test_it_comes_near_what_is_simulated(
    memory_mib: int, bandwidth_mib_s: float, workload: dict[str, Any]
) -> None:
    """A slice is 50 ms; where it ends decides what is left for the stop."""
    over_tcp = scenario(memory_mib, bandwidth_mib_s, workload)
    over_rdma = scenario(memory_mib, bandwidth_mib_s, workload, transport="rdma", pin_all=True)
    assert can_reckon(over_tcp)
    assert not can_reckon(over_rdma)
    found, simulated = reckon(over_tcp), run(over_rdma, traced=False).metrics
    assert found.total_time_ns == pytest.approx(simulated.total_time_ns, rel=0.06)
    assert found.downtime_ns == pytest.approx(simulated.downtime_ns, abs=60_000_000)
