"""Cancelled, cut off, dead: whatever happens and whenever, exactly one side runs the guest in the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from simmig.experiment.runs.run import Simulation
from simmig.trace.events import (
    AnyEvent,
    ControlSent,
    DeviceStateSent,
    MigrationBegan,
    MigrationEnded,
    VmStopped,
    WorkCompleted,
)
from simmig.verify.invariants import Invariants
from tests.endtoend.worlds import scenario

BOUND_NS = 120_000_000_000  # after a fault everything has ended


def cancel_source(world: Simulation) -> None:
    world.cancel[0].set()


def cancel_destination(world: Simulation) -> None:
    world.cancel[1].set()


def cut(world: Simulation) -> None:
    world.link.set_up(False)


def interrupt(world: Simulation) -> None:
    world.link.set_up(False)
    later(world, 30_000_000, lambda _: world.link.set_up(True))


def kill_destination(world: Simulation) -> None:
    world.hosts[1].kill()


FAULTS = [cancel_source, cancel_destination, cut, interrupt, kill_destination]


def later(world: Simulation, delay_ns: int, what: Callable[[Simulation], None]) -> None:
    timeout = world.env.timeout(delay_ns)
    assert timeout.callbacks is not None
    timeout.callbacks.append(lambda _: what(world))


def end_ns(events: list[AnyEvent], side: str) -> int:
    return max((e.t_ns for e in events if isinstance(e, MigrationEnded) and e.side == side), default=0)


def handover_is_open(events: list[AnyEvent]) -> bool:
    """Whether the stream's end was sent and its own completion never came: then nobody can know (two generals).

    Of a socket the trace tells when the device state was sent, and no more.
    """
    if isinstance(events[0], MigrationBegan) and events[0].transport == "tcp":
        return any(isinstance(e, DeviceStateSent) for e in events)
    stated = next((index for index, e in enumerate(events) if isinstance(e, DeviceStateSent)), len(events))
    messages = [(i, e.type) for i, e in enumerate(events) if isinstance(e, ControlSent) and e.side == "source"]
    ends = [nth for nth, (index, kind) in enumerate(messages, 1) if index > stated and kind == "QEMU_FILE"]
    if not ends:
        return False
    # Sends complete in order (R16), so the nth completion is the nth message's; deferred ones may come late.
    done = [e for e in events if isinstance(e, WorkCompleted) and e.side == "source" and e.opcode == "send"]
    return len(done) < ends[-1]


faulty_worlds = st.fixed_dictionaries(
    {
        "guest": st.fixed_dictionaries(
            {
                "memory": st.just("6 MiB"),
                "device_state": st.sampled_from(["1 KiB", "100 KiB"]),
                "workload": st.sampled_from(
                    [{"kind": "idle"}, {"kind": "uniform", "working_set": "2 MiB", "rate": "50 MiB/s"}]
                ),
            }
        ),
        "migration": st.fixed_dictionaries(
            {
                "transport": st.sampled_from(["rdma", "rdma", "rdma", "tcp"]),
                "pin_all": st.booleans(),
                "control_qp": st.sampled_from(["shared", "own"]),
                "control_wait": st.sampled_from(["completion", "deferred"]),
                "slice": st.sampled_from(["1 ms", "unlimited"]),
                "downtime_limit": st.just("3 ms"),
            }
        ),
        "policy": st.sampled_from(["final-only", "per-chunk", "per-iteration"]).map(lambda name: {"name": name}),
        "link": st.fixed_dictionaries(
            {"bandwidth": st.just("10 Gbit/s"), "latency": st.sampled_from(["2 us", "500 us"])}
        ),
        "seed": st.integers(0, 1000),
    }
)


def total_ns(tables: dict[str, Any]) -> int:
    events: list[AnyEvent] = []
    Simulation(scenario(**tables), events.append).run()
    return end_ns(events, "source")


@settings(max_examples=60, deadline=None)
@given(faulty_worlds, st.sampled_from(FAULTS), st.floats(0, 1.02))
def test_one_side_runs_whatever_happens_whenever(
    tables: dict[str, Any], fault: Callable[[Simulation], None], when: float
) -> None:
    at_ns = int(total_ns(tables) * when)
    events: list[AnyEvent] = []
    world = Simulation(scenario(**tables), events.append)
    later(world, at_ns, fault)
    world.run()
    note(f"at {at_ns} ns: {world.outcome}, running {world.running}")
    status = world.outcome.status
    if not handover_is_open(events):
        source_ended = [e.status for e in events if isinstance(e, MigrationEnded) and e.side == "source"]
        if source_ended == ["completed"]:
            assert not world.running[0]
            assert world.running[1] or not world.hosts[1].alive
        else:
            assert world.running[0]
            assert not world.running[1]
    assert status == "completed" or world.outcome.reason
    if status == "completed":
        assert world.different_pages == 0
    invariants = Invariants()
    for event in events:
        invariants(event)
    assert not invariants.violations
    for side in ("source", "destination"):
        assert end_ns(events, side) <= at_ns + BOUND_NS


@pytest.mark.parametrize("transport", ["rdma", "tcp"])
def test_a_cancelled_migration_says_so_and_the_guest_never_noticed(transport: str) -> None:
    events: list[AnyEvent] = []
    world = Simulation(scenario(guest={"memory": "64 MiB"}, migration={"transport": transport}), events.append)
    later(world, 20_000_000, cancel_source)
    world.run()
    assert world.outcome.status == "cancelled"
    assert world.running == (True, False)
    assert not any(isinstance(event, VmStopped) for event in events)
    assert end_ns(events, "source") < 40_000_000


def test_nobody_listens() -> None:
    world = Simulation(scenario(), None)
    world.hosts[1].kill()
    world.run()
    assert world.outcome.status == "failed"
    assert "cannot connect" in world.outcome.reason
    assert world.running == (True, False)


@pytest.mark.parametrize("transport", ["rdma", "tcp"])
@pytest.mark.parametrize("control_wait", ["completion", "deferred"])
@pytest.mark.parametrize("control_qp", ["shared", "own"])
def test_a_hand_over_that_was_seen_to_arrive_is_not_open(
    transport: str, control_wait: str, control_qp: str
) -> None:
    events: list[AnyEvent] = []
    migration = {"transport": transport, "control_wait": control_wait, "control_qp": control_qp}
    Simulation(scenario(guest={"memory": "6 MiB"}, migration=migration), events.append).run()
    if transport == "rdma":
        assert not handover_is_open(events)
        states = [index for index, event in enumerate(events) if isinstance(event, DeviceStateSent)]
        assert handover_is_open(
            events[: states[0] + 2] + [e for e in events[states[0] :] if isinstance(e, ControlSent)]
        )
