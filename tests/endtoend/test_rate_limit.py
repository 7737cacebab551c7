"""`max_bandwidth` is kept to a page a window, on every transport and slice kind; QEMU 10.0's way, where asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simmig.experiment.result import Result
from simmig.trace import events as ev
from tests.endtoend.worlds import scenario, simulate

MIB = 1 << 20
FAST = {"bandwidth": "40 Gbit/s", "latency": "2 us"}
WAYS = pytest.mark.parametrize(
    ("transport", "slice_length"),
    [
        ("rdma", "50 ms"),
        ("rdma", "1 ms"),
        ("rdma", "round"),
        ("rdma", "unlimited"),
        ("tcp", "50 ms"),
        ("tcp", "round"),
    ],
)


def windows(events: list[ev.AnyEvent]) -> list[int]:
    """Pages saved while the guest ran, a burst a number: bursts lie more than 50 ms apart."""
    pages: list[int] = []
    last_ns = -(10**12)
    for event in events:
        if isinstance(event, ev.VmStopped):
            break
        if isinstance(event, ev.PagesSaved):
            if event.t_ns - last_ns > 50_000_000:
                pages.append(0)
            pages[-1] += event.count
            last_ns = event.t_ns
    return pages


def limited(rate: str, memory: str = "16 MiB", **migration: Any) -> tuple[Result, list[ev.AnyEvent]]:
    settings = {"max_bandwidth": rate, "downtime_limit": "1 us", "pin_all": True, **migration}
    return simulate(guest={"memory": memory}, link=FAST, migration=settings)


@WAYS
@pytest.mark.parametrize("mib_s", [1, 4, 32, 128])
def test_a_window_takes_its_share_and_one_page(transport: str, slice_length: str, mib_s: int) -> None:
    """As QEMU 7.2: 4 MiB/s are 103 pages a window, 412 KiB."""
    result, events = limited(
        f"{mib_s} MiB/s", "16 MiB" if mib_s > 1 else "4 MiB", transport=transport, slice=slice_length
    )
    share = mib_s * MIB // 10 // 4096 + 1
    *full, last = windows(events)
    assert set(full) <= {share}
    assert 0 < last <= share
    assert result.status == "completed"
    assert result.invariants["rate_limit_kept"]


def test_zero_pages_count_as_well() -> None:
    _, events = simulate(
        guest={"memory": "16 MiB", "zero_fraction": 1.0},
        link=FAST,
        migration={"max_bandwidth": "32 MiB/s", "downtime_limit": "1 us"},
    )
    assert set(windows(events)[:-1]) == {820}


@pytest.mark.parametrize("slice_length", ["50 ms", "round", "unlimited"])
def test_the_way_of_10_0_lets_a_chunk_a_window_through(slice_length: str) -> None:
    """Of a stock 10.0 at 4 MiB/s slices were seen of 1 MiB each; its zero pages are free."""
    result, events = limited("4 MiB/s", slice=slice_length, rate_limit="qemu-10.0")
    first, *full, _ = windows(events)
    assert first == 257
    assert set(full) == {256}
    assert result.invariants["rate_limit_kept"]
    _, events = simulate(
        guest={"memory": "16 MiB", "zero_fraction": 1.0},
        link=FAST,
        migration={"max_bandwidth": "4 MiB/s", "rate_limit": "qemu-10.0"},
    )
    assert windows(events) == [4096]


def test_a_guest_walked_within_a_window_gets_no_second_one_early() -> None:
    """The first walk makes an estimate before the window is over; the limit's own window goes on."""
    busy = {"kind": "sweep", "working_set": "2 MiB", "rate": "1 GiB/s"}
    _, events = simulate(
        guest={"memory": "2 MiB", "workload": busy},
        link=FAST,
        migration={"max_bandwidth": "30 MiB/s", "downtime_limit": "1 us", "pin_all": True, "max_rounds": 5},
    )
    assert max(windows(events)) <= 30 * MIB // 10 // 4096 + 1


@settings(max_examples=40, deadline=None)
@given(
    migration=st.fixed_dictionaries(
        {
            "max_bandwidth": st.integers(1 << 19, 1 << 26).map(lambda rate: f"{rate} B/s"),
            "rate_limit": st.sampled_from(["qemu-7.2", "qemu-10.0"]),
            "transport": st.sampled_from(["rdma", "rdma", "tcp"]),
            "slice": st.sampled_from(["50 ms", "300 us", "round", "unlimited"]),
            "pin_all": st.booleans(),
            "control_qp": st.sampled_from(["shared", "own"]),
            "control_wait": st.sampled_from(["completion", "deferred"]),
            "max_rounds": st.integers(1, 3),
            "downtime_limit": st.sampled_from(["1 us", "20 ms"]),
        }
    ),
    rate=st.sampled_from(["1 MiB/s", "20 MiB/s"]),
    zero_fraction=st.sampled_from([0, 0.5]),
    host=st.sampled_from([{}, {"model": "server-2020"}, {"write": "20 ms"}]),
)
def test_no_trace_breaks_it(
    migration: dict[str, Any], rate: str, zero_fraction: float, host: dict[str, str]
) -> None:
    busy = {"kind": "uniform", "working_set": "1 MiB", "rate": rate}
    result, events = simulate(
        guest={"memory": "3 MiB", "workload": busy, "zero_fraction": zero_fraction},
        link=FAST,
        host=host,
        migration=migration,
    )
    assert result.invariants["rate_limit_kept"]
    assert result.status in ("completed", "not-converging")
    if migration["rate_limit"] == "qemu-7.2":
        live_ns = next(e.t_ns for e in events if isinstance(e, ev.SetupEnded))
        stopped_ns = result.metrics.stopped_ns or result.metrics.ended["source"].t_ns
        share = int(migration["max_bandwidth"].split()[0]) // 10 // 4096 + 1
        assert sum(windows(events)) <= share * ((stopped_ns - live_ns) // 100_000_000 + 1)


@pytest.mark.parametrize("word", ["unlimited", "0 MiB/s", 0])
def test_zero_is_no_limit(word: str | int) -> None:
    assert scenario(migration__max_bandwidth=word).migration.max_bandwidth_bytes_s is None
