"""Pictures from Python, into an axis that is there already or a figure of their own.

A frame is a sweep's results (`pandas.read_parquet("out/sweep/results.parquet")`): a row a point, inputs such as
"link.bandwidth_bit_s" and figures such as "downtime_ns" as columns. What did not complete is shown as such.
Rows of which the inputs are not known ("policy.name" is null) are left out.

    figure, axes = matplotlib.pyplot.subplots()
    simmig.plot.tradeoff(frame[frame["link.bandwidth_bit_s"] == 10_000_000_000], axes)
    axes.legend()

Without an axis each function returns a `matplotlib.figure.Figure`, with a legend and a panel for each set of
circumstances (guest, link, host), as wide as a column or a page of a paper. With an axis it draws the rows of one
set of circumstances and returns the axis; ValueError tells what else varies.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simmig.experiment.reports.plots import downtime as _downtime
from simmig.experiment.reports.plots import parameter as _parameter
from simmig.experiment.reports.plots import space
from simmig.experiment.reports.plots import timelines as _timelines
from simmig.experiment.reports.plots import tradeoff as _tradeoff
from simmig.experiment.reports.plots import winner as _winner
from simmig.experiment.reports.plots.results import column

if TYPE_CHECKING:
    import pandas as pd


@overload
def tradeoff(frame: pd.DataFrame) -> Figure: ...
@overload
def tradeoff(frame: pd.DataFrame, ax: Axes) -> Axes: ...
def tradeoff(frame: pd.DataFrame, ax: Axes | None = None) -> Figure | Axes:
    """Downtime against total time, a point a choice, with the Pareto front marked."""
    frame = space.prepared(frame)
    if ax is None:
        return _tradeoff.figure(frame)
    _one(frame, space.circumstances(frame))
    _tradeoff.draw(ax, frame)
    _tradeoff.name_points(ax, frame)
    return ax


@overload
def parameter(frame: pd.DataFrame, x: str | None = None, y: str = ...) -> Figure: ...
@overload
def parameter(frame: pd.DataFrame, x: str | None = None, y: str = ..., *, ax: Axes) -> Axes: ...
def parameter(
    frame: pd.DataFrame, x: str | None = None, y: str = "downtime_ns", *, ax: Axes | None = None
) -> Figure | Axes:
    """The figure `y` against the key `x` (default: the number with most values), with the spread over seeds."""
    frame = space.prepared(frame)
    across, up = _parameter.axes_of(frame, x and column(frame, x, "x:"), column(frame, y, "y:"))
    if ax is None:
        return _parameter.figure(frame, across, up)
    _one(frame, _parameter.others(frame, across) + _parameter.free_parameters(frame, across))
    _parameter.draw(ax, frame, across, up)
    return ax


@overload
def winner(frame: pd.DataFrame, x: str | None = None, y: str | None = None) -> Figure: ...
@overload
def winner(frame: pd.DataFrame, x: str | None = None, y: str | None = None, *, ax: Axes) -> Axes: ...
def winner(
    frame: pd.DataFrame, x: str | None = None, y: str | None = None, *, ax: Axes | None = None
) -> Figure | Axes:
    """Which policy has the least downtime over the circumstances `x` and `y`; ties are striped."""
    frame = space.prepared(frame)
    given = [None if key is None else column(frame, key, f"{name}:") for name, key in (("x", x), ("y", y))]
    if ax is None:
        return _winner.figure(frame, *given)
    across, up = _winner.default_axes(frame, *given)
    _one(frame, _winner.others(frame, across, up))
    _winner.draw(ax, frame, across, up)
    return ax


@overload
def downtime(frame: pd.DataFrame) -> Figure: ...
@overload
def downtime(frame: pd.DataFrame, ax: Axes) -> Axes: ...
def downtime(frame: pd.DataFrame, ax: Axes | None = None) -> Figure | Axes:
    """What the downtime is made of, a bar a choice; means over seeds."""
    frame = space.prepared(frame)
    if ax is None:
        return _downtime.figure(frame)
    _one(frame, _downtime.panels_by(frame))
    _downtime.draw(ax, frame)
    return ax


@overload
def timelines(directories: Sequence[Path | str]) -> Figure: ...
@overload
def timelines(directories: Sequence[Path | str], ax: Axes) -> Axes: ...
def timelines(directories: Sequence[Path | str], ax: Axes | None = None) -> Figure | Axes:
    """Pending writes over time, a lane for each directory that `simmig run --out` made."""
    runs = [_timelines.read_run(Path(directory)) for directory in directories]
    if ax is None:
        return _timelines.figure(runs)
    _timelines.draw(ax, runs)
    return ax


def _one(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """What does not compare is not drawn into one axis."""
    if columns:
        raise ValueError(f"one axis, but {', '.join(columns)} vary: take the rows of one value of each")
