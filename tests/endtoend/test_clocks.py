"""A side's clock never runs back, whatever fractions of a nanosecond its work costs."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from simmig.trace import events as ev
from tests.endtoend.worlds import simulate

COSTS = ("post", "post_byte", "poll", "poll_cqe", "message", "scan_page", "sync_page", "write", "register_page")
fractions = st.fixed_dictionaries(
    {}, optional={name: st.floats(0.01, 40).map(lambda ns: f"{ns:.3f} ns") for name in COSTS}
)


def times(events: list[ev.AnyEvent], side: str) -> list[int]:
    told_elsewhere = (ev.MemoryCompared, ev.PortCounted)
    return [event.t_ns for event in events if event.side == side and not isinstance(event, told_elsewhere)]


def test_tenths_of_a_nanosecond_that_add_up_to_almost_a_whole_one() -> None:
    result, events = simulate(
        guest={"memory": "3716 KiB", "workload": {"kind": "sweep", "working_set": "220 KiB", "rate": "3 GB/s"}},
        link={"bandwidth": "10 Gbit/s", "latency": "5 ms"},
        host={"post": "0.1 ns"},
        migration={"pin_all": True},
    )
    assert times(events, "source") == sorted(times(events, "source"))
    assert result.good


@settings(max_examples=60, deadline=None)
@given(
    host=fractions,
    destination=fractions,
    pin_all=st.booleans(),
    transport=st.sampled_from(["rdma", "rdma", "tcp"]),
    control=st.sampled_from(["shared", "own"]),
    latency=st.sampled_from(["0 us", "5 ms", "40 ms"]),
)
def test_no_clock_runs_back(
    host: dict[str, str], destination: dict[str, str], pin_all: bool, transport: str, control: str, latency: str
) -> None:
    result, events = simulate(
        guest={"memory": "2 MiB", "workload": {"kind": "sweep", "working_set": "220 KiB", "rate": "1 GB/s"}},
        link={"bandwidth": "10 Gbit/s", "latency": latency},
        host=host,
        destination_host=destination,
        migration={"pin_all": pin_all, "transport": transport, "control_qp": control, "max_rounds": 3},
    )
    for side in ("source", "destination"):
        assert times(events, side) == sorted(times(events, side))
    assert all(result.invariants.values())
