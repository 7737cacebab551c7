"""The trade-off in one picture: downtime against total time, one point a policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import FuncFormatter, LogLocator
from matplotlib.transforms import Bbox

from simmig.experiment.plot_timeline import BLUE, GREEN, PURPLE, VERMILLION

_STYLES = (("o", BLUE), ("s", VERMILLION), ("^", GREEN), ("D", PURPLE))
_SAME_PX = 9.0  # points nearer than this look like one

Point = tuple[str, float, float]
"""A policy, its total time in seconds, its downtime in milliseconds."""


def plot_tradeoff(groups: Mapping[str, Sequence[Point]], limit_ms: float, title: str, path: Path) -> None:
    """Write the picture as a PNG; `groups` are drawn apart, each with its name in the legend.

    `limit_ms` is the downtime limit that all of them were given.
    """
    figure = Figure(figsize=(10, 6.4), dpi=120)
    axes = figure.add_axes((0.09, 0.1, 0.88, 0.74))
    figure.text(0.09, 0.95, "Downtime against total time, one point a policy", fontsize=13)
    figure.text(0.09, 0.91, title, fontsize=9, color="#444444")
    axes.set_xlabel("total time (s)")
    axes.set_ylabel("downtime (ms)")
    _scale(axes, [point for points in groups.values() for point in points], limit_ms)
    for (name, points), (marker, color) in zip(groups.items(), _STYLES, strict=False):
        x, y = [point[1] for point in points], [point[2] for point in points]
        axes.scatter(x, y, marker=marker, color=color, s=50, alpha=0.75, label=name, zorder=3)
    axes.axhline(limit_ms, color="#444444", lw=1, ls="--", label=f"downtime limit ({limit_ms:g} ms)")
    axes.grid(alpha=0.25, which="both")
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        borderaxespad=0.2,
        ncols=len(groups) + 1,
        frameon=False,
        fontsize=10,
        handletextpad=0.2,
    )
    _label(axes, groups, limit_ms)
    figure.savefig(path, metadata={"Software": None})


def _scale(axes: Axes, points: Sequence[Point], limit_ms: float) -> None:
    """A logarithmic downtime with plain numbers; room for labels on all sides."""
    low_s, high_s = min(point[1] for point in points), max(point[1] for point in points)
    low_ms = min(limit_ms, *(point[2] for point in points))
    high_ms = max(limit_ms, *(point[2] for point in points))
    room_s = max((high_s - low_s) * 0.15, high_s * 0.02)
    axes.set_xlim(low_s - room_s, high_s + room_s)
    axes.set_yscale("log")
    axes.set_ylim(low_ms / 1.6, high_ms * 1.6)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))


def _label(axes: Axes, groups: Mapping[str, Sequence[Point]], limit_ms: float) -> None:
    """Name every point where the name hides neither another name nor a point, nor the limit's line."""
    (left, right), line = axes.get_xlim(), limit_ms
    taken = [Bbox([_pixels(axes, left, line), _pixels(axes, right, line)])]
    for points in groups.values():
        for _, x, y in points:
            px, py = _pixels(axes, x, y)
            taken.append(Bbox.from_extents(px - 5, py - 5, px + 5, py + 5))
    for points, (_, color) in zip(groups.values(), _STYLES, strict=False):
        for names, x, y in _merged(axes, points):
            text = "every policy" if len(names) == len(points) > 1 else "\n".join(names)
            taken.append(_place(axes, text, (x, y), color, taken))


def _place(axes: Axes, text: str, at: tuple[float, float], color: str, taken: Sequence[Bbox]) -> Bbox:
    """Write a label at the nearest free place, or over others where there is none; returns the box it takes."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer = RendererAgg(*figure.canvas.get_width_height(), figure.dpi)  # type: ignore[no-untyped-call]
    inside = axes.get_window_extent(renderer)
    box = Bbox.null()
    for dx, dy, across in _offsets():
        label: Annotation = axes.annotate(
            text,
            at,
            xytext=(dx, dy),
            textcoords="offset points",
            ha=across,
            va="center",
            fontsize=9,
            color=color,
            arrowprops={"arrowstyle": "-", "color": color, "alpha": 0.5, "lw": 0.7, "shrinkB": 3},
        )
        label.update_positions(renderer)
        box = Text.get_window_extent(label, renderer)
        fits = inside.x0 < box.x0 and box.x1 < inside.x1 and inside.y0 < box.y0 and box.y1 < inside.y1
        if fits and not any(box.overlaps(other) for other in taken):
            return box
        label.remove()
    axes.annotate(text, at, xytext=(9, 0), textcoords="offset points", va="center", fontsize=9, color=color)
    return box


def _offsets() -> Iterator[tuple[float, float, str]]:
    """Where a label may stand, in points from its own, nearest first."""
    for distance in range(0, 200, 6):
        for dy in (distance, -distance):
            yield 10 + distance / 6, float(dy), "left"
            yield -10 - distance / 6, float(dy), "right"


def _pixels(axes: Axes, x: float, y: float) -> tuple[float, float]:
    px, py = axes.transData.transform((x, y))
    return float(px), float(py)


def _merged(axes: Axes, points: Sequence[Point]) -> list[tuple[list[str], float, float]]:
    """Points that a reader would take for one get one label."""
    merged: list[tuple[list[str], float, float]] = []
    for name, x, y in points:
        px, py = _pixels(axes, x, y)
        for names, other_x, other_y in merged:
            other_px, other_py = _pixels(axes, other_x, other_y)
            if abs(px - other_px) < _SAME_PX and abs(py - other_py) < _SAME_PX:
                names.append(name)
                break
        else:
            merged.append(([name], x, y))
    return merged
