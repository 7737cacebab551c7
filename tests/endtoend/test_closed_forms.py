"""Runs whose figures can be worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simmig.migration import policies
from simmig.trace.events import (
    AnyEvent,
    ControlSent,
    DrainBegan,
    PagesSaved,
    VmStopped,
    WorkCompleted,
    WorkPosted,
)
from tests.endtoend.worlds import simulate

MIB = 1 << 20


def pending_at(events: list[AnyEvent]) -> list[tuple[AnyEvent, int]]:
    """Each event of the source with the RAM bytes that were pending just before it."""
    pending, seen = 0, []
    for event in events:
        seen.append((event, pending))
        if isinstance(event, WorkPosted) and event.opcode == "write":
            pending += event.length_bytes
        elif isinstance(event, WorkCompleted) and event.opcode == "write":
            pending -= event.length_bytes
    return seen


@settings(max_examples=40, deadline=None)
@given(
    pages=st.integers(256, 8192),
    gbit_s=st.sampled_from([0.1, 1, 10, 40, 100]),
    latency_us=st.sampled_from([0, 2, 50]),
    header=st.sampled_from([0, 74, 200]),
    mtu=st.sampled_from([256, 1024, 4096]),
    slice_=st.sampled_from(["round", "unlimited"]),
    policy=st.sampled_from(["final-only", "per-round", "pending-limit"]),
)
def test_an_idle_guest_takes_its_bytes_over_the_payload_bandwidth(
    pages: int, gbit_s: float, latency_us: int, header: int, mtu: int, slice_: str, policy: str
) -> None:
    """Free hosts, pin-all: total = wire time of the pages + control messages + round trips, within 0.5 %."""
    result, events = simulate(
        guest={"memory": f"{pages * 4} KiB", "device_state": "1 KiB"},
        link={
            "bandwidth": f"{gbit_s} Gbit/s",
            "latency": f"{latency_us} us",
            "header": f"{header} B",
            "mtu": f"{mtu} B",
        },
        migration={"pin_all": True, "slice": slice_},
        policy={"name": policy},
    )
    assert result.status == "completed"
    assert result.metrics.counts.posted_bytes == pages * 4096
    ns_per_byte = 8 / gbit_s
    page_packets = pages * 4096 // mtu
    writes_ns = (pages * 4096 + page_packets * header) * ns_per_byte
    messages = [event for event in events if isinstance(event, ControlSent)]
    messages_ns = sum((event.length_bytes + 16 + header) * ns_per_byte for event in messages)
    # Connecting takes two round trips at most; each message of the source waits for its own completion and then
    # for the READY that answers it; a trip more for packets that each carries as an acknowledgement.
    trips_ns = (len(messages) + 8) * (2 * latency_us * 1000 + 4 * (header + 64) * ns_per_byte)
    assert writes_ns <= result.metrics.total_time_ns
    assert result.metrics.total_time_ns <= (writes_ns + messages_ns + trips_ns) * 1.005


@pytest.mark.parametrize("limit_mib", [1, 4, 8])
@pytest.mark.parametrize("control_qp", ["shared", "own"])
@pytest.mark.parametrize("workload", ["idle", "uniform"])
def test_a_pending_limit_holds_to_the_chunk(limit_mib: int, control_qp: str, workload: str) -> None:
    table = (
        {"kind": "idle"}
        if workload == "idle"
        else {"kind": "uniform", "working_set": "8 MiB", "rate": "500 MiB/s"}
    )
    result, _ = simulate(
        guest={"memory": "64 MiB", "workload": table},
        migration={"pin_all": True, "slice": "unlimited", "control_qp": control_qp, "downtime_limit": "10 ms"},
        policy={"name": "pending-limit", "limit": f"{limit_mib} MiB"},
        host={"post": "100 ns"},
    )
    assert result.status == "completed"
    assert result.metrics.max_pending_bytes <= (limit_mib + 1) * MIB
    assert result.metrics.max_pending_bytes > (limit_mib - 1) * MIB  # and it is used


def test_without_a_drain_the_whole_queue_is_downtime() -> None:
    """final-only, one unlimited slice, pin-all, a link slower than the sender: 512 chunks, and their wire time."""
    result, _ = simulate(
        guest={"memory": "1 GiB", "device_state": "1 KiB"},
        migration={"pin_all": True, "slice": "unlimited"},
        policy={"name": "final-only"},
    )
    assert result.metrics.pending_bytes_at_stop == 512 * MIB
    wire_ns = 512 * MIB * (4096 + 74) / 4096 * 8 / 10
    assert result.metrics.downtime_ns == pytest.approx(wire_ns, rel=0.005)


@pytest.mark.parametrize("policy", sorted(policies.builtin()))
@pytest.mark.parametrize("pin_all", [False, True])
def test_on_qemus_wire_nothing_is_pending_across_a_control_message(policy: str, pin_all: bool) -> None:
    result, events = simulate(
        guest={"memory": "64 MiB", "workload": {"kind": "uniform", "working_set": "8 MiB", "rate": "100 MiB/s"}},
        migration={"pin_all": pin_all, "downtime_limit": "10 ms"},
        policy={"name": policy},
    )
    assert result.status == "completed"
    completed = 0
    for event, pending in pending_at(events):
        if isinstance(event, WorkCompleted) and event.opcode == "send" and event.side == "source":
            assert pending == 0
            completed += 1
    assert completed > 10


def test_on_a_queue_pair_of_its_own_control_overtakes_and_only_the_policy_drains() -> None:
    result, events = simulate(
        guest={"memory": "64 MiB"},
        migration={"pin_all": True, "control_qp": "own", "slice": "10 ms"},
        policy={"name": "at-switch"},
    )
    assert result.status == "completed"
    overtaken = [p for e, p in pending_at(events) if isinstance(e, ControlSent) and e.side == "source" and p]
    assert overtaken
    assert not [e for e in events if isinstance(e, DrainBegan) and e.asked_by == "wire"]
    assert [e.point for e in events if isinstance(e, DrainBegan)] == ["before-device-state"]


def test_a_guest_that_outruns_the_link_does_not_converge_and_runs_on() -> None:
    result, events = simulate(
        guest={"memory": "64 MiB", "workload": {"kind": "sweep", "working_set": "64 MiB", "rate": "4 GiB/s"}},
        migration={"downtime_limit": "5 ms", "max_rounds": 5},
    )
    assert result.status == "not-converging"
    assert result.source_running
    assert not result.destination_running
    assert not any(isinstance(event, VmStopped) for event in events)
    assert "5 rounds" in result.reason


def test_ballooned_pages_never_travel() -> None:
    plain, _ = simulate(migration={"pin_all": True})
    ballooned, _ = simulate(guest={"memory": "16 MiB", "ballooned": "4 MiB"}, migration={"pin_all": True})
    assert plain.metrics.counts.data_pages - ballooned.metrics.counts.data_pages == 1024
    assert ballooned.figures()["memory_identical"]


def test_zero_pages_cost_no_wire_bytes_until_their_chunk_is_registered() -> None:
    result, _ = simulate(guest={"memory": "16 MiB", "zero_fraction": 0.5})
    assert result.metrics.counts.zero_pages == 2048
    assert result.metrics.counts.posted_bytes == 8 * MIB


@pytest.mark.parametrize("transport", ["rdma", "tcp"])
@pytest.mark.parametrize("pin_all", [False, True])
def test_an_idle_guest_travels_in_whole_chunks(transport: str, pin_all: bool) -> None:
    """But where a slice ends within one: a timed slice looks at the clock one page into the next chunk."""
    result, events = simulate(
        guest={"memory": "64 MiB"},
        migration={"transport": transport, "pin_all": pin_all},
        host={"scan_page": "50 ns", "post": "300 ns", "wake": "3 us"},
    )
    assert result.status == "completed"
    runs = [event.count for event in events if isinstance(event, PagesSaved)]
    assert sum(runs) == 64 * 256
    assert len(runs) <= 64 + 2 * len(result.metrics.slices)
