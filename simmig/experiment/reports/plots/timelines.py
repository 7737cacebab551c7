"""Pending bytes over time, several runs in one picture: a lane a run, all on the same scales."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simmig.experiment.amounts import format_bytes
from simmig.experiment.errors import InputError
from simmig.experiment.reports.plots.quantities import quantity, tell
from simmig.experiment.reports.plots.style import (
    COLUMN_IN,
    DARK,
    PAGE_IN,
    VERMILLION,
    in_style,
    new_figure,
    ordered,
    styles,
)
from simmig.experiment.reports.plots.timeline import steps
from simmig.trace.metrics import Metrics
from simmig.trace.reader import TraceError, read_trace

TRACE, RESULT = "trace.jsonl.gz", "result.json"


@dataclass(frozen=True)
class Run:
    """A run as `simmig run --out` left it: its place, its figures, and what its trace tells."""

    path: Path
    figures: dict[str, Any]
    metrics: Metrics

    @property
    def policy(self) -> str:
        """The policy's name."""
        return str(self.figures["policy"])


def is_run(path: Path) -> bool:
    """Whether the directory is one that `simmig run --out` leaves."""
    return (path / RESULT).is_file() and (path / TRACE).is_file()


def read_run(path: Path) -> Run:
    """Read a run's directory; raises InputError."""
    try:
        figures = json.loads((path / RESULT).read_text(encoding="utf-8"))
        figures["policy"], figures["status"]
        metrics = Metrics()
        for event in read_trace(path / TRACE):
            metrics(event)
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        told = str(error) if isinstance(error, TraceError) else f"{path / RESULT}: no result of a run: {error}"
        raise InputError(told) from None
    return Run(path, figures, metrics)


def figure(runs: Sequence[Run]) -> Figure:
    """All runs in one figure."""
    with in_style():
        drawn = new_figure(PAGE_IN if len(runs) > 1 else COLUMN_IN, 0.7 + 0.62 * len(runs))
        draw(drawn.subplots(), runs)
    return drawn


def draw(axes: Axes, runs: Sequence[Run]) -> None:
    """A lane for each run, those that wait least at the top; where the guest stood still is marked."""
    policies = ordered([run.policy for run in runs])
    lanes = sorted(runs, key=lambda run: policies.index(run.policy))
    looks = styles(policies)
    highest = max(1, *(run.metrics.max_pending_bytes for run in lanes))
    longest_ns = max(1, *(run.metrics.total_time_ns for run in lanes))
    time = quantity("total_time_ns", [longest_ns])
    for number, run in enumerate(lanes):
        _draw_lane(axes, run, len(lanes) - 1 - number, highest, time.divisor, looks[run.policy].color)
    axes.set_xlim(0, longest_ns / time.divisor * 1.005)
    axes.set_ylim(-0.06, len(lanes))
    axes.set_yticks([len(lanes) - 1 - number + 0.4 for number in range(len(lanes))], _names(lanes))
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel(f"time since the migration began ({time.unit})")
    axes.set_title(
        f"Pending writes; a lane is {format_bytes(highest)} high; the guest stands still where it is red",
        loc="left", fontsize=8,
    )  # fmt: skip


def _draw_lane(axes: Axes, run: Run, base: int, highest: int, divisor: float, color: str) -> None:
    metrics = run.metrics
    end_ns = metrics.began_ns + metrics.total_time_ns
    times, lows, highs = steps(metrics.pending, end_ns)
    axes.axhline(base, color=DARK, lw=0.4)
    if len(times):
        at = (times - metrics.began_ns) / divisor
        low, high = base + 0.8 * lows / highest, base + 0.8 * highs / highest
        axes.fill_between(at, low, high, step="post", color=color, lw=0, alpha=0.45)
        axes.fill_between(at, base, low, step="post", color=color, lw=0, alpha=0.2)
        axes.step(at, high, where="post", color=color, lw=0.7)
    if metrics.stopped_ns is not None:
        stop = (metrics.stopped_ns - metrics.began_ns) / divisor
        axes.fill_between(
            [stop, stop + metrics.downtime_ns / divisor], base, base + 0.86, color=VERMILLION, lw=0, alpha=0.5
        )
        axes.plot([stop, stop], [base, base + 0.86], color=VERMILLION, lw=0.8)
    status = run.figures["status"]
    stopped = f"at the stop {format_bytes(metrics.pending_bytes_at_stop)}"
    told = f"at most {format_bytes(metrics.max_pending_bytes)}; "
    told += stopped if metrics.stopped_ns is not None else "never stopped"
    told += (
        f"; downtime {tell('downtime_ns', metrics.downtime_ns)}" if status == "completed" else f"; \u2717 {status}"
    )
    axes.text(
        0,
        base + 0.92,
        f" {told}",
        fontsize=6,
        va="top",
        ha="left",
        color=DARK if status == "completed" else VERMILLION,
    )


def _names(runs: Sequence[Run]) -> list[str]:
    """The policies' names, or, where two runs have the same, those of their directories."""
    names = [run.policy for run in runs]
    return names if len(set(names)) == len(names) else [run.path.name for run in runs]
