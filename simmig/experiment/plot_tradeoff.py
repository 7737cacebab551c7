"""The trade-off in one picture: downtime against total time, one point a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simmig.experiment.plot_timeline import BLUE, GREEN, ORANGE, VERMILLION

_STYLES = (("o", BLUE), ("s", VERMILLION), ("^", GREEN), ("D", ORANGE))

Point = tuple[str, float, float]
"""A policy, its total time in seconds, its downtime in milliseconds."""


def plot_tradeoff(groups: Mapping[str, Sequence[Point]], title: str, path: Path) -> None:
    """Write the picture as a PNG; `groups` are drawn apart, each with its name in the legend."""
    figure = Figure(figsize=(10, 6), dpi=120)
    axes = figure.add_axes((0.09, 0.11, 0.64, 0.74))
    figure.text(0.09, 0.945, "Downtime against total time, one point a policy", fontsize=13)
    figure.text(0.09, 0.895, title, fontsize=9, color="#444444")
    axes.set_xlabel("total time (s)")
    axes.set_ylabel("downtime (ms), logarithmic")
    axes.set_yscale("log")
    for (name, points), (marker, color) in zip(groups.items(), _STYLES, strict=False):
        x, y = [point[1] for point in points], [point[2] for point in points]
        axes.scatter(x, y, marker=marker, color=color, s=50, alpha=0.75, label=name, zorder=3)
    axes.margins(0.08, 0.12)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=len(groups), frameon=False, fontsize=9)
    labels = [
        (*point, color)
        for points, (_, color) in zip(groups.values(), _STYLES, strict=False)
        for point in _merged(axes, points)
    ]
    _label_beside(axes, labels)
    figure.savefig(path, metadata={"Software": None})


def _place(axes: Axes, x: float, y: float) -> tuple[float, float]:
    """Where a point is, as shares of the axes' width and height."""
    place = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
    return float(place[0]), float(place[1])


def _merged(axes: Axes, points: Sequence[Point]) -> list[Point]:
    """Points that a reader would take for one get one label."""
    merged: list[Point] = []
    for name, x, y in sorted(points, key=lambda point: (point[2], point[1], point[0])):
        for i, (other, other_x, other_y) in enumerate(merged):
            here, there = _place(axes, x, y), _place(axes, other_x, other_y)
            if abs(here[0] - there[0]) < 0.012 and abs(here[1] - there[1]) < 0.012:
                merged[i] = (f"{other}\n{name}", other_x, other_y)
                break
        else:
            merged.append((name, x, y))
    return merged


def _label_beside(axes: Axes, labels: Sequence[tuple[str, float, float, str]]) -> None:
    """All labels in one column right of the axes, in the order of their points, so that none hides another."""
    line = 0.042
    placed = sorted(labels, key=lambda label: label[2])
    heights = [line * (text.count("\n") + 1) for text, *_ in placed]
    bottoms: list[float] = []
    floor = -0.05
    for (_, x, y, _), height in zip(placed, heights, strict=True):
        bottoms.append(max(floor, _place(axes, x, y)[1] - height / 2))
        floor = bottoms[-1] + height + 0.02
    overflow = max(0.0, floor - 1.05)
    for (text, x, y, color), bottom, height in zip(placed, bottoms, heights, strict=True):
        axes.annotate(
            text,
            (x, y),
            xytext=(1.05, bottom + height / 2 - overflow),
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color=color,
            arrowprops={"arrowstyle": "-", "color": color, "alpha": 0.4, "lw": 0.8},
        )
