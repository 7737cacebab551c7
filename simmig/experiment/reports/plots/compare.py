"""Two timelines under one another: the migration as predicted, and as it went."""

from __future__ import annotations

import textwrap
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simmig.experiment.amounts import format_time
from simmig.experiment.reports.plots.style import DARK, DPI, PAGE_IN, in_style, save
from simmig.experiment.reports.plots.timeline import completed, draw_downtime, draw_pending
from simmig.trace.metrics import Metrics


def plot_compare(predicted: Metrics, measured: Metrics, title: str, path: Path) -> None:
    """Write the picture as a PNG: what was pending, and where the downtime went, on the same scales."""
    with in_style():
        save(_figure(predicted, measured, title), path)


def _figure(predicted: Metrics, measured: Metrics, title: str) -> Figure:
    figure = Figure(figsize=(PAGE_IN, 5.7), dpi=DPI)
    figure.suptitle("predicted above, measured below", x=0.09, y=0.985, ha="left", fontsize=9)
    figure.text(0.09, 0.955, "\n".join(textwrap.wrap(title, 112)), fontsize=7, va="top", color=DARK)
    rows = (("predicted", predicted, 0.62), ("measured", measured, 0.32))
    top = 0.0
    drawn: list[Axes] = []
    for name, metrics, bottom in rows:
        axes = figure.add_axes((0.09, bottom, 0.88, 0.235))
        draw_pending(axes, metrics)
        axes.set_title(
            f"{name}: {format_time(metrics.total_time_ns)}, guest stopped for {format_time(metrics.downtime_ns)}"
            + ("" if completed(metrics) else ", not completed"),
            loc="left",
            fontsize=7.5,
            fontweight="bold",
        )
        top = max(top, axes.get_ylim()[1])
        drawn.append(axes)
    width_s = max(predicted.total_time_ns, measured.total_time_ns, 1) / 1e9 * 1.01
    for axes in drawn:
        axes.set_xlim(0, width_s)
        axes.set_ylim(0, top)
    drawn[0].tick_params(labelbottom=False)
    drawn[1].set_xlabel("time since the migration began (s)")
    widest_ns = max(predicted.downtime_ns, measured.downtime_ns)
    for (name, metrics, _), bottom in zip(rows, (0.17, 0.075), strict=True):
        axes = figure.add_axes((0.09, bottom, 0.88, 0.035))
        draw_downtime(axes, metrics, widest_ns)
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)
        if name == "predicted" and completed(metrics):
            axes.tick_params(labelbottom=False)
            axes.set_xlabel("")
    return figure
