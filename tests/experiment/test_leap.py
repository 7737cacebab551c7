"""A leap, compiled for real, against the event model: every figure, every table, every bin.

Compiling takes a minute, once for the sources as they are.
"""

from __future__ import annotations

import fcntl
import importlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from itertools import zip_longest
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, assume, given, settings

from simmig.experiment import leap as fast
from simmig.experiment.errors import InputError
from simmig.experiment.leap.envelope import outside
from simmig.experiment.result import Result
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.schema import Scenario
from simmig.migration import policies
from simmig.migration.policies.policy import Point, Sender
from simmig.trace.metrics import Metrics
from simmig.trace.recorder import Recorder
from simmig.verify import patience
from simmig.verify.invariants import Invariants
from tests.endtoend.worlds import scenario
from tests.experiment.leap_worlds import worlds

numba = pytest.importorskip("numba")

Leap = Callable[[Scenario], Result | None]


@pytest.fixture(scope="session")
def leap() -> Leap:
    """`leap.leap`, compiled: by the first process that asks, while the others wait and read what it left."""
    marker = fast._marker()
    marker.parent.mkdir(parents=True, exist_ok=True)
    with (marker.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert fast.prepare()
    module = importlib.import_module("simmig.experiment.leap.leap")
    assert module.migrate.signatures, "not compiled"
    return module.leap  # type: ignore[no-any-return]


def told(metrics: Metrics) -> dict[str, Any]:
    """Everything that metrics tell."""
    series: dict[str, Any] = {"pending": metrics.pending, "remaining": metrics.remaining_pages}
    series |= {"arrived": metrics.arrived, "dirtied": metrics.dirtied}
    series |= {f"waited, {name}": amount for name, amount in metrics.waited.items()}
    names = ["began", "setup_ended_ns", "stopped_ns", "resumed_ns", "resumed_side", "ended", "counts"]
    names += ["rounds", "slices", "pending_bytes", "pending_bytes_at_stop", "max_pending_bytes", "downtime"]
    return {name: getattr(metrics, name) for name in names} | {
        name: (each.bins, each.width_ns) for name, each in series.items()
    }


OF_THE_TRACE = ("trace_sha256", "engine", "invariants", "memory_identical")


def differences(one: Result, other: Result) -> dict[str, tuple[Any, Any]]:
    """What two results differ in, apart from what takes a trace."""
    ours = one.figures() | told(one.metrics) | one.tables()
    theirs = other.figures() | told(other.metrics) | other.tables()
    return {key: (ours[key], theirs[key]) for key in ours if key not in OF_THE_TRACE and ours[key] != theirs[key]}


def check(leap: Leap, **changes: Any) -> Result:
    what = scenario(**changes)
    assert outside(what) is None
    leapt, expected = leap(what), run_events(what)
    if leapt is None:  # what is under way on one queue pair when the other one says that it is over
        assert (what.migration.control_qp, expected.status) == ("own", "not-converging")
        return expected
    unknown: dict[str, Any] = {"trace_sha256": None, "engine": "compiled", "invariants": {}}
    unknown["memory_identical"] = None if leapt.status == "completed" else False
    assert {name: leapt.figures()[name] for name in OF_THE_TRACE} == unknown  # nothing is certified unseen
    assert not differences(expected, leapt)
    check_trace(what, expected)
    return leapt


def check_trace(what: Scenario, expected: Result) -> None:
    """With a trace a leap is the event model's to the byte."""
    invariants = Invariants()
    traced = traced_leap()(what, lambda: Recorder((invariants,)), True)
    assert traced is not None
    assert traced.trace_sha256 == expected.trace_sha256, first_difference(what)
    assert not differences(expected, traced)
    assert traced.memory_identical == expected.memory_identical
    assert invariants.results() == expected.invariants


def traced_leap() -> Any:
    return importlib.import_module("simmig.experiment.leap.leap").leap_traced


def run_events(what: Scenario) -> Result:
    """What the event model says, whatever compiled code is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "is_ready", lambda: False)
        return run(what)


def first_difference(what: Scenario) -> str:
    """Where the two traces part."""
    theirs, ours = BytesIO(), BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "is_ready", lambda: False)
        run(what, sink=theirs)
    traced_leap()(what, lambda: Recorder((), ours), True)
    lines = zip_longest(*(text.getvalue().decode().splitlines() for text in (theirs, ours)))
    return next(f"event {at}: {one}\nleap: {other}" for at, (one, other) in enumerate(lines) if one != other)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(world=worlds)
def test_a_leap_comes_out_as_the_event_model_does(leap: Leap, world: dict[str, Any]) -> None:
    assume(outside(scenario(**world)) is None)
    check(leap, **world)


@pytest.mark.parametrize("policy", policies.builtin())
@pytest.mark.parametrize("pin_all", [False, True])
@pytest.mark.parametrize("kind", ["idle", "sweep", "uniform", "hotspot"])
def test_every_policy_registration_and_workload(leap: Leap, policy: str, pin_all: bool, kind: str) -> None:
    workload: dict[str, Any] = {"kind": kind}
    if kind != "idle":
        workload |= {"working_set": "2 MiB", "rate": "50 MiB/s"}
    if kind == "hotspot":
        workload |= {"hot_set": "1 MiB", "hot_fraction": 0.9}
    result = check(
        leap,
        guest={"memory": "12 MiB", "workload": workload, "device_state": "64 KiB", "zero_fraction": 0.1},
        host={"model": "server-2020"},
        migration={"pin_all": pin_all, "downtime_limit": "2 ms", "slice": "2 ms"},
        policy={"name": policy, **({"limit": "2 MiB"} if policy == "pending-limit" else {})},
    )
    assert result.status == "completed"


def test_a_message_that_comes_just_behind_the_end_of_a_packet_is_sent(leap: Leap) -> None:
    """A byte takes 80 ns; a packet of the other queue pair has ended 4 ns before."""
    result = check(
        leap,
        guest={
            "block": [{"name": "b0", "size": "4096 KiB"}, {"name": "b1", "size": "580 KiB"}],
            "device_state": "1 KiB",
        },
        link={"bandwidth": "100 Mbit/s", "latency": "0 us", "mtu": "1024 B", "header": "26 B"},
        host={"model": "qemu-docs-2013", "register_page": "647 ns", "poll": "100 ns"},
        migration={"control_qp": "own", "control_wait": "deferred", "max_rounds": 1, "downtime_limit": "1 ms"},
        policy={"name": "final-only"},
    )
    assert result.status == "completed"


def test_a_guest_that_outruns_the_link_ends_alike(leap: Leap) -> None:
    busy = {"kind": "sweep", "working_set": "16 MiB", "rate": "4 GiB/s"}
    result = check(
        leap,
        guest={"memory": "16 MiB", "workload": busy},
        host={"post": "123.4 ns", "wake": "3 us", "poll": "0.3 ns"},
        migration={"downtime_limit": "1 ms", "max_rounds": 4},
    )
    assert result.status == "not-converging"


@pytest.mark.parametrize("rate", ["200 MiB/s", "4 GiB/s"])
def test_hopeless_rounds_end_alike(leap: Leap, rate: str) -> None:
    busy = {"kind": "uniform", "working_set": "8 MiB", "rate": rate}
    result = check(
        leap,
        guest={"memory": "16 MiB", "workload": busy},
        link={"bandwidth": "1 Gbit/s", "latency": "2 us"},
        migration={"downtime_limit": "100 us", "max_rounds": 30, "stop_when_flat": True},
    )
    assert result.status == "not-converging"
    assert result.flat_since_round == len(result.metrics.rounds) - 2
    assert result.reason.startswith("rounds did not shrink from round ")


@pytest.mark.parametrize("control_qp", ["shared", "own"])
def test_a_trace_that_may_be_long_is_made_where_it_is_not(control_qp: str) -> None:
    """How many events it will have is reckoned from the run without it, to a factor of two."""
    what = scenario(guest={"memory": "300 MiB"}, migration={"control_qp": control_qp})
    expected = run_events(what)
    seen: list[Any] = []
    whole = traced_leap()(what, lambda: Recorder((seen.append,)), True, 10**9)
    assert whole.trace_sha256 == expected.trace_sha256
    for most, sha256 in ((2 * len(seen), expected.trace_sha256), (len(seen) // 2, None)):
        assert traced_leap()(what, lambda: Recorder(()), True, most).trace_sha256 == sha256


def test_a_small_guest_leaps_where_compiled_code_has_been_loaded(leap: Leap) -> None:
    what = scenario(
        guest={"memory": "8 MiB", "workload": {"kind": "uniform", "working_set": "4 MiB", "rate": "1 GiB/s"}}
    )
    ours, theirs = run(what, traced=False), run_events(what)
    assert (ours.engine, theirs.engine) == ("compiled", "events")
    assert told(ours.metrics) == told(theirs.metrics)


def test_who_waits_is_told_how_far_it_is(leap: Leap) -> None:
    """Once a window of the bandwidth estimate, and where rounds begin."""
    busy = {"kind": "uniform", "working_set": "8 MiB", "rate": "40 MiB/s"}
    what = scenario(
        guest={"memory": "32 MiB", "workload": busy},
        link={"bandwidth": "200 Mbit/s", "latency": "2 us"},
        migration={"downtime_limit": "50 ms", "max_rounds": 4, "slice": "unlimited"},
    )
    seen: list[tuple[int, int, int]] = []
    result = traced_leap()(what, lambda: Recorder(()), False, None, lambda *told: seen.append(told))
    times = [now_ns for _, _, now_ns in seen]
    assert times == sorted(times)
    assert {index for index, _, _ in seen} == {row.index for row in result.metrics.rounds}
    assert len(seen) >= result.metrics.total_time_ns // 110_000_000
    first = [pages for index, pages, _ in seen if index == 1]
    assert first[0] == 8192
    assert first == sorted(first, reverse=True)
    assert first[len(first) // 2] < 8192


def test_a_destination_slow_to_hear_of_the_end_finds_itself_disconnected(leap: Leap) -> None:
    """The source has told it that all is over, and gone, before it takes the message: it says nothing."""
    result = check(
        leap,
        guest={"memory": "5 MiB", "workload": {"kind": "sweep", "working_set": "4 MiB", "rate": "3 GiB/s"}},
        link={"bandwidth": "40 Gbit/s", "latency": "0 us", "mtu": "256 B", "header": "0 B"},
        migration={"max_bandwidth": "10 MiB/s", "max_rounds": 1, "downtime_limit": "1 ms"},
        policy={"name": "final-only"},
        destination_host={"model": "qemu-docs-2013"},
        host={},
    )
    assert result.status == "not-converging"


def test_a_destination_that_waits_long_asks_for_signs_of_life(leap: Leap) -> None:
    """One slice of 12 s: two probes."""
    check(
        leap,
        guest={"memory": "12 MiB"},
        link={"bandwidth": "8 Mbit/s", "latency": "1 ms", "header": "74 B"},
        migration={"slice": "unlimited", "pin_all": True},
    )


@pytest.mark.parametrize("control_qp", ["shared", "own"])
@pytest.mark.parametrize("profile", ["ideal", "rxe"])
def test_over_a_long_way(leap: Leap, control_qp: str, profile: str) -> None:
    """As long as the ack timeout is longer; soft-RoCE has but 64 packets under way."""
    result = check(
        leap,
        guest={"memory": "3 MiB", "workload": {"kind": "sweep", "working_set": "1 MiB", "rate": "1 MiB/s"}},
        link={"bandwidth": "10 Gbit/s", "latency": "33 ms"},
        migration={"control_qp": control_qp},
        device={"profile": profile},
    )
    assert result.status == "completed"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"migration": {"transport": "tcp"}}, "its transport"),
        ({"link__loss": 0.01}, "its link's loss"),
        ({"link__latency": "34 ms"}, "a round trip as long as the ack timeout"),
    ],
)
def test_what_a_leap_does_not_know_is_left_to_the_event_model(changes: dict[str, Any], reason: str) -> None:
    what = scenario(**changes, guest__memory="16 MiB")
    assert outside(what) == reason
    assert fast.untraced(what) is None
    result = run(what, traced=False)
    assert result.trace_sha256 is None
    assert not differences(run(what), result)


# --- a policy of one's own ---


@dataclass
class Witness:
    """Answers by what it sees, and keeps it; at the `bad`-th time no number of bytes."""

    seen: ClassVar[list[tuple[object, ...]]] = []
    bad: int = -1

    def drain(self, point: Point, sender: Sender) -> int | None:
        sizes = (sender.posted_bytes, sender.completed_bytes, sender.pending_bytes, sender.bandwidth_bytes_s)
        counts = (sender.chunks, sender.slice, sender.round, sender.downtime_limit_ns, sender.now_ns)
        self.seen.append((point, *sizes, *counts))
        if len(self.seen) == self.bad:
            raise ValueError("no answer")
        draw = zlib.crc32(repr(self.seen[-1]).encode()) % 4
        return None if draw == 0 else 0 if draw == 1 else sender.pending_bytes // draw


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(policies, "_registered", {})
    Witness.seen.clear()
    return policies.register("witness", Witness)


def asked(simulate: Callable[[Scenario], Result | None], what: Scenario) -> list[tuple[object, ...]]:
    Witness.seen.clear()
    assert simulate(what) is not None
    return Witness.seen[:]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds)
def test_an_own_policy_is_asked_the_same_and_obeyed_alike(leap: Leap, witness: str, world: dict[str, Any]) -> None:
    world["policy"] = {"name": witness}
    what = scenario(**world)
    assume(outside(what) is None)
    Witness.seen.clear()
    if leap(what) is not None:
        assert Witness.seen[:] == asked(run_events, what)
    Witness.seen.clear()
    check(leap, **world)


def test_what_an_own_policy_does_wrong_is_the_event_models_to_tell(leap: Leap, witness: str) -> None:
    what = scenario(policy={"name": witness, "bad": 3})
    assert leap(what) is None
    assert len(Witness.seen) >= 3


class Silent:
    """Thinks for ever."""

    def drain(self, point: Point, sender: Sender) -> int | None:
        while True:
            pass


def test_a_policy_that_never_answers_ends_a_leap(leap: Leap, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event model, asked then, says so."""
    monkeypatch.setattr(policies, "_registered", {})
    monkeypatch.setattr(patience, "PATIENCE_S", 1)
    what = scenario(policy={"name": policies.register("silent", Silent)})
    assert leap(what) is None
    with pytest.raises(InputError, match="did not answer"):
        run(what)
