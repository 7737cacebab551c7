"""Every kind of picture by its name, and which of them some results can carry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from simmig.experiment.errors import InputError
from simmig.experiment.reports.plots import downtime, parameter, space, timelines, tradeoff, winner
from simmig.experiment.reports.plots.panels import CannotDraw
from simmig.experiment.reports.plots.results import Results, column

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Kind = Literal["tradeoff", "parameter", "winner", "downtime", "timelines"]
OF_SWEEPS: tuple[Kind, ...] = ("tradeoff", "parameter", "winner", "downtime")
KINDS: tuple[Kind, ...] = (*OF_SWEEPS, "timelines")
TITLES: dict[Kind, str] = {
    "tradeoff": "Downtime against total time",
    "parameter": "Against one parameter",
    "winner": "Which policy has the least downtime",
    "downtime": "What the downtime is made of",
    "timelines": "Pending writes over time",
}


def pictures(
    results: Results,
    kinds: Sequence[Kind] = (),
    x: str | None = None,
    y: str | None = None,
) -> dict[Kind, Figure]:
    """The pictures of a sweep: those asked for, or all that its results can carry.

    Raises InputError for a kind asked for that they cannot carry, or when they carry none.
    """
    frame = space.prepared(results.frame)
    if frame.empty:
        raise InputError(f"{results.path}: nothing to draw: of no point the inputs are known")
    across, up = (None if key is None else column(frame, key, f"--{name}") for name, key in (("x", x), ("y", y)))
    drawn: dict[Kind, Figure] = {}
    reasons = []
    for kind in dict.fromkeys(kinds or OF_SWEEPS):
        try:
            drawn[kind] = picture(kind, frame, across, up)
        except CannotDraw as error:
            reasons.append(f"{results.path}: {kind}: {error}")
    if reasons and (kinds or not drawn):
        raise InputError(*reasons)
    return drawn


def picture(kind: Kind, frame: pd.DataFrame, x: str | None = None, y: str | None = None) -> Figure:
    """One picture of a sweep; raises CannotDraw. `x` and `y` are columns, for the kinds that have a choice."""
    match kind:
        case "tradeoff":
            return tradeoff.figure(frame)
        case "parameter":
            return parameter.figure(frame, x, y or "downtime_ns")
        case "winner":
            return winner.figure(frame, x, y)
        case "downtime":
            return downtime.figure(frame)
        case "timelines":
            raise CannotDraw("a sweep keeps no traces; name directories that `simmig run --out` made")


def runs_of(paths: Sequence[Path]) -> list[timelines.Run]:
    """The runs at these paths, themselves or one level below; none where no path has any. Raises InputError."""
    found = {path: _runs_at(path) for path in paths}
    if not any(found.values()):
        return []
    for path, runs in found.items():
        if not runs:
            what = "holds no run that `simmig run --out` left" if path.is_dir() else "there is no such directory"
            raise InputError(f"{path}: {what}")
    return [timelines.read_run(run) for runs in found.values() for run in runs]


def _runs_at(path: Path) -> list[Path]:
    return [path] if timelines.is_run(path) else sorted(filter(timelines.is_run, path.glob("*")))
