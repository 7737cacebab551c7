"""Two timelines under one another: the migration as predicted, and as it went."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simmig.experiment.amounts import format_time
from simmig.experiment.reports.plots.timeline import draw_downtime, draw_pending
from simmig.trace.metrics import Metrics


def plot_compare(predicted: Metrics, measured: Metrics, title: str, path: Path) -> None:
    """Write the picture as a PNG: what was pending, and where the downtime went, on the same scales."""
    figure = Figure(figsize=(10, 8), dpi=120)
    figure.suptitle("predicted above, measured below", x=0.09, y=0.985, ha="left", fontsize=13)
    figure.text(0.09, 0.93, title, fontsize=9, color="#444444")
    rows = (("predicted", predicted, 0.60), ("measured", measured, 0.27))
    top = 0.0
    drawn: list[Axes] = []
    for name, metrics, bottom in rows:
        axes = figure.add_axes((0.09, bottom, 0.88, 0.25))
        draw_pending(axes, metrics)
        axes.set_title(
            f"{name}: {format_time(metrics.total_time_ns)}, guest stopped for {format_time(metrics.downtime_ns)}",
            loc="left",
            fontsize=10,
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
    widest_ms = max(predicted.downtime_ns, measured.downtime_ns, 1) / 1e6 * 1.01
    for (name, metrics, _), bottom in zip(rows, (0.145, 0.05), strict=True):
        axes = figure.add_axes((0.09, bottom, 0.88, 0.035))
        draw_downtime(axes, metrics)
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        if name == "predicted":
            axes.tick_params(labelbottom=False)
            axes.set_xlabel("")
        axes.set_xlim(0, widest_ms * (1e3 if "(us)" in axes.get_xlabel() else 1))
    figure.savefig(path, metadata={"Software": None})
