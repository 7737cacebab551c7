"""One figure against one parameter: a line a policy, a band for the spread over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simmig.experiment.reports.plots import space
from simmig.experiment.reports.plots.band import add_band, height_in_band, no_scale
from simmig.experiment.reports.plots.panels import CannotDraw, draw_panels, legend_below
from simmig.experiment.reports.plots.quantities import (
    Quantity,
    is_missing,
    name_of,
    quantity,
    tell,
    usual_quantity,
)
from simmig.experiment.reports.plots.style import ordered, scale, styles

if TYPE_CHECKING:
    import pandas as pd


def default_x(frame: pd.DataFrame) -> str:
    """The number that takes the most values; raises CannotDraw where none varies."""
    numbers = [name for name in space.varied(frame) if frame[name].dtype.kind in "iuf"]
    counts = {name: frame[name].nunique() for name in numbers}
    if not counts or max(counts.values()) < 2:
        raise CannotDraw("no number varies but for the seed; sweep one, or name a key with --x")
    return max(counts, key=lambda name: (counts[name], name.startswith("policy.")))


def axes_of(frame: pd.DataFrame, x: str | None = None, y: str = "downtime_ns") -> tuple[str, str]:
    """The columns that stand across and up; raises CannotDraw for no input across, or no number that came out."""
    across = x or default_x(frame)
    if not space.is_input(across):
        raise CannotDraw(f"{across} is no input: across goes what a scenario sets, such as link.bandwidth")
    if space.is_input(y) or frame[y].dtype.kind not in "iuf":
        raise CannotDraw(f"{y} is no number that came out: up goes a figure such as total_time")
    return across, y


def figure(frame: pd.DataFrame, x: str | None = None, y: str = "downtime_ns") -> Figure:
    """`y` against `x` in a panel for each combination of everything else that varies."""
    name, _ = axes_of(frame, x, y)
    if frame[name].nunique(dropna=False) < 2:
        raise CannotDraw(f"{name} has one value only")
    by, free = others(frame, name), free_parameters(frame, name)
    drawn, panels = draw_panels(
        _in_every_panel(frame, free), by + free, lambda axes, rows: draw(axes, rows, name, y), 2.4
    )
    legend_below(drawn, panels)
    return drawn


def others(frame: pd.DataFrame, x: str) -> list[str]:
    """What varies besides `x`, the policy and its parameters, and what `x` decides."""
    kept = [name for name in (*space.circumstances(frame), *space.wire_columns(frame)) if name != x]
    values = frame[x].nunique(dropna=False)
    return [name for name in kept if len(frame[[x, name]].drop_duplicates()) > values]  # not what x decides


def free_parameters(frame: pd.DataFrame, x: str) -> list[str]:
    """The policies' parameters, but for `x`, of which a policy has several values."""
    found = [name for name in space.varied(frame) if name.startswith("policy.") and name not in (x, space.POLICY)]
    return [name for name in found if (frame.groupby(space.POLICY)[name].nunique() > 1).any()]


def _in_every_panel(frame: pd.DataFrame, parameters: Sequence[str]) -> pd.DataFrame:
    """With the rows of policies that do not have a parameter at each of its values: there they are compared."""
    import pandas as pd  # noqa: PLC0415  # optional, and slow to import

    for name in parameters:
        known, lacking = frame[frame[name].notna()], frame[frame[name].isna()]
        if not lacking.empty:
            copies = [lacking.assign(**{name: value}) for value in known[name].unique()]
            frame = pd.concat([known, *copies]).astype({name: known[name].dtype})
    return frame


def draw(axes: Axes, frame: pd.DataFrame, x: str, y: str = "downtime_ns") -> None:
    """A line for each policy; what has no `x` is a dotted level line."""
    done = frame[space.completed(frame)]
    numeric = frame[x].dtype.kind in "iuf"
    across = quantity(x, _numbers(frame[x])) if numeric else Quantity(name_of(x), 1.0, "")
    up = usual_quantity(y, _numbers(done[y]))
    places = _places(frame[x], across)
    heights = [value / up.divisor for value in _numbers(done[y])]
    scale(axes, "y", heights or [1.0], 0.12)
    if not heights:
        no_scale(axes, space.why_not(frame), space.reason(frame))
    if len(done) < len(frame):
        add_band(axes)
    if not places:
        axes.set_xticks([])
    elif numeric:
        scale(axes, "x", list(places.values()), 0.05)
    else:
        words = [tell(x, value) for value in places]
        axes.set_xticks(list(places.values()), words, rotation=20 if max(map(len, words)) > 8 else 0)
        axes.set_xlim(-0.5, len(places) - 0.5)
    axes.set_xlabel(across.label)
    axes.set_ylabel(up.label)
    axes.grid(alpha=0.3)
    names = ordered(list(frame[space.POLICY]))
    looks = styles(names)
    for number, name in enumerate(names):
        rows = frame[frame[space.POLICY] == name]
        look: dict[str, Any] = {
            **looks[name]._asdict(),
            "name": name,
            "width": 2.6 - 1.8 * number / max(1, len(names) - 1),  # of lines on top of each other all are seen
            "lost_at": height_in_band(number, len(names)),
        }
        _draw_policy(axes, rows, (x, y), places, up, look)


def _draw_policy(
    axes: Axes,
    frame: pd.DataFrame,
    columns: tuple[str, str],
    places: dict[Any, float],
    up: Quantity,
    look: dict[str, Any],
) -> None:
    x, y = columns
    _draw_level(axes, frame[frame[x].isna()], columns, up, look)
    at: list[float] = []
    lost: list[float] = []
    heights: tuple[list[float], list[float], list[float]] = ([], [], [])  # least, median, most
    for value, rows in frame.groupby(x, sort=True, observed=True):
        values = rows.loc[space.completed(rows), y] / up.divisor
        at.append(places[value])
        told = (values.min(), values.median(), values.max()) if len(values) else (np.nan, np.nan, np.nan)
        for each, height in zip(heights, told, strict=True):
            each.append(float(height))
        if len(values) < len(rows):
            lost.append(places[value])
    order = np.argsort(at)
    across, low, middle, high = (np.array(each, dtype=float)[order] for each in (at, *heights))
    color = look["color"]
    mark: dict[str, Any] = {"marker": look["marker"], "mew": 0.8, "mfc": "white", "color": color}
    line = "-" if frame[x].dtype.kind in "iuf" else ""
    if across.size:
        if np.nanmax(np.append(high - low, 0)) > 0:
            axes.fill_between(across, low, high, color=color, alpha=0.18, lw=0)
            axes.vlines(across, low, high, color=color, lw=0.6, alpha=0.6)
        axes.plot(
            across, middle, ls=line, lw=look["width"], ms=4 + look["width"] / 2, label=look["name"], **mark
        )  # fmt: skip
    if lost:
        axes.plot(
            lost, [look["lost_at"]] * len(lost), ls="", ms=3.5, label=look["name"], **mark,
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip


def _draw_level(
    axes: Axes, frame: pd.DataFrame, columns: tuple[str, str], up: Quantity, look: dict[str, Any]
) -> None:
    """Rows that have no `x`, and so no place across: a line at every one, in the band a mark at the left edge."""
    x, y = columns
    why = "has no such parameter" if x.startswith("policy.") else f"{name_of(x)} {tell(x, None)}"
    label = f"{look['name']} ({why})"
    done = frame.loc[space.completed(frame), y]
    if len(done):
        axes.axhline(done.median() / up.divisor, color=look["color"], lw=look["width"], ls=":", label=label)
    if len(done) < len(frame):
        axes.plot(
            [0.015], [look["lost_at"]], ls="", ms=3.5, marker=look["marker"], color=look["color"], label=label,
            transform=axes.transAxes,
        )  # fmt: skip


def _places(cells: pd.Series, across: Quantity) -> dict[Any, float]:
    """Where each value stands on the axis: numbers where they are, words one after the other."""
    values = cells.dropna().sort_values().unique().tolist()
    if cells.dtype.kind in "iuf":
        return {value: value / across.divisor for value in values}
    return {value: float(number) for number, value in enumerate(values)}


def _numbers(cells: pd.Series) -> list[float]:
    return [float(value) for value in cells if not is_missing(value)] if cells.dtype.kind in "iuf" else []
