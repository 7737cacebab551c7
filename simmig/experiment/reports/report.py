"""A run with its results written down: summary, figures, trace, timelines."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from simmig.experiment.output import OutputDir
from simmig.experiment.reports.summary import as_text, headline, summary
from simmig.experiment.result import Result
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.schema import Scenario
from simmig.trace.perfetto import Timeline
from simmig.trace.readers import Reader
from simmig.trace.recorder import Sink, TraceFile

CarryOut = Callable[[Scenario, Sequence[Reader], Sink | None], Result]
"""Carries a scenario out, and shows the readers and the sink its trace."""


def run_into(
    directory: OutputDir | None, scenario: Scenario, readers: Sequence[Reader] = (), carry_out: CarryOut = run
) -> Result:
    """Carry a scenario out, simulated unless told otherwise; given a directory, leave there all there is to know.

    summary.txt is for reading, result.json has the figures and the tables of rounds and slices, trace.jsonl.gz
    every event, timeline.json opens in Perfetto, timeline.png is the same as a picture.
    """
    if directory is None:
        return carry_out(scenario, readers, None)
    timeline = Timeline()
    with TraceFile(directory.work / "trace.jsonl.gz") as file:
        result = carry_out(scenario, (timeline, *readers), file.sink)
    metrics = result.metrics
    (directory.work / "summary.txt").write_text(as_text(summary(result, scenario)), encoding="utf-8")
    (directory.work / "result.json").write_bytes(json_document(result.figures() | result.tables()))
    (directory.work / "timeline.json").write_bytes(timeline.json(metrics.pending, metrics.remaining_pages))
    if can_plot():
        _plot(result, scenario, directory.work / "timeline.png")
    directory.keep()
    return result


def can_plot() -> bool:
    """Whether matplotlib, which is optional, is there."""
    return importlib.util.find_spec("matplotlib") is not None


def json_document(figures: object) -> bytes:
    """Indented JSON with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n"


def _plot(result: Result, scenario: Scenario, path: Path) -> None:
    from simmig.experiment.reports.plots.timeline import plot_timeline  # noqa: PLC0415  # optional

    plot_timeline(result.metrics, headline(result, scenario).plain, path)
