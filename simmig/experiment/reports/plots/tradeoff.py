"""The trade-off: downtime against total time, a point a choice, with the Pareto front of what completed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from simmig.experiment.reports.plots import space
from simmig.experiment.reports.plots.band import add_band, height_in_band, no_scale
from simmig.experiment.reports.plots.labels import Named, label_points
from simmig.experiment.reports.plots.panels import draw_panels, legend_below
from simmig.experiment.reports.plots.quantities import Quantity, quantity, usual_quantity
from simmig.experiment.reports.plots.style import DARK, GREY, VERMILLION, in_style, ordered, scale, styles

if TYPE_CHECKING:
    import pandas as pd

MAX_NAMED = 24
"""More points in a panel than this have no names beside them; the legend tells their policies."""
UNTIMED = "at the right edge: could not be simulated"
_FILLS = ("full", "none", "left", "top", "right", "bottom")
_COLORS = (DARK, VERMILLION)


class Point(NamedTuple):
    """What one choice came to, over all seeds: times in ns, least, median, most; None where none completed."""

    policy: str
    text: str
    wire: str
    total_ns: tuple[float, float, float] | None
    downtime_ns: tuple[float, float, float] | None
    lost_ns: tuple[float, ...]
    """Total times of those that did not complete."""
    untimed: int = 0
    """How many more did not complete and have no time, because they could not be simulated."""


def points_of(frame: pd.DataFrame) -> list[Point]:
    """A point for each choice in the rows of one set of circumstances; seeds are taken together."""
    columns = space.choices(frame)
    wire = space.wire_columns(frame)
    found = []
    by = [space.POLICY, *columns]
    for _, rows in frame.groupby(by, dropna=False, sort=False, observed=True) if len(frame) else ():
        first = rows.iloc[0]
        done, lost = rows[space.completed(rows)], rows[~space.completed(rows)]
        found.append(
            Point(
                str(first[space.POLICY]),
                space.policy_text(first, columns),
                space.wire_text(first, wire),
                _spread(done["total_time_ns"]),
                _spread(done["downtime_ns"]),
                tuple(float(value) for value in lost["total_time_ns"].dropna()),
                int(lost["total_time_ns"].isna().sum()),
            )
        )
    return found


def front_of(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats in one of the two without losing in the other, by total time; equals all stay."""
    done = [point for point in points if point.total_ns is not None]
    kept = [
        point
        for point in done
        if not any(
            _median(other) != _median(point)
            and _median(other)[0] <= _median(point)[0]
            and _median(other)[1] <= _median(point)[1]
            for other in done
        )
    ]
    return sorted(kept, key=_median)


def figure(frame: pd.DataFrame, title: str = "") -> Figure:
    """The trade-off in a panel for each set of circumstances; `title` is for one panel's."""
    drawn, panels = draw_panels(frame, space.circumstances(frame), draw, 2.7)
    if title:
        panels[0].set_title(title, loc="left", fontsize=7)
    legend_below(drawn, panels)
    with in_style():  # which tells how many ticks there are, and how wide
        for _ in range(2):  # the second finds room for what the first has put somewhere
            drawn.draw_without_rendering()
    drawn.set_layout_engine("none")  # names are for where all stands now
    parts = [rows for _, rows in space.split(frame, space.circumstances(frame))]
    if len(parts) == len(panels):
        for axes, rows in zip(panels, parts, strict=True):
            name_points(axes, rows)
    return drawn


def draw(axes: Axes, frame: pd.DataFrame) -> None:
    """Points, front and limit of one set of circumstances, without names beside the points (`name_points`)."""
    points = points_of(frame)
    total, downtime = _units(points)
    front = front_of(points)
    done = [point for point in points if point.total_ns is not None and point.downtime_ns is not None]
    limits = _limits(frame)
    xs = [value / total.divisor for point in done for value in point.total_ns or ()]
    xs += [value / total.divisor for point in points for value in point.lost_ns]
    ys = [value / downtime.divisor for point in done for value in point.downtime_ns or ()]
    scale(axes, "x", xs or [1.0], 0.3)
    if not xs:
        axes.set_xticks([])
    scale(axes, "y", ys + [limit / downtime.divisor for limit in limits] or [1.0], 0.16)
    if not ys:
        no_scale(axes, space.why_not(frame), space.reason(frame))
    untimed = any(point.untimed for point in points)
    if untimed or any(point.lost_ns for point in points):
        add_band(axes, f"; {UNTIMED}" if untimed else "")
    axes.set_xlabel(total.label)
    axes.set_ylabel(downtime.label)
    axes.grid(alpha=0.3)
    if front:
        x, y = zip(*[_at(point, total, downtime) for point in front], strict=True)
        axes.step(
            x, y, where="post", color=GREY, lw=3, alpha=0.5, zorder=1, label="Pareto front", solid_capstyle="round"
        )
        axes.plot(x, y, ls="", marker="o", ms=9, mfc="none", mec=GREY, mew=0.8, zorder=2)
    _draw_points(axes, points, total, downtime)
    for limit in limits:
        axes.axhline(limit / downtime.divisor, color=DARK, lw=0.8, ls="--", label="downtime limit", zorder=1)


def name_points(axes: Axes, frame: pd.DataFrame) -> None:
    """Write names beside the points of `draw`, where they are few enough; once the axis has its final place."""
    points = points_of(frame)
    total, downtime = _units(points)
    done = [point for point in points if point.total_ns is not None]
    if len(done) > MAX_NAMED:
        return
    wires = list(dict.fromkeys(point.wire for point in points))
    named = [
        Named(point.text, point.wire, *_at(point, total, downtime), _COLORS[wires.index(point.wire) % 2])
        for point in done
    ]
    (left, right), corners = axes.get_xlim(), [_at(point, total, downtime) for point in front_of(points)]
    lines = [(left, limit / downtime.divisor, right, limit / downtime.divisor) for limit in _limits(frame)]
    for (x, y), (next_x, next_y) in itertools.pairwise(corners):
        lines += [(x, y, next_x, y), (next_x, y, next_x, next_y)]
    label_points(axes, named, lines)


def _draw_points(axes: Axes, points: Sequence[Point], total: Quantity, downtime: Quantity) -> None:
    looks = styles(ordered([point.policy for point in points]))
    wires = list(dict.fromkeys(point.wire for point in points))
    for number, (name, look) in enumerate(looks.items()):
        for point in points:
            if point.policy != name:
                continue
            fill = _FILLS[wires.index(point.wire) % len(_FILLS)]
            mark: dict[str, Any] = {
                "ls": "",
                "marker": look.marker,
                "color": look.color,
                "fillstyle": fill,
                "label": name,
            }
            mark |= {"markerfacecoloralt": "white", "mew": 0.8, "zorder": 3}
            if point.total_ns is not None and point.downtime_ns is not None:
                x, y = _at(point, total, downtime)
                for xs, ys in _whiskers(point, x, y, total, downtime):
                    axes.plot(xs, ys, color=look.color, lw=0.6, alpha=0.6)
                axes.plot(x, y, ms=5, **mark)
            height = height_in_band(number, len(looks))
            if point.lost_ns:
                ended = [value / total.divisor for value in point.lost_ns]
                axes.plot(ended, [height] * len(ended), ms=3.5, transform=axes.get_xaxis_transform(), **mark)
            if point.untimed:
                axes.plot([0.98], [height], ms=3.5, transform=axes.transAxes, **mark)
    if len(wires) > 1:
        for wire, fill in zip(wires, _FILLS, strict=False):
            _add_swatch(axes, wire, fill, _COLORS[wires.index(wire) % 2])


def _add_swatch(axes: Axes, wire: str, fill: str, color: str) -> None:
    """A name in the legend for how markers are filled: a square box, which no policy has for its marker."""
    if fill in ("full", "none"):
        face = color if fill == "full" else "none"
        axes.add_patch(
            Rectangle((-1, -1), 0, 0, transform=axes.transAxes, facecolor=face, edgecolor=color, label=wire)
        )
        return
    axes.plot(
        [], [], ls="", marker="s", ms=5, color=color, fillstyle=fill, markerfacecoloralt="white", label=wire
    )  # fmt: skip


def _whiskers(
    point: Point, x: float, y: float, total: Quantity, downtime: Quantity
) -> list[tuple[list[float], list[float]]]:
    """Lines from the least to the most over seeds, where there is anything between."""
    low_x, _, high_x = (value / total.divisor for value in point.total_ns or ())
    low_y, _, high_y = (value / downtime.divisor for value in point.downtime_ns or ())
    if low_x == high_x and low_y == high_y:
        return []
    return [([low_x, high_x], [y, y]), ([x, x], [low_y, high_y])]


def _limits(frame: pd.DataFrame) -> list[float]:
    """The downtime limit, where all rows have the same one and it is in sight of what came out."""
    name = "migration.downtime_limit_ns"
    if name not in frame or frame[name].nunique() != 1:
        return []
    limit = float(frame[name].dropna().iloc[0])
    done = frame.loc[space.completed(frame), "downtime_ns"]
    return [limit] if not done.empty and done.min() / 10 <= limit <= done.max() * 10 else []


def _units(points: Sequence[Point]) -> tuple[Quantity, Quantity]:
    totals = [value for point in points for value in (*(point.total_ns or ()), *point.lost_ns)]
    downtimes = [value for point in points for value in point.downtime_ns or ()]
    return quantity("total_time_ns", totals or [1e9]), usual_quantity("downtime_ns", downtimes or [1e6])


def _at(point: Point, total: Quantity, downtime: Quantity) -> tuple[float, float]:
    total_ns, downtime_ns = _median(point)
    return total_ns / total.divisor, downtime_ns / downtime.divisor


def _median(point: Point) -> tuple[float, float]:
    assert point.total_ns is not None
    assert point.downtime_ns is not None
    return point.total_ns[1], point.downtime_ns[1]


def _spread(cells: pd.Series) -> tuple[float, float, float] | None:
    if cells.empty:
        return None
    return float(cells.min()), float(cells.median()), float(cells.max())
