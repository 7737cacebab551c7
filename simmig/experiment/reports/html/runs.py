"""The report of one run, or of several side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import simmig
from simmig.experiment.amounts import format_bytes, format_rate, format_time
from simmig.experiment.reports.html.page import Fact, Page, Table, picture
from simmig.experiment.reports.plots import timeline, timelines
from simmig.experiment.reports.plots.timelines import Run
from simmig.experiment.reports.summary import ROUND, facts, headline, round_cells
from simmig.experiment.result import Result
from simmig.experiment.scenario.schema import Scenario

MAX_ROWS = 200


def page_of_run(result: Result, title: str, scenario: Scenario | None = None) -> Page:
    """All there is to know of one run; `title` says what ran."""
    shown: list[Fact] = []
    for name, amount, details in facts(
        result, scenario.migration.downtime_limit_ns if scenario is not None else None
    ):
        if name != "invariants":  # they have a table of their own
            shown.append(Fact(name or shown[-1].name, amount, details))
    rounds = result.metrics.rounds
    note = f"The first {MAX_ROWS} of {len(rounds)}." if len(rounds) > MAX_ROWS else ""
    began_ns = result.metrics.began_ns
    return Page(
        title=title,
        verdict=f"{result.status}{f': {result.reason}' if result.reason else ''}",
        good=result.good,
        facts=shown,
        invariants=[(name, "holds" if held else "BROKEN") for name, held in result.invariants.items()],
        pictures=[picture("The migration over time", timeline.figure(result.metrics, title), title)],
        tables=[Table("Rounds", ROUND, [round_cells(row, began_ns) for row in rounds[:MAX_ROWS]], note)],
        sources=_sources(result),
        files=[("Scenario", json.dumps(scenario.model_dump(), indent=2))] if scenario is not None else [],
    )


def page_of(result: Result, scenario: Scenario) -> Page:
    """The same, right after the run."""
    return page_of_run(result, headline(result, scenario).plain, scenario)


def page_of_runs(runs: Sequence[Run]) -> Page:
    """Runs that were left in directories."""
    results = [result_of(run) for run in runs]
    if len(runs) == 1:
        summary = runs[0].path / "summary.txt"
        first = summary.read_text(encoding="utf-8").partition("\n")[0] if summary.is_file() else str(runs[0].path)
        return page_of_run(results[0], first)
    bad = [str(run.path) for run, result in zip(runs, results, strict=True) if not result.good]
    names = list(dict.fromkeys(name for result in results for name in result.invariants))
    return Page(
        title=f"{len(runs)} runs side by side",
        verdict=f"not completed, or broken: {', '.join(bad)}" if bad else "all completed",
        good=not bad,
        facts=[
            Fact("least downtime", *_least(runs, "downtime_ns")),
            Fact("least total time", *_least(runs, "total_time_ns")),
        ],
        invariants=[(name, _held(results, name)) for name in names],
        pictures=[picture("Pending writes over time", timelines.figure(runs), "pending writes of each run")],
        tables=[Table("Runs", _RUN, [_run(run) for run in runs])],
        sources=[("simmig", simmig.__version__), *((str(run.path), _digest(run)) for run in runs)],
    )


def result_of(run: Run) -> Result:
    """The result that a run's directory holds."""
    known = run.figures
    names = ("status", "reason", "backend", "policy", "policy_parameters", "seed", "invariants", "trace_sha256")
    given: dict[str, Any] = {name: known[name] for name in names}
    sides: dict[str, Any] = {name: bool(known[name]) for name in ("source_running", "destination_running")}
    return Result(**given, **sides, metrics=run.metrics, engine=known.get("engine"))


_RUN = ("run", "policy", "status", "total time", "downtime", "at the stop", "pending at most", "throughput")


def _run(run: Run) -> list[str]:
    figures = run.figures
    return [
        run.path.name,
        run.policy,
        figures["status"],
        format_time(figures["total_time_ns"]),
        "none" if figures["downtime_ns"] is None else format_time(figures["downtime_ns"]),
        format_bytes(figures["pending_bytes_at_stop"]),
        format_bytes(figures["max_pending_bytes"]),
        format_rate(figures["throughput_bit_s"]),
    ]


def _least(runs: Sequence[Run], figure: str) -> tuple[str, str]:
    done = [run for run in runs if run.figures["status"] == "completed"]
    if not done:
        return "none", "nothing completed"
    best = min(done, key=lambda run: run.figures[figure])
    return format_time(best.figures[figure]), best.policy


def _held(results: Sequence[Result], name: str) -> str:
    broken = sum(not result.invariants.get(name, True) for result in results)
    return f"BROKEN in {broken} of {len(results)}" if broken else "holds in all"


def _digest(run: Run) -> str:
    return f"seed {run.figures['seed']}, trace {run.figures['trace_sha256']}"


def _sources(result: Result) -> list[tuple[str, str]]:
    parameters = ", ".join(f"{name} {value}" for name, value in result.policy_parameters.items())
    return [
        ("simmig", simmig.__version__),
        ("backend", result.backend),
        ("policy", f"{result.policy}{f' ({parameters})' if parameters else ''}"),
        ("seed", str(result.seed)),
        ("trace (sha256)", result.trace_sha256 or "not recorded"),
    ]
