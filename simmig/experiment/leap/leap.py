"""A migration without its events: the same figures as the event model's, some hundred times as fast."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import Any

from simmig.experiment.leap import meter
from simmig.experiment.leap.begin import begin, given_back
from simmig.experiment.leap.decide import OWN
from simmig.experiment.leap.envelope import POLICIES
from simmig.experiment.leap.own_policy import OwnPolicy
from simmig.experiment.leap.source import COMPLETED, migrate
from simmig.experiment.leap.state import Declined, Memory, TableFull
from simmig.experiment.machine import machine_of
from simmig.experiment.policy_choice import make_policy, parameters_of
from simmig.experiment.result import Result
from simmig.experiment.schema import Scenario
from simmig.migration.config import SEND_QUEUE_DEPTH
from simmig.migration.lane import depths
from simmig.migration.policies import Policy, promise_of
from simmig.migration.policies.own_code import prints_aside
from simmig.migration.source import divergence
from simmig.trace import events as ev
from simmig.trace.metrics import Counts, DowntimeParts, Metrics, Stretch
from simmig.trace.series import Amount, Gauge, GaugeBin

_FIRST_ROWS = 1 << 12
_PAGE_BYTES = 4096


def leap(scenario: Scenario) -> Result | None:
    """Simulate a scenario that lies within the envelope; None when it turned out that it does not."""
    rows = _FIRST_ROWS
    while True:
        try:
            state, memory = begin(scenario, rows)
            own = None
            if scenario.policy.name not in POLICIES:
                own = OwnPolicy(make_policy(scenario.policy.name, scenario.policy.parameters), state[0])
                state[0]["policy"], state[0]["policy_address"] = OWN, own.address
            with prints_aside() if own is not None else nullcontext():
                outcome = migrate(state[0], memory)
        except TableFull:
            rows *= 16
        except Declined:
            return None
        else:
            return _result(scenario, state[0], memory, outcome == COMPLETED)


def _result(scenario: Scenario, s: Any, memory: Memory, completed: bool) -> Result:
    """What the event model would say."""
    reason = "" if completed else divergence(int(s["rounds"]), int(s["diverged"]), int(s["threshold"]))
    policy = make_policy(scenario.policy.name, scenario.policy.parameters)
    status = "completed" if completed else "not-converging"
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
        metrics=_metrics(scenario, s, memory, status, reason, policy),
        engine="compiled",
    )


def _metrics(scenario: Scenario, s: Any, memory: Memory, status: str, reason: str, policy: Policy) -> Metrics:
    metrics = Metrics()
    migration = scenario.migration
    pages = int(s["page_count"])
    metrics(
        ev.MigrationBegan(
            0,
            "source",
            pages * _PAGE_BYTES,
            _PAGE_BYTES,
            "rdma",
            migration.pin_all,
            scenario.policy.name,
            migration.downtime_limit_ns,
            promise_of(policy),
            given_back(scenario, machine_of(scenario)),
            *depths(SEND_QUEUE_DEPTH),
            max_rounds=migration.max_rounds,
            max_bandwidth_bytes_s=migration.max_bandwidth_bytes_s,
            rate_limit=migration.rate_limit if migration.max_bandwidth_bytes_s else None,
        )
    )
    metrics(ev.SetupEnded(int(s["setup_end"]), "source"))
    metrics.counts = Counts(*s["counts"].tolist())
    metrics.rounds = [_stretch(row) for row in memory.rounds[: s["rounds"]].tolist()]
    metrics.slices = [_stretch(row) for row in memory.slices[: s["slices"]].tolist()]
    metrics.pending_bytes, metrics.max_pending_bytes = int(s["pending"]), int(s["max_pending"])
    metrics.downtime = DowntimeParts(*s["parts"].tolist())
    metrics.pending, metrics.remaining_pages = (_gauge(s, which) for which in (0, 1))
    names: tuple[ev.AskedBy, ...] = ("policy", "wire", "protocol")
    metrics.waited = {name: _amount(s, which) for which, name in enumerate(names)}
    metrics.arrived = _amount(s, meter.ARRIVED_AMOUNT)
    metrics.dirtied = _amount(s, meter.DIRTIED_AMOUNT)
    told = "failed" if reason else "completed"
    where = "in registration mode" if s["section_open"] else "where QEMU_FILE was due"
    heard = f"the source sent ERROR {where}" if reason else ""
    metrics(ev.MigrationEnded(int(s["source_end"]), "source", status, reason))
    metrics(ev.MigrationEnded(int(s["destination_end"]), "destination", told, heard))
    if s["stopped"] >= 0:
        metrics.stopped_ns, metrics.pending_bytes_at_stop = int(s["stopped"]), int(s["pending_at_stop"])
    if s["resumed_at"] >= 0:
        metrics.resumed_ns, metrics.resumed_side = int(s["resumed_at"]), "destination"
    metrics(ev.PortCounted(0, "source", int(s["sent"][0])))
    return metrics


def _stretch(row: list[int]) -> Stretch:
    index, began, at_round, dirty, ended, pending, *counts = row
    return Stretch(index, began, at_round, dirty, ended, pending, Counts(*counts))


def _gauge(s: Any, which: int) -> Gauge:
    count = s["g_count"][which]
    columns = [s[name][which, :count].copy() for name in ("g_index", "g_low", "g_high", "g_last")]
    return Gauge.of(functools.partial(_gauge_bins, columns), 1 << int(s["g_shift"][which]))


def _gauge_bins(columns: list[Any]) -> dict[int, GaugeBin]:
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {index: GaugeBin(low, high, last) for index, low, high, last in rows}


def _amount(s: Any, which: int) -> Amount:
    count = s["a_count"][which]
    bins = dict(zip(s["a_index"][which, :count].tolist(), s["a_value"][which, :count].tolist(), strict=True))
    return Amount.of(bins, 1 << int(s["a_shift"][which]))
