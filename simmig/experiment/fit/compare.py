"""A migration predicted and carried out: what the model of the devices says, and what they did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from simmig.experiment.fit.calibrate import Model, Tell, calibrate_devices
from simmig.experiment.result import Result
from simmig.experiment.runs.pair import run_pair
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.machine import Devices
from simmig.experiment.scenario.schema import Scenario

TOTAL_TIME_AIM = 0.05
DOWNTIME_AIM, DOWNTIME_AIM_NS = 0.15, 20_000_000
"""A prediction hits when the total time is off by no more than that share; the downtime by share or time."""


@dataclass(frozen=True)
class Row:
    """A figure, predicted and measured; `hit` is None where nothing is aimed at or a run did not end well."""

    name: str
    key: str
    predicted: float
    measured: list[float]
    hit: bool | None

    @property
    def typical(self) -> float:
        """The median of what was measured."""
        return median(self.measured)

    @property
    def off(self) -> float | None:
        """How far the prediction is off, relative to the median; None when that is nothing."""
        return self.predicted / self.typical - 1 if self.typical else None


@dataclass(frozen=True)
class Comparison:
    """A model, what was simulated with it, and what was measured, once or several times."""

    model: Model
    scenario: Scenario
    predicted: Result
    measured: Sequence[Result]

    @property
    def good(self) -> bool:
        """Every run ended as it should, and every aim was hit."""
        runs = (self.predicted, *self.measured)
        return all(each.good for each in runs) and all(row.hit is not False for row in self.rows())

    def typical(self) -> Result:
        """The measured run whose total time is the median's (the upper of two)."""
        ordered = sorted(self.measured, key=lambda result: result.metrics.total_time_ns)
        return ordered[len(ordered) // 2]

    def rows(self) -> list[Row]:
        """The figures, side by side; without downtimes where a run did not complete, which has none."""
        rows = [
            self._row("total time", "total_time_ns", total_time_hit),
            self._row("downtime", "downtime_ns", downtime_hit),
            *(
                self._row(f"  {part.replace('_', ' ')}", f"downtime_parts.{part}_ns", None)
                for part in ("residual_pages", "drain", "device_state", "switch")
            ),
            self._row("setup", "setup_time_ns", None),
            self._row("RAM sent", "bytes_posted", None),
            self._row("on the wire", "bytes_on_wire", None),
            self._row("rounds", "rounds", None),
            self._row("slices", "slices", None),
            self._row("drains", "drains", None),
            self._row("waited for the policy", "drain_time_ns", None),
            self._row("  for the control channel", "forced_drain_time_ns", None),
        ]
        return [row for row in rows if row is not None]

    def document(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "model": self.model.document(),
            "predicted": self.predicted.figures(),
            "measured": [each.figures() for each in self.measured],
            "rows": [
                {
                    "figure": row.key,
                    "predicted": row.predicted,
                    "measured": row.typical,
                    "off": row.off,
                    "hit": row.hit,
                }
                for row in self.rows()
            ],
        }

    def _row(self, name: str, key: str, judge: Callable[[float, float], bool] | None) -> Row | None:
        predicted = _figure(self.predicted, key)
        measured = [figure for each in self.measured if (figure := _figure(each, key)) is not None]
        if predicted is None or len(measured) < len(self.measured):
            return None
        ended_well = all(each.good for each in (self.predicted, *self.measured))
        hit = judge(predicted, median(measured)) if judge is not None and ended_well else None
        return Row(name, key, predicted, measured, hit)


def total_time_hit(predicted_ns: float, measured_ns: float) -> bool:
    """Whether it is near enough."""
    return abs(predicted_ns - measured_ns) <= TOTAL_TIME_AIM * measured_ns


def downtime_hit(predicted_ns: float, measured_ns: float) -> bool:
    """Whether it is near enough."""
    return abs(predicted_ns - measured_ns) <= max(DOWNTIME_AIM * measured_ns, DOWNTIME_AIM_NS)


def compare(scenario: Scenario, devices: Devices, repeats: int, tell: Tell) -> Comparison:
    """Calibrate, simulate with that, carry out `repeats` times. Raises what these raise."""
    model = calibrate_devices(devices, tell)
    return compare_with(model, scenario, repeats, tell)


def compare_with(model: Model, scenario: Scenario, repeats: int, tell: Tell) -> Comparison:
    """The same with a model that was calibrated before."""
    scenario = model.applied_to(scenario)
    tell("simulating")
    predicted = run(scenario)
    measured = []
    for number in range(repeats):
        tell(f"migrating, {number + 1} of {repeats}")
        measured.append(run_pair(scenario, model.devices))
    return Comparison(model, scenario, predicted, measured)


def _figure(result: Result, key: str) -> float | None:
    value: Any = result.figures()
    for part in key.split("."):
        value = value[part]
    return None if value is None and key.startswith("downtime") else float(value or 0)
