"""Whatever the policy, the guest, the link and the freedoms used: identical memory, or the source goes on."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from simmig.migration import policies
from tests.endtoend.worlds import simulate

MIB = 1 << 20

working_sets = st.integers(1, 1000).map(lambda pages: f"{pages * 4} KiB")
rates = st.sampled_from(["1 MiB/s", "100 MiB/s", "2 GiB/s"])
workloads = st.one_of(
    st.just({"kind": "idle"}),
    st.fixed_dictionaries({"kind": st.just("uniform"), "working_set": working_sets, "rate": rates}),
    st.fixed_dictionaries({"kind": st.just("sweep"), "working_set": working_sets, "rate": rates}),
    st.fixed_dictionaries(
        {
            "kind": st.just("hotspot"),
            "working_set": st.just("3 MiB"),
            "hot_set": st.sampled_from(["4 KiB", "1 MiB"]),
            "hot_fraction": st.floats(0, 1),
            "rate": rates,
        }
    ),
)
guests = st.fixed_dictionaries(
    {
        "block": st.lists(st.integers(1, 900), max_size=3).map(
            lambda sizes: [{"name": f"b{i}", "size": f"{pages * 4} KiB"} for i, pages in enumerate([1024, *sizes])]
        ),
        "workload": workloads,
        "zero_fraction": st.sampled_from([0.0, 0.1, 0.6, 1.0]),
        "ballooned": st.sampled_from(["0 KiB", "64 KiB"]),
        "device_state": st.sampled_from(["1 KiB", "100 KiB"]),
    }
)
policy_tables = st.sampled_from(sorted(policies.builtin())).map(
    lambda name: (
        {"name": name}
        | (
            {"limit": "2 MiB"}
            if name == "pending-limit"
            else {"interval": "2 MiB"}
            if name == "every-bytes"
            else {}
        )
    )
)
migrations = st.fixed_dictionaries(
    {
        "transport": st.sampled_from(["rdma", "rdma", "rdma", "tcp"]),
        "pin_all": st.booleans(),
        "slice": st.sampled_from(["50 ms", "1 ms", "round", "unlimited"]),
        "registration_batch": st.sampled_from([1, 3, 4096]),
        "control_wait": st.sampled_from(["completion", "deferred"]),
        "control_qp": st.sampled_from(["shared", "own"]),
        "max_rounds": st.integers(1, 6),
        "downtime_limit": st.sampled_from(["1 ms", "30 ms", "300 ms"]),
        "max_bandwidth": st.sampled_from(["unlimited", "100 MiB/s"]),
    }
)
links = st.fixed_dictionaries(
    {
        "bandwidth": st.sampled_from(["1 Gbit/s", "40 Gbit/s"]),
        "latency": st.sampled_from(["0 us", "2 us", "1 ms"]),
        "loss": st.sampled_from([0.0, 0.0, 0.001, 0.02]),
        "mtu": st.sampled_from(["1024 B", "4096 B"]),
    }
)
hosts = st.sampled_from(
    [
        {},
        {
            "post": "300 ns",
            "poll": "100 ns",
            "wake": "3 us",
            "scan_page": "50 ns",
            "register_page": "200 ns",
            "register": "20 us",
        },
    ]
)
worlds = st.fixed_dictionaries(
    {
        "guest": guests,
        "policy": policy_tables,
        "migration": migrations,
        "link": links,
        "host": hosts,
        "device": st.sampled_from(["ideal", "rxe", "mlx5"]).map(lambda profile: {"profile": profile}),
        "seed": st.integers(0, 2**32),
    }
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds)
def test_every_run_ends_with_identical_memory_or_the_source_running(world: dict[str, Any]) -> None:
    result, _ = simulate(**world)
    note(f"{result.status}: {result.reason}")
    assert all(result.invariants.values()), result.invariants
    assert (result.source_running, result.destination_running) == (
        (False, True) if result.status == "completed" else (True, False)
    )
    if result.status == "completed":
        assert result.figures()["memory_identical"]
    else:
        assert result.status == "not-converging" or world["link"]["loss"], result.reason
