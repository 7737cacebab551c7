"""Several runs in one picture: total times and, beside them, what the downtimes are made of, a lane a run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simmig.experiment.amounts import format_time
from simmig.experiment.reports.plots.downtime import PARTS
from simmig.experiment.reports.plots.style import BLUE, PAGE_IN, VERMILLION, in_style, new_figure
from simmig.experiment.result import Result

_NAME_WIDTH, _NAME_LINES = 36, 3
"""Room for a name, in characters: a long setting stays whole, and two that begin alike can be told apart."""
_ROOM = 1.25


def figure(runs: Sequence[tuple[str, Result]]) -> Figure:
    """Name and result of each run, from top to bottom."""
    with in_style():
        names = [
            textwrap.fill(name, _NAME_WIDTH, max_lines=_NAME_LINES, placeholder=" \u2026") for name, _ in runs
        ]
        lane_in = 0.34 if max(name.count("\n") for name in names) < 2 else 0.44
        drawn = new_figure(PAGE_IN, 1.0 + lane_in * len(runs))
        total, downtime = drawn.subplots(1, 2, sharey=True)
        _draw_totals(total, [result for _, result in runs])
        _draw_downtimes(downtime, [result for _, result in runs])
        total.set_yticks(range(len(runs)), names)
        total.set_ylim(len(runs) - 0.5, -0.5)  # whatever has no bar has its lane as well
        for axes in (total, downtime):
            axes.tick_params(axis="y", length=0)
            axes.spines[["top", "right", "left"]].set_visible(False)
        drawn.legend(*downtime.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return drawn


def _draw_totals(axes: Axes, results: Sequence[Result]) -> None:
    longest_s = 0.0
    for lane, result in enumerate(results):
        if result.status != "completed":
            _draw_lost(axes, lane, result)
            continue
        total_s = result.metrics.total_time_ns / 1e9
        longest_s = max(longest_s, total_s)
        axes.barh(lane, total_s, height=0.6, color=BLUE, lw=0)
        axes.text(total_s, lane, f" {format_time(result.metrics.total_time_ns)}", va="center", fontsize=6)
    axes.set_xlim(0, longest_s * _ROOM or 1.0)
    axes.set_xlabel("total time (s)")


def _draw_downtimes(axes: Axes, results: Sequence[Result]) -> None:
    done = [result for result in results if result.status == "completed"]
    longest_ns = max((result.metrics.downtime_ns for result in done), default=0)
    scale, unit = (1e6, "ms") if longest_ns >= 1_000_000 else (1e3, "us")
    for lane, result in enumerate(results):
        if result.status != "completed":
            continue
        left = 0.0
        for name, label, color, hatch in PARTS:
            width = getattr(result.metrics.downtime, name) / scale
            look: dict[str, Any] = {"color": color, "hatch": hatch, "edgecolor": "white", "lw": 0}
            axes.barh(lane, width, left=left, height=0.6, label=label if result is done[0] else None, **look)
            left += width
        axes.text(left, lane, f" {format_time(result.metrics.downtime_ns)}", va="center", fontsize=6)
    axes.set_xlim(0, longest_ns / scale * _ROOM or 1.0)
    axes.set_xlabel(f"downtime ({unit})")


def _draw_lost(axes: Axes, lane: int, result: Result) -> None:
    """No bar: what did not complete has no time to compare."""
    axes.text(
        0.01, lane, f"\u2717 {result.status}", va="center", fontsize=6, color=VERMILLION,
        transform=axes.get_yaxis_transform(),
    )  # fmt: skip
