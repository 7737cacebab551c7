"""A running QEMU's VM: its migration predicted under some policies, carried out, and both side by side.

What is known of the VM before is in `watched_vm.py`. The link, the devices and the hosts are a calibrated model's.
Nothing of a prediction comes from the migrations that are predicted.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from simmig.experiment.errors import InputError
from simmig.experiment.fit.calibrate import Model, Tell, calibrate_devices
from simmig.experiment.fit.watched_vm import Watched, watch_vm
from simmig.experiment.result import Result
from simmig.experiment.runs.ends import Address, EndResult
from simmig.experiment.runs.ends_qemu import migrate_vm
from simmig.experiment.runs.run import run
from simmig.experiment.runs.run_rdma import interruptible
from simmig.experiment.scenario.machine import Devices
from simmig.experiment.scenario.machines import scenario_for
from simmig.experiment.scenario.schema import Scenario
from simmig.guest.qemu.errors import QemuError
from simmig.guest.qemu.monitor import Monitor
from simmig.verbs.rdma.runtime import RdmaRuntime, RdmaSignal

AIM, AIM_NS = 0.25, 50_000_000
"""A prediction hits when it is off by no more than that share of what was measured, or that time."""
_RESUME_PATIENCE_S = 10.0
_TELLING_RUNS = 3


PHASES = 5
"""Where in what it was seen to write a VM is when its migration begins: nobody knows, so each is as likely."""


@dataclass(frozen=True)
class Predicted:
    """A migration simulated from some points of what the VM was seen to write; figures are their medians.

    `extra_ns` is what the stopped VM waits beyond a simulation (`Watched.extra_ns`).
    """

    results: Sequence[Result]
    extra_ns: int

    @property
    def result(self) -> Result:
        """The one with the median downtime; one that did not end well comes first."""
        ranked = sorted(self.results, key=lambda each: each.metrics.downtime_ns)
        return next((each for each in ranked if not each.good), ranked[len(ranked) // 2])

    @property
    def downtimes_ns(self) -> list[int]:
        """From the guest's stop until it runs there, in order."""
        return sorted(each.metrics.downtime_ns + self.extra_ns for each in self.results)

    @property
    def downtime_ns(self) -> int:
        """The median of them."""
        return round(median(self.downtimes_ns))

    @property
    def total_time_ns(self) -> int:
        """From the start until it runs there."""
        return round(median(each.metrics.total_time_ns for each in self.results)) + self.extra_ns


@dataclass(frozen=True)
class Measured:
    """A migration carried out. `qemu_downtime_ns` is by QEMU's clock: from its STOP here to its RESUME there."""

    result: EndResult
    qemu_downtime_ns: int | None

    @property
    def downtime_ns(self) -> int:
        """QEMU's where it is known, else simmig's, which ends when the destination has the last byte."""
        return self.result.metrics.downtime_ns if self.qemu_downtime_ns is None else self.qemu_downtime_ns

    @property
    def total_time_ns(self) -> int:
        """Simmig's."""
        return self.result.metrics.total_time_ns


@dataclass(frozen=True)
class Figure:
    """A time, predicted and measured, in ns: `off` by which share, and whether that is near enough."""

    predicted_ns: int
    measured_ns: int

    @property
    def off(self) -> float:
        """Relative to what was measured."""
        return self.predicted_ns / self.measured_ns - 1 if self.measured_ns else 0.0

    @property
    def hit(self) -> bool:
        """Within `AIM` of what was measured, or `AIM_NS`."""
        return abs(self.predicted_ns - self.measured_ns) <= max(AIM * self.measured_ns, AIM_NS)


@dataclass(frozen=True)
class PolicyRow:
    """A policy: predicted, and measured any number of times."""

    policy: str
    predicted: Predicted
    measured: Sequence[Measured] = ()

    @property
    def good(self) -> bool:
        """Whether all ended well; there is no verdict otherwise."""
        return self.predicted.result.good and all(each.result.good for each in self.measured)

    @property
    def downtime(self) -> Figure | None:
        """Predicted against the median measured; None where there is nothing to compare."""
        return self._figure(self.predicted.downtime_ns, [each.downtime_ns for each in self.measured])

    @property
    def total_time(self) -> Figure | None:
        """The same of the total time."""
        return self._figure(self.predicted.total_time_ns, [each.total_time_ns for each in self.measured])

    def _figure(self, predicted_ns: int, measured_ns: list[int]) -> Figure | None:
        return Figure(predicted_ns, round(median(measured_ns))) if measured_ns and self.good else None


def told_apart(rows: Sequence[PolicyRow]) -> list[tuple[str, str, bool]]:
    """Pairs of policies, the first of which had the shorter downtime in every run: was that predicted?

    Of pairs that were run `_TELLING_RUNS` times each: of two and two alike ones, a third are so by chance.
    """
    found = []
    for one in rows:
        for other in rows:
            here, there = ([each.downtime_ns for each in row.measured] for row in (one, other))
            if one.good and other.good and min(len(here), len(there)) >= _TELLING_RUNS and max(here) < min(there):
                kept = one.predicted.downtime_ns <= other.predicted.downtime_ns
                found.append((one.policy, other.policy, kept))
    return found


@dataclass(frozen=True)
class VmComparison:
    """A VM, a model, and what came of each policy."""

    watched: Watched
    model: Model
    rows: Sequence[PolicyRow]

    @property
    def good(self) -> bool:
        """Every run ended as it should, every prediction that was tried hit, as did the order of policies."""
        figures = [each for row in self.rows for each in (row.downtime, row.total_time)]
        in_order = all(as_predicted for _, _, as_predicted in told_apart(self.rows))
        hit = all(figure is None or figure.hit for figure in figures)
        return in_order and hit and all(row.good for row in self.rows)

    def document(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "model": self.model.document(),
            "watched": {
                "duration_ns": self.watched.seen.duration_ns,
                "rate_bytes_s": self.watched.seen.rate_bytes_s,
                "working_set_bytes": self.watched.seen.working_set_bytes,
                "look_ns": self.watched.seen.look_ns,
                "stop_ns": self.watched.stop_ns,
                "save_ns": self.watched.save_ns,
                "resume_ns": self.watched.resume_ns,
                "last_look_ns": self.watched.last_look_ns,
                "device_state_bytes": self.watched.state_bytes,
            },
            "policies": [document(row) for row in self.rows],
        }


def document(row: PolicyRow) -> dict[str, Any]:
    """A policy's part of it."""
    found: dict[str, Any] = {"policy": row.policy}
    for key, figure in (("downtime", row.downtime), ("total_time", row.total_time)):
        found[key] = None
        if figure is not None:
            both = {"predicted_ns": figure.predicted_ns, "measured_ns": figure.measured_ns}
            found[key] = both | {"off": figure.off, "hit": figure.hit}
    predicted = {
        "downtime_ns": row.predicted.downtime_ns,
        "downtimes_ns": row.predicted.downtimes_ns,
        "total_time_ns": row.predicted.total_time_ns,
    }
    found["predicted"] = row.predicted.result.figures() | predicted
    found["measured"] = [
        each.result.figures() | {"qemu_downtime_ns": each.qemu_downtime_ns} for each in row.measured
    ]
    return found


@dataclass(frozen=True)
class Asked:
    """What is to be compared.

    Attributes:
        qmp: the QMP socket of the QEMU whose VM it is.
        to: where its destination listens; `destination_qmp` is that one's QMP socket, if it can be asked.
        watch_ns: how long the VM is watched; None: as long as the link takes for its memory once (`watch_vm`).
        policies: each as it was given, and how to migrate under it.
        model: of link, devices and hosts; without it `devices` are calibrated.
        name: the device to send from, by default where the routes lead.
        fresh: starts VM and destination anew; without it there is one migration, the first policy's.
        repeats: migrations of each policy.
    """

    qmp: Path
    to: Address
    destination_qmp: Path | None
    watch_ns: int | None
    policies: Sequence[tuple[str, Scenario]]
    model: Model | None
    devices: Devices | None
    name: str | None
    fresh: str | None
    repeats: int


def scenarios(qmp: Path, policies: Sequence[str], settings: Sequence[str]) -> list[tuple[str, Scenario]]:
    """How to migrate the VM under each of the policies (none: the default one). Raises InputError."""
    found = [scenario_for(qmp, (tuple(settings), policy, None)) for policy in policies or (None,)]
    return [(policy or each.policy.name, each) for policy, each in zip(policies or (None,), found, strict=True)]


def compare(asked: Asked, tell: Tell) -> VmComparison:
    """Calibrate, watch, predict, migrate. Raises InputError, RdmaUnavailable, PeerFailed or OSError."""
    model = asked.model
    if model is None:
        assert asked.devices is not None
        model = calibrate_devices(asked.devices, tell)
    watched = watch_vm(asked.qmp, asked.watch_ns, bandwidth_bit_s(model), tell)
    rows = []
    for policy, scenario in asked.policies:
        tell(f"predicting {policy}")
        rows.append(PolicyRow(policy, predict(watched, model.applied_to(scenario))))
    measured: dict[int, list[Measured]] = {index: [] for index in range(len(rows))}
    runs = [index for _ in range(asked.repeats) for index in range(len(rows))]
    runs = runs if asked.fresh is not None else runs[:1]
    for number, index in enumerate(runs, start=1):
        if number > 1:
            assert asked.fresh is not None
            tell("starting the VM anew")
            start_afresh(asked.fresh)
        policy, scenario = asked.policies[index]
        tell(f"migrating, {policy}, {number} of {len(runs)}")
        measured[index].append(measure(scenario, asked.qmp, asked.to, asked.name, asked.destination_qmp))
    return VmComparison(watched, model, [replace(row, measured=measured[i]) for i, row in enumerate(rows)])


def bandwidth_bit_s(model: Model) -> float:
    """The link's, as it was calibrated."""
    return float(model.scenario_tables(Path("the model"))["link"].bandwidth_bit_s)


def predict(watched: Watched, scenario: Scenario) -> Predicted:
    """Simulate the VM's migration; `scenario` says how, and on what."""
    here = watched.on_its_hosts(scenario)
    phases = [each / PHASES for each in range(PHASES if watched.seen.pages_written else 1)]
    return Predicted([run(here, subject=watched.subject(phase)) for phase in phases], watched.extra_ns)


def measure(
    scenario: Scenario, qmp: Path, to: Address, name: str | None, destination_qmp: Path | None
) -> Measured:
    """Migrate the VM. Raises InputError and RdmaUnavailable; Ctrl-C cancels."""

    async def body() -> Measured:
        runtime = RdmaRuntime()
        async with interruptible(runtime) as cancel:
            return await measure_in(scenario, qmp, to, name, destination_qmp, runtime, cancel)

    return asyncio.run(body())


async def measure_in(
    scenario: Scenario,
    qmp: Path,
    to: Address,
    name: str | None,
    destination_qmp: Path | None,
    runtime: RdmaRuntime,
    cancel: RdmaSignal,
) -> Measured:
    """`measure`, in a loop that runs already."""
    here: dict[str, int] = {}
    there: dict[str, int] = {}
    monitor = None
    if destination_qmp is not None:
        try:
            monitor = await Monitor.connect(destination_qmp)
        except QemuError as error:
            raise InputError(f"--destination-qemu {error}") from None
        monitor.on_event = there.__setitem__
    try:
        result = await migrate_vm(scenario, qmp, to, name, runtime, cancel, hear=here.__setitem__)
        deadline_ns = runtime.now_ns() + round(_RESUME_PATIENCE_S * 1e9)
        while monitor is not None and result.status == "completed" and "RESUME" not in there:
            if runtime.now_ns() > deadline_ns or not monitor.alive:
                break
            await asyncio.sleep(0.02)
    finally:
        if monitor is not None:
            await monitor.close()
    stopped_ns, resumed_ns = here.get("STOP"), there.get("RESUME")
    if stopped_ns is None or resumed_ns is None:
        return Measured(result, None)
    return Measured(result, resumed_ns - stopped_ns)


def start_afresh(command: str) -> None:
    """Run the user's command that starts the VM and its destination anew. Raises OSError when it fails."""
    done = subprocess.run(command, shell=True, check=False, stdin=subprocess.DEVNULL, stdout=2)
    if done.returncode:
        raise OSError(f"--fresh {command!r} ended with status {done.returncode}")
