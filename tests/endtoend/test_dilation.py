"""Idle runs scale: with every time and inverse rate ten times as long, so is everything, the window included.

QEMU's window of 100 ms is the one length that a scenario does not set and that an idle run feels: an estimate ends
it, sends what the stream holds back, and may stop the guest. Left as it is, runs of another length see more or
fewer of its ends, and come out up to some per cent apart.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simmig.experiment.runs.run import Simulation
from simmig.migration import convergence, rate_limit
from simmig.migration.config import WINDOW_NS
from simmig.trace.metrics import Metrics
from tests.endtoend.worlds import scenario

FACTOR = 10
COSTS = {
    "post": 300,
    "poll": 100,
    "wake": 3000,
    "message": 500,
    "scan_page": 50,
    "write": 2000,
    "register": 20_000,
}

cases = st.fixed_dictionaries(
    {
        "memory_mib": st.sampled_from([1, 4, 16]),
        "zero_fraction": st.sampled_from([0, 0.3]),
        "bandwidth_bit_s": st.sampled_from([10**8, 10**9, 10**10, 4 * 10**10]),
        "latency_ns": st.sampled_from([0, 2_000, 50_000, 1_000_000]),
        "costs": st.sampled_from([{}, COSTS]),
        "profile": st.sampled_from(["ideal", "rxe", "mlx5"]),
        "downtime_limit_ns": st.sampled_from([5_000_000, 300_000_000]),
        "slice": st.sampled_from(["round", "unlimited", 50_000_000, 1_000_000]),
        "policy": st.sampled_from(["per-iteration", "per-chunk", "per-round", "final-only", "downtime-budget"]),
        "migration": st.fixed_dictionaries(
            {
                "pin_all": st.booleans(),
                "control_wait": st.sampled_from(["completion", "deferred"]),
                "control_qp": st.sampled_from(["shared", "own"]),
                "transport": st.sampled_from(["rdma", "rdma", "tcp"]),
            }
        ),
    }
)


def times(case: dict[str, Any], factor: int) -> tuple[float, float]:
    """Total time and downtime, divided by the factor that everything was multiplied with."""
    slice_length = case["slice"] if isinstance(case["slice"], str) else f"{case['slice'] * factor} ns"
    limit = f"{case['downtime_limit_ns'] * factor} ns"
    metrics = Metrics()
    what = scenario(
        guest={"memory": f"{case['memory_mib']} MiB", "zero_fraction": case["zero_fraction"]},
        link={
            "bandwidth": f"{case['bandwidth_bit_s'] // factor} bit/s",
            "latency": f"{case['latency_ns'] * factor} ns",
        },
        host={name: f"{cost * factor} ns" for name, cost in case["costs"].items()},
        device={"profile": case["profile"]},
        migration={**case["migration"], "slice": slice_length, "downtime_limit": limit},
        policy={"name": case["policy"]},
    )
    with pytest.MonkeyPatch.context() as patch:
        for module in (convergence, rate_limit):
            patch.setattr(module, "WINDOW_NS", WINDOW_NS * factor)
        Simulation(what, metrics).run()
    return metrics.total_time_ns / factor, metrics.downtime_ns / factor


@settings(max_examples=40, deadline=None)
@given(case=cases)
def test_idle_runs_scale_with_their_window(case: dict[str, Any]) -> None:
    assert times(case, FACTOR) == pytest.approx(times(case, 1), rel=1e-3, abs=2_000)
