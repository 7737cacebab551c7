"""One candidate's migrations, one for each of some seeds; what worker processes are given to do."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simmig.experiment.result import Result
from simmig.experiment.scenario.load import Overrides, build_scenario
from simmig.experiment.scenario.schema import DirtyRates, HotspotTable, Scenario, UniformTable
from simmig.experiment.studies.advise.pace import Pace, pace_of
from simmig.experiment.studies.advise.space import Candidate
from simmig.experiment.studies.sweep.work import simulate

PIN_ALL = "migration.pin_all"


@dataclass(frozen=True)
class Question:
    """The scenario's tables, the file to name in messages, and what the command line sets in it."""

    raw: dict[str, Any]
    path: Path
    settings: tuple[str, ...] = ()

    @property
    def may_pin(self) -> bool:
        """Whether the command line leaves it open to pin all memory."""
        return not any(setting.partition("=")[0].strip() == PIN_ALL for setting in self.settings)

    def pinned(self) -> Question:
        """The same with all memory pinned at the start."""
        return Question(self.raw, self.path, (*self.settings, f"{PIN_ALL}=true"))

    def scenario(self, candidate: Candidate | None, seed: int | None = None) -> Scenario:
        """With a candidate's choices. Raises InputError."""
        choices = candidate.tables() if candidate is not None else []
        settings = [(key, value, "advise") for key, value in choices]
        overrides = Overrides(self.settings, None, seed)
        return build_scenario(copy.deepcopy(self.raw), self.path, overrides, settings)


@dataclass(frozen=True)
class Outcome:
    """What a candidate's migrations came to, over its seeds.

    Attributes:
        completed: all of them completed, and nothing that must hold was broken.
        total_time_ns: the mean.
        downtime_ns: the longest.
        flat: one did not, and its rounds had stopped to shrink.
        spread_ns: of the total times, the longest less the shortest.
    """

    completed: bool
    total_time_ns: int
    downtime_ns: int
    flat: bool = False
    spread_ns: int = field(default=0, compare=False)


def try_out(question: Question, candidate: Candidate, seeds: Sequence[int]) -> Outcome:
    """Simulate a candidate with each of these seeds, up to the first with which it does not complete."""
    results: list[Result] = []
    for seed in seeds:
        results.append(simulate(giving_up(question.scenario(candidate, seed))))
        if not results[-1].good:
            break
    totals_ns = [result.metrics.total_time_ns for result in results]
    return Outcome(
        all(result.good for result in results),
        sum(totals_ns) // len(totals_ns),
        max(result.metrics.downtime_ns for result in results),
        _is_flat(results[-1]),
        max(totals_ns) - min(totals_ns),
    )


def look(question: Question, candidate: Candidate) -> tuple[int, Pace | None]:
    """One migration of a candidate: how many pages it sent and, where it got stuck, at which pace."""
    scenario = question.scenario(candidate)
    result = simulate(giving_up(scenario))
    return result.metrics.counts.data_pages, pace_of(result, scenario)


def giving_up(scenario: Scenario) -> Scenario:
    """The same, given up as soon as its rounds have stopped to shrink, for no later round can tell more."""
    migration = scenario.migration.model_copy(update={"stop_when_flat": True})
    return scenario.model_copy(update={"migration": migration})


def _is_flat(result: Result) -> bool:
    """Whether it did not converge, and for want of rounds that shrink."""
    return result.status == "not-converging" and result.flat_since_round is not None


def depends_on_seed(scenario: Scenario) -> bool:
    """Whether anything in it is drawn: which pages are written, which packets are lost."""
    return isinstance(scenario.guest.workload, UniformTable | HotspotTable | DirtyRates) or scenario.link.loss > 0
