"""Predict a recorded QEMU migration from its setup, its first round and its guest's dirtying, and vary it.

The costs come from setup and first round (`calibrate_log.py`), the guest from all of the log (`predict_guest.py`);
everything else is simulated, with QEMU's policy and defaults or what the user puts in their place. The moment of
the stop falls on a slice's end, and where slices end is a matter of chance. So the migration is simulated with the
costs of several bootstrap resamples of the calibrating events: the run nearest to their mean, in total time and in
downtime, is the prediction. How sure it is: `predict_range.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from simmig.experiment.errors import InputError
from simmig.experiment.fit.calibrate_log import Calibration, CalibrationError, calibrate_recording
from simmig.experiment.fit.calibrate_round import FirstRound, Lacking, settle
from simmig.experiment.fit.link_speed import slowdowns
from simmig.experiment.fit.predict_guest import guest_of
from simmig.experiment.fit.predict_limit import limit_of
from simmig.experiment.fit.predict_range import known_errors, range_of
from simmig.experiment.result import Result
from simmig.experiment.runs.run import Simulation, run
from simmig.experiment.scenario.load import Overrides, build_scenario
from simmig.experiment.scenario.machine import Subject
from simmig.experiment.scenario.schema import Scenario
from simmig.trace.metrics import Metrics
from simmig.trace.qemu_attempts import Logged, read_log
from simmig.trace.qemu_events import POLICY, events_of
from simmig.trace.qemu_log import LogError
from simmig.trace.qemu_recording import Recording
from simmig.trace.recorder import Recorder

RESAMPLES = 15
_DEFAULT_LIMIT_NS = 300_000_000
_PATIENCE = 10
"""Rounds, in multiples of those recorded, after which a simulated migration counts as not converging."""
_MIN_ROUNDS = 100
_ON_EDGE = 1.5
"""Longest over shortest resampled run: with costs that hardly differ, others have done so in their rounds."""
_FIXED = "guest"

NOTHING_ELSE = Overrides()
"""The migration as it was recorded."""

_ONE_ROUND = Overrides(["migration.max_rounds=1"])

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Spread:
    """Where the figures should lie in nine of ten cases (`predict_range`): lowest and highest."""

    total_time_ns: tuple[int, int]
    downtime_ns: tuple[int, int]


@dataclass(frozen=True)
class Forecast:
    """A simulated migration: what was simulated, what came out, and how sure that is.

    `resampled` has (total time, downtime) of every resampled run, `at_other_speeds` the same with the link as fast
    as in each stretch of a recording whose link's speed changed; `incomplete` of all these do not complete.
    """

    scenario: Scenario
    result: Result
    resampled: list[tuple[int, int]]
    at_other_speeds: list[tuple[int, int]] = field(default_factory=list)
    incomplete: int = 0

    @property
    def on_edge(self) -> bool:
        """Whether it is a matter of chance when, or whether, it converges: equally good costs differ so much."""
        totals = [total_ns for total_ns, _ in self.resampled]
        return 0 < self.incomplete < len(totals) or max(totals) > _ON_EDGE * min(totals)

    @property
    def spread(self) -> Spread:
        """The ranges."""
        errors = known_errors()
        ranges = []
        for which, name in enumerate(("total_time", "downtime")):
            ratios = [getattr(each, name) for each in errors]
            found = [range_of([each[which] for each in self.resampled], ratios)]
            found += [range_of([each[which]], ratios) for each in self.at_other_speeds]
            ranges.append((min(low for low, _ in found), max(high for _, high in found)))
        return Spread(*ranges)


@dataclass(frozen=True)
class Prediction:
    """A recorded migration beside its simulation.

    Attributes:
        logged: what the log tells, and what of it was not understood.
        calibration: the costs taken from its setup and first round.
        lacking: what had to be added for the first round to come out as recorded, and how near it comes.
        subject: its guest.
        asked: what the user wants to be different.
        recorded: the log's own figures.
        predicted: the same migration, simulated.
        varied: what the user's policy and settings make of it, if there are any.
    """

    logged: Logged
    calibration: Calibration
    lacking: Lacking
    subject: Subject
    asked: Overrides
    recorded: Result
    predicted: Forecast
    varied: Forecast | None

    @property
    def recording(self) -> Recording:
        """What the log tells of the migration."""
        return self.logged.recording

    @property
    def answer(self) -> Forecast:
        """What was asked for: the varied migration if there is one."""
        return self.varied or self.predicted


def predict(path: Path, overrides: Overrides = NOTHING_ELSE, tell: Tell | None = None) -> Prediction:
    """Read the log at `path`, calibrate, simulate.

    Args:
        path: QEMU's trace log of the source, plain or compressed.
        overrides: policy and settings that make a different migration of it; the guest stays as recorded.
        tell: called with what is being done.

    Raises InputError for a log that cannot be used and for bad overrides.
    """
    for setting in overrides.settings:
        table = setting.partition("=")[0].partition(".")[0].strip()
        if table == _FIXED:
            text = "the guest is the recording's; set migration, link, host, destination_host or device"
            raise InputError(f"--set {setting}: {text}")
    try:
        logged = read_log(path)
        recording = logged.recording
        calibration = calibrate_recording(recording)
        subject = guest_of(recording)
    except LogError as error:
        raise InputError(str(error)) from None
    except (CalibrationError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None
    study = _Study(path, logged, subject, tell or _quiet)
    changed = bool(overrides.settings or overrides.policy)
    lacking = study.settle(calibration)
    calibration = lacking.charged(calibration)
    predicted = study.forecast(calibration, NOTHING_ELSE)
    varied = study.forecast(calibration, overrides) if changed else None
    return Prediction(
        logged, calibration, lacking, subject, overrides, recorded_result(recording), predicted, varied
    )


def recorded_result(recording: Recording) -> Result:
    """The recording's own figures, by the same code that computes those of a simulation."""
    metrics = Metrics()
    recorder = Recorder((metrics,))
    for event in events_of(recording):
        recorder.emit(event)
    recorder.flush()
    return Result(
        status="completed" if recording.complete else "failed",
        reason="" if recording.complete else "the log ends before the migration does",
        backend="qemu",
        policy=POLICY,
        policy_parameters={},
        seed=0,
        invariants={},
        source_running=False,
        destination_running=recording.complete,
        trace_sha256=recorder.sha256(),
        metrics=metrics,
    )


class _Study:
    """One recording, simulated as often as it takes."""

    def __init__(self, path: Path, logged: Logged, subject: Subject, tell: Tell) -> None:
        self._path = path
        self._logged = logged
        self._recording = logged.recording
        self._subject = subject
        self._tell = tell
        self._lacking = Lacking()

    def settle(self, calibration: Calibration) -> Lacking:
        """What the calibration lacks to reproduce its own round; charged in all that is simulated from now on."""
        recorded = FirstRound()
        if len(self._recording.syncs) > 1 and not self._recording.began_late:
            for event in events_of(self._recording):
                recorded(event)
        self._tell("simulating the first round")
        self._lacking = settle(recorded, calibration, self._first_round)
        return self._lacking

    def _first_round(self, calibration: Calibration) -> FirstRound:
        simulated = FirstRound()
        scenario = self._scenario(calibration, _ONE_ROUND)
        Simulation(scenario, simulated, self._subject).run()
        return simulated

    def forecast(self, calibration: Calibration, overrides: Overrides) -> Forecast:
        """Simulate with resampled costs, and once more, recorded, the run nearest to the mean."""
        self._scenario(calibration, overrides)  # bad input is told before anything takes time
        scenarios = []
        figures = []
        for number in range(1, RESAMPLES + 1):
            self._tell(f"simulating, {number} of {RESAMPLES}")
            drawn = calibrate_recording(self._recording, Random(number))
            scenario = self._scenario(self._lacking.charged(drawn), overrides)
            scenarios.append(scenario)
            figures.append(self._figures(scenario))
        found = [(total_ns, downtime_ns) for total_ns, downtime_ns, _ in figures]
        scenario = scenarios[typical(found)]
        incomplete = sum(not good for *_, good in figures)
        others = []
        for factor in slowdowns(self._recording):
            bandwidth = max(1000, round(factor * calibration.bandwidth_bit_s))
            at_speed = self._scenario(replace(calibration, bandwidth_bit_s=bandwidth), overrides)
            total_ns, downtime_ns, good = self._figures(at_speed)
            incomplete += not good
            others.append((total_ns, downtime_ns))
        return Forecast(scenario, run(scenario, subject=self._subject), found, others, incomplete)

    def _figures(self, scenario: Scenario) -> tuple[int, int, bool]:
        """Total time, downtime, and whether it completes."""
        metrics = Metrics()
        world = Simulation(scenario, metrics, self._subject)
        world.run()
        return metrics.total_time_ns, metrics.downtime_ns, world.outcome.status == "completed"

    def _scenario(self, calibration: Calibration, overrides: Overrides) -> Scenario:
        tables = scenario_tables(self._path, self._logged, calibration, self._subject)
        scenario = build_scenario(tables, self._path, overrides)
        if scenario.migration.transport != "rdma":
            raise InputError(f"{self._path}: a log of an RDMA migration does not tell what a socket costs")
        return scenario


def scenario_tables(path: Path, logged: Logged, calibration: Calibration, subject: Subject) -> dict[str, Any]:
    """The recorded migration as a scenario file would put it; `subject` is its guest."""
    recording, limit = logged.recording, limit_of(logged)
    limit_ns = recording.downtime_limit_ns or _DEFAULT_LIMIT_NS
    return {
        "guest": {
            "block": [
                {"name": name, "size": f"{length_bytes} B"} for name, length_bytes in subject.machine.blocks
            ],
            "device_state": f"{subject.machine.device_state_bytes} B",
            "workload": {"kind": "recorded", "file": path.name},
        },
        "link": {"bandwidth": f"{calibration.bandwidth_bit_s} bit/s", "latency": f"{calibration.latency_ns} ns"},
        "host": _costs(calibration.source),
        "destination_host": _costs(calibration.destination),
        "migration": {
            "pin_all": recording.pin_all,
            "max_bandwidth": "unlimited" if limit.bytes_s is None else f"{limit.bytes_s} B/s",
            "rate_limit": limit.kept_as,
            "change": [
                {"at": f"{each.at_ns} ns", "max_bandwidth": f"{each.bytes_s} B/s" if each.bytes_s else "unlimited"}
                for each in limit.changes
            ],
            "downtime_limit": f"{limit_ns} ns",
            "max_rounds": max(_MIN_ROUNDS, _PATIENCE * len(recording.syncs)),
        },
        "policy": {"name": POLICY},
    }


def typical(figures: list[tuple[int, int]]) -> int:
    """Which of these pairs is nearest to the mean of all, both figures relative to theirs."""
    means = [sum(column) / len(figures) or 1.0 for column in zip(*figures, strict=True)]
    return min(
        range(len(figures)),
        key=lambda index: sum(abs(value / mean - 1) for value, mean in zip(figures[index], means, strict=True)),
    )


def _costs(costs: dict[str, float]) -> dict[str, str]:
    return {name.removesuffix("_ns"): f"{cost_ns:.6f} ns" for name, cost_ns in costs.items()}


def _quiet(_: str) -> None:
    return None
