"""Random scenarios within what a leap knows, as tables that `tests.endtoend.worlds.scenario` takes."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from simmig.migration import policies

working_sets = st.integers(1, 1000).map(lambda pages: f"{pages * 4} KiB")
rows = st.tuples(st.integers(0, 5_000_000), st.integers(0, 900), st.integers(0, 100))


def recording(steps: list[tuple[int, int, int]]) -> dict[str, str]:
    """A recorded workload: rows of (nanoseconds since the row before, first page, pages)."""
    now_ns, lines = 1, ["time_ns,first_page,pages"]
    for number, (step_ns, first_page, count) in enumerate(steps, 1):
        now_ns += step_ns if number < len(steps) else max(step_ns, 50_000)  # the last repeats: at 8 GB/s at most
        lines.append(f"{now_ns},{first_page},{count}")
    text = "\n".join([*lines, ""])
    path = Path(tempfile.gettempdir()) / f"simmig-{zlib.crc32(text.encode()):08x}.csv"
    path.write_text(text)
    return {"kind": "recorded", "file": str(path)}


def measured(points: list[tuple[int, float]]) -> dict[str, Any]:
    """Dirty rates: of 3 MiB, what share was dirty after so many milliseconds."""
    rates = [(ms, round(share * (3 << 20) * 1000 / ms)) for ms, share in points]
    tables = [{"calc_time": f"{ms} ms", "dirty_rate": f"{rate} B/s"} for ms, rate in rates]
    return {"kind": "dirty-rate", "working_set": "3 MiB", "measured": tables}


rates = st.sampled_from(["1 MiB/s", "100 MiB/s", "1 GiB/s", "3 GiB/s"])
workloads = st.one_of(
    st.just({"kind": "idle"}),
    st.lists(rows, max_size=12).map(recording),
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["uniform", "sweep"]), "working_set": working_sets, "rate": rates}
    ),
    st.lists(st.tuples(st.integers(5, 3000), st.floats(0.01, 0.9)), min_size=1, max_size=3).map(measured),
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
        "dirty_log_page": st.sampled_from(["4 KiB", "4 KiB", "4 KiB", "64 KiB", "2 MiB"]),
        "block": st.lists(st.integers(1, 900), max_size=3).map(
            lambda sizes: [{"name": f"b{i}", "size": f"{pages * 4} KiB"} for i, pages in enumerate([1024, *sizes])]
        ),
        "workload": workloads,
        "zero_fraction": st.sampled_from([0.0, 0.0, 0.1, 0.6, 1.0]),
        "ballooned": st.sampled_from(["0 KiB", "0 KiB", "64 KiB"]),
        "device_state": st.sampled_from(["1 KiB", "100 KiB"]),
    }
)
policy_tables = st.sampled_from(tuple(policies.builtin())).flatmap(
    lambda name: st.fixed_dictionaries(
        {"name": st.just(name)}
        | ({"limit": st.sampled_from(["0 B", "1 MiB", "5 MiB"])} if name == "pending-limit" else {})
        | ({"interval": st.sampled_from(["1 MiB", "3 MiB"])} if name == "every-bytes" else {})
    )
)


def changed(when: dict[str, Any], limits: dict[str, Any], max_bandwidth: str) -> dict[str, Any]:
    """A change of limits."""
    return {**when, **limits, "max_bandwidth": max_bandwidth}


changes = st.lists(
    st.builds(
        changed,
        st.sampled_from([{"at": "1 ms"}, {"at": "100 ms"}, {"at": "350 ms"}, {"round": 2}, {"round": 3}]),
        st.sampled_from([{"downtime_limit": "2 ms"}, {"downtime_limit": "100 ms"}, {}]),
        st.sampled_from(["unlimited", "20 MiB/s", "1 GiB/s"]),
    ),
    max_size=3,
)
migrations = st.fixed_dictionaries(
    {
        "pin_all": st.booleans(),
        "slice": st.sampled_from(["50 ms", "1 ms", "50 us", "round", "unlimited"]),
        "registration_batch": st.sampled_from([1, 1, 3, 4096]),
        "control_wait": st.sampled_from(["completion", "deferred"]),
        "control_qp": st.sampled_from(["shared", "shared", "own"]),
        "max_rounds": st.integers(1, 8),
        "stop_when_flat": st.booleans(),
        "downtime_limit": st.sampled_from(["1 ms", "5 ms", "300 ms"]),
        "max_bandwidth": st.sampled_from(["unlimited", "unlimited", "100 MiB/s", "10 MiB/s"]),
        "rate_limit": st.sampled_from(["qemu-7.2", "qemu-10.0"]),
        "change": st.one_of(st.just([]), changes),
    }
)
links = st.fixed_dictionaries(
    {
        "bandwidth": st.sampled_from(["100 Mbit/s", "1 Gbit/s", "26.5 Gbit/s", "40 Gbit/s"]),
        "latency": st.sampled_from(["0 us", "2 us", "100 us", "2 ms"]),
        "mtu": st.sampled_from(["256 B", "1024 B", "4096 B"]),
        "header": st.sampled_from(["0 B", "26 B", "74 B"]),
    }
)


def costs(largest_ns: float) -> st.SearchStrategy[str]:
    return st.one_of(st.just("0 ns"), st.floats(0, largest_ns).map(lambda ns: f"{ns:.3f} ns"))


hosts: st.SearchStrategy[dict[str, str]] = st.one_of(
    st.just({}),
    st.sampled_from([{"model": "qemu-docs-2013"}, {"model": "server-2020"}]),
    st.fixed_dictionaries(
        {},
        optional={
            "post": costs(1e3),
            "post_byte": costs(0.5),
            "poll": costs(500),
            "poll_cqe": costs(500),
            "wake": costs(2e4),
            "message": costs(5e3),
            "scan_page": costs(300),
            "sync_page": costs(20),
            "zero_test_page": costs(500),
            "write": costs(1e5),
            "register": costs(1e5),
            "register_page": costs(700),
            "deregister": costs(1e4),
            "deregister_page": costs(100),
            "connect": costs(1e7),
            "stop": costs(1e6),
            "resume": costs(1e6),
        },
    ),
)
worlds = st.fixed_dictionaries(
    {
        "guest": guests,
        "policy": policy_tables,
        "migration": migrations,
        "link": links,
        "host": hosts,
        "device": st.sampled_from(["ideal", "rxe", "mlx5"]).map(lambda profile: {"profile": profile}),
        "seed": st.integers(0, 2**63 - 1),
    },
    optional={"destination_host": hosts},
)
