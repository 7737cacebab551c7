"""The parts of a downtime mean the same for every guest: held to a second reading of the trace."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simmig.trace import events as ev
from simmig.trace.metrics import Metrics
from simmig.trace.qemu_attempts import read_recording
from simmig.trace.qemu_events import events_of
from tests.endtoend.worlds import simulate

RECORDINGS = sorted(Path("tests/data").glob("qemu-*/*.src.trace.gz"))

guests = st.sampled_from(
    [
        {"memory": "8 MiB"},  # idle: nothing is left when it is stopped
        {"memory": "8 MiB", "zero_fraction": 1.0},
        {"memory": "8 MiB", "ballooned": 1.0},
        {"memory": "8 MiB", "device_state": "4 MiB"},
        {"memory": "8 MiB", "workload": {"kind": "sweep", "working_set": "2 MiB", "rate": "30 MiB/s"}},
        {"memory": "8 MiB", "workload": {"kind": "uniform", "working_set": "4 MiB", "rate": "10 MiB/s"}},
    ]
)
migrations = st.fixed_dictionaries(
    {
        "transport": st.sampled_from(["rdma", "rdma", "tcp"]),
        "pin_all": st.booleans(),
        "slice": st.sampled_from(["50 ms", "1 ms", "round", "unlimited"]),
        "downtime_limit": st.sampled_from(["1 ms", "30 ms", "300 ms"]),
        "max_rounds": st.just(10),
    }
)


@settings(max_examples=40, deadline=None)
@given(
    guest=guests,
    migration=migrations,
    control=st.sampled_from(["shared", "own"]),
    policy=st.sampled_from(
        ["final-only", "at-switch", "per-round", "downtime-budget", "per-iteration", "per-chunk"]
    ),
    host=st.sampled_from([{}, {"stop": "1 ms", "resume": "2 ms"}, {"model": "server-2020"}]),
)
def test_each_part_is_what_it_says_of_any_guest(
    guest: dict[str, Any], migration: dict[str, Any], control: str, policy: str, host: dict[str, Any]
) -> None:
    if migration["transport"] == "tcp":
        control = "shared"
        migration = migration | {"pin_all": False}
    result, events = simulate(
        guest=guest,
        host=host,
        link={"bandwidth": "1 Gbit/s", "latency": "20 us"},
        migration=migration | {"control_qp": control},
        policy={"name": policy},
    )
    if result.status != "completed":
        return
    parts = result.metrics.downtime
    found = (parts.residual_pages_ns, parts.drain_ns, parts.device_state_ns, parts.switch_ns)
    assert found == read_again(events)
    assert sum(found) == result.metrics.downtime_ns


def read_again(events: list[ev.AnyEvent]) -> tuple[int, int, int, int]:
    """Of every stretch between two events of the downtime, which of the four it belongs to."""
    (stopped,) = [event.t_ns for event in events if isinstance(event, ev.VmStopped)]
    (resumed,) = [event.t_ns for event in events if isinstance(event, ev.VmResumed)]
    (loaded,) = [event.t_ns for event in events if isinstance(event, ev.DeviceStateLoaded)]
    at_stop = next(at for at, event in enumerate(events) if isinstance(event, ev.VmStopped))
    (ended,) = [event.t_ns for event in events[at_stop:] if isinstance(event, ev.RoundEnded)]
    began = [event.t_ns for event in events if isinstance(event, ev.DrainBegan)]
    drains = list(zip(began, [event.t_ns for event in events if isinstance(event, ev.DrainEnded)], strict=True))
    spent = [0, 0, 0, 0]
    moments = {stopped, ended, loaded, resumed, *(t_ns for drain in drains for t_ns in drain)}
    for begin, end in pairwise(sorted(t_ns for t_ns in moments if stopped <= t_ns <= resumed)):
        drained = any(first <= begin and end <= last for first, last in drains)
        spent[1 if drained else 0 if end <= ended else 2 if end <= loaded else 3] += end - begin
    return spent[0], spent[1], spent[2], spent[3]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.name)
def test_the_parts_of_a_recorded_downtime_add_up_to_it(path: Path) -> None:
    """A log of the source's alone: until it was done."""
    metrics = Metrics()
    for event in events_of(read_recording(path)):
        metrics(event)
    parts = metrics.downtime
    assert (
        parts.residual_pages_ns + parts.drain_ns + parts.device_state_ns + parts.switch_ns == metrics.downtime_ns
    )
    assert min(parts.residual_pages_ns, parts.drain_ns, parts.device_state_ns) >= 0
    assert parts.device_state_ns > 0
