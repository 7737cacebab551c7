"""The rate at which RAM arrived: never more than the link carries, and in the end all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simmig.experiment.reports.plots.arrivals import arrival_rate, taut_string
from simmig.trace import events as ev
from simmig.trace.metrics import Metrics
from tests.endtoend.worlds import simulate

MIB = 1 << 20


@settings(max_examples=30, deadline=None)
@given(
    policy=st.sampled_from(["final-only", "at-switch", "per-round", "per-iteration", "per-chunk"]),
    slice_length=st.sampled_from(["50 ms", "round", "unlimited"]),
    control=st.sampled_from([("rdma", "own"), ("rdma", "shared"), ("tcp", "shared")]),
    memory_mib=st.integers(8, 48),
    bandwidth_mbit_s=st.sampled_from([200, 1000, 4000]),
    busy=st.booleans(),
)
def test_ram_never_arrives_faster_than_the_link_carries_it(
    policy: str, slice_length: str, control: tuple[str, str], memory_mib: int, bandwidth_mbit_s: int, busy: bool
) -> None:
    workload: dict[str, Any] = {"kind": "idle"}
    if busy:
        workload = {"kind": "uniform", "working_set": "4 MiB", "rate": "8 MiB/s"}
    transport, control_qp = control
    result, _ = simulate(
        guest={"memory": f"{memory_mib} MiB", "workload": workload},
        link={"bandwidth": f"{bandwidth_mbit_s} Mbit/s", "latency": "2 us"},
        migration={"slice": slice_length, "control_qp": control_qp, "transport": transport, "max_rounds": 5},
        policy={"name": policy},
    )
    metrics = result.metrics
    edges, rate = arrival_rate(metrics, metrics.total_time_ns)
    assert rate.max() <= bandwidth_mbit_s * 1e6 / 8 * (1 + 1e-9)
    assert rate.min() >= 0
    assert float((rate * np.diff(edges)).sum()) / 1e9 == pytest.approx(metrics.counts.posted_bytes)


def test_what_is_seen_at_once_after_a_drain_was_on_its_way_since_it_was_posted() -> None:
    """64 MiB posted at once, seen completed a second later: 64 MiB/s, not all of them in the last moment."""
    metrics = Metrics()
    metrics(ev.MigrationBegan(0, "source", 64 * MIB, 4096, "rdma", True, "final-only", 1))
    for number in range(64):
        metrics(ev.WorkPosted(1000 + number, "source", 7, number, "write", MIB, 0, number * MIB, 1))
    metrics(ev.WorkCompleted(1 << 30, "source", 7, 63, "write"))
    edges, rate = arrival_rate(metrics, 1 << 30)
    seconds = (1 << 30) / 1e9
    inside = rate[edges[1:] <= 1 << 30]
    assert inside == pytest.approx([64 * MIB / seconds] * len(inside), rel=0.05)


corridors = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20)


@given(steps=corridors)
def test_no_curve_between_is_less_steep_than_the_taut_string(steps: list[tuple[int, int]]) -> None:
    """The least slope that fits between two points of the corridor is a bound for every curve."""
    low = np.concatenate([[0.0], np.cumsum([seen for seen, _ in steps])])
    posted = np.maximum.accumulate(low + np.array([0.0, *(pending for _, pending in steps)]))
    high = np.minimum(posted, low[-1])
    curve = taut_string(low, high)
    assert (curve >= low - 1e-9).all()
    assert (curve <= high + 1e-9).all()
    assert (np.diff(curve) >= -1e-9).all()
    least = max((low[j] - high[i]) / (j - i) for i in range(len(low)) for j in range(i + 1, len(low)))
    assert np.diff(curve).max() == pytest.approx(max(least, 0), abs=1e-9)
