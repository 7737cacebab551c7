"""A migration without its events: the same figures as the event model's, some hundred times as fast."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from simmig.experiment.leap.begin import begin, given_back
from simmig.experiment.leap.call_back import Callback
from simmig.experiment.leap.decide import OWN, POLICIES
from simmig.experiment.leap.guest import MOST_WRITES
from simmig.experiment.leap.own_policy import OwnPolicy
from simmig.experiment.leap.source import migrate
from simmig.experiment.leap.state import Declined, Memory, TableFull
from simmig.experiment.leap.trace import Trace
from simmig.experiment.result import Result
from simmig.experiment.scenario.machine import machine_of
from simmig.experiment.scenario.policy_choice import make_policy, parameters_of
from simmig.experiment.scenario.schema import Scenario
from simmig.guest.api import PAGE_BYTES
from simmig.migration.began import began
from simmig.migration.convergence import divergence
from simmig.trace import events as ev
from simmig.trace.metrics import Counts, DowntimeParts, Metrics, Stretch
from simmig.trace.recorder import Recorder
from simmig.trace.series import Amount, Gauge
from simmig.verbs.sim.interrupt import held

if TYPE_CHECKING:
    from simmig.experiment.leap import Watch

_FIRST_ROWS = 1 << 12


def leap(scenario: Scenario) -> Result | None:
    """Simulate a scenario that lies within the envelope; None when it turned out that it does not."""
    ran = _run(scenario)
    return None if ran is None else _result(scenario, *ran)


def leap_traced(
    scenario: Scenario,
    record: Callable[[], Recorder],
    again: bool,
    most_events: int | None = None,
    watch: Watch | None = None,
) -> Result | None:
    """The same, with every event of the trace for a recorder; the result has the trace's digest, too.

    A run may be given up on the way. Where it is no matter that a recorder has heard of it (`again`) the next try
    gets another one; else it is run without a trace first, as where a trace may be too long: then there is none.
    """
    rows = _FIRST_ROWS
    if most_events is not None or not again:
        ran = _run(scenario, watch)
        if ran is None or ran[0]["writes"] > MOST_WRITES:
            return None
        if most_events is not None and _events_of(ran[0]) > most_events:
            return _result(scenario, *ran)
        rows = max(1, int(ran[0]["slices"]))
    while True:
        state, memory, _random = begin(scenario, rows, traced=True)
        recorder = record()
        trace = Trace(state[0], memory, recorder, _ends)
        recorder.emit(_began(scenario))
        try:
            _go(state[0], memory, _take_policy(scenario, state[0]), trace)
        except TableFull:
            rows *= 16
        except Declined:
            if trace.raised is not None:
                raise trace.raised from None
            if again:
                return None
            raise RuntimeError("what went well without a trace did not with one") from None
        else:
            digest = trace.finish()
            result = _result(scenario, state[0], memory)
            if trace.compared is not None:
                result.metrics(trace.compared)
            return dataclasses.replace(result, trace_sha256=digest)


def _events_of(s: Any) -> int:
    """About how many a trace has: three a write, six a message and its answer."""
    source, destination, source_control = s["posted"].tolist()
    return int(3 * (source + source_control) + 6 * destination)


def _go(
    s: Any, memory: Memory, own: OwnPolicy | None, trace: Trace | None = None, watch: Watch | None = None
) -> None:
    """Migrate; a signal ends it where a round begins or a window ends, or rows of a trace are handed on."""
    with held() as pending, own.asked() if own is not None else nullcontext():

        def look(round_index: int) -> int:
            if watch is not None:
                watch(round_index, int(s["dirty"]), int(s["now"]))
            return len(pending)

        looking = Callback(look)
        s["watch_address"] = looking.address
        if trace is not None:
            trace.pending = pending
        migrate(s, memory)


def _run(scenario: Scenario, watch: Watch | None = None) -> tuple[Any, Memory] | None:
    rows = _FIRST_ROWS
    while True:
        try:
            state, memory, _random = begin(scenario, rows)
            own = _take_policy(scenario, state[0])
            _go(state[0], memory, own, watch=watch)
        except TableFull:
            rows *= 16
        except Declined:
            return None
        else:
            return state[0], memory


def _take_policy(scenario: Scenario, s: Any) -> OwnPolicy | None:
    """Have a policy asked in Python that is not built in."""
    if scenario.policy.name in POLICIES:
        return None
    own = OwnPolicy(make_policy(scenario.policy.name, scenario.policy.parameters), s)
    s["policy"], s["policy_address"] = OWN, own.function.address
    return own


def _ends(s: Any) -> tuple[tuple[str, str], tuple[str, str]]:
    """Status and reason, of the source and of the destination."""
    if s["diverged"] < 0:
        return ("completed", ""), ("completed", "")
    flat_rounds = int(s["shrinking"]["flat_rounds"]) if s["hopeless"] else 0
    threshold_bytes = int(s["convergence"]["threshold_bytes"])
    reason = divergence(int(s["rounds"]), int(s["diverged"]), threshold_bytes, flat_rounds)
    where = "in registration mode" if s["section_open"] else "where QEMU_FILE was due"
    return ("not-converging", reason), ("failed", f"the source sent ERROR {where}")


def _result(scenario: Scenario, s: Any, memory: Memory) -> Result:
    """What the event model would say."""
    status, reason = _ends(s)[0]
    completed = status == "completed"
    policy = make_policy(scenario.policy.name, scenario.policy.parameters)
    return Result(
        status=status,
        reason=reason,
        backend="sim",
        policy=scenario.policy.name,
        policy_parameters=parameters_of(policy),
        seed=scenario.seed,
        invariants={},
        source_running=not completed,
        destination_running=completed,
        trace_sha256=None,
        metrics=_metrics(scenario, s, memory),
        engine="compiled",
    )


def _began(scenario: Scenario) -> ev.MigrationBegan:
    """What the source says first."""
    machine = machine_of(scenario)
    policy = make_policy(scenario.policy.name, scenario.policy.parameters)
    memory_bytes = machine.pages * PAGE_BYTES
    back = given_back(scenario, machine)
    return began(0, scenario.migration.config(), policy, scenario.policy.name, memory_bytes, back)


def _metrics(scenario: Scenario, s: Any, memory: Memory) -> Metrics:
    metrics = Metrics()
    metrics(_began(scenario))
    metrics(ev.SetupEnded(int(s["setup_end"]), "source"))
    metrics.counts = Counts(*s["counts"].tolist())
    metrics.rounds = [_stretch(row) for row in memory.rounds[: s["rounds"]].tolist()]
    metrics.slices = [_stretch(row) for row in memory.slices[: s["slices"]].tolist()]
    metrics.pending_bytes, metrics.max_pending_bytes = int(s["pending"]), int(s["max_pending"])
    metrics.downtime = DowntimeParts(*s["parts"].tolist())
    _fill(metrics.pending, s["pending_gauge"])
    _fill(metrics.remaining_pages, s["remaining_gauge"])
    _fill(metrics.arrived, s["arrived_amount"])
    _fill(metrics.dirtied, s["dirtied_amount"])
    for waited, record in zip(metrics.waited.values(), s["waited"], strict=True):
        _fill(waited, record)
    source, destination = _ends(s)
    metrics(ev.MigrationEnded(int(s["source_end"]), "source", *source))
    metrics(ev.MigrationEnded(int(s["destination_end"]), "destination", *destination))
    if s["stopped"] >= 0:
        metrics.stopped_ns, metrics.pending_bytes_at_stop = int(s["stopped"]), int(s["pending_at_stop"])
    if s["resumed_at"] >= 0:
        metrics.resumed_ns, metrics.resumed_side = int(s["resumed_at"]), "destination"
    metrics(ev.PortCounted(0, "source", int(s["sent"][0])))
    return metrics


def _stretch(row: list[int]) -> Stretch:
    index, began, at_round, dirty, ended, pending, *counts = row
    return Stretch(index, began, at_round, dirty, ended, pending, Counts(*counts))


def _fill(series: Gauge | Amount, record: Any) -> None:
    """Put in what compiled code kept."""
    for name in series.__slots__:
        value = record[name]
        setattr(series, name, value[: record["count"]].copy() if value.shape else int(value))
