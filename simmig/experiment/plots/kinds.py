"""Every kind of picture by its name, and which of them some results can carry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from simmig.experiment.errors import InputError
from simmig.experiment.plots import downtime, parameter, timelines, tradeoff, winner
from simmig.experiment.plots.panels import CannotDraw
from simmig.experiment.plots.results import Results, column, where

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
    conditions: Sequence[str] = (),
) -> dict[Kind, Figure]:
    """The pictures of a sweep: those asked for, or all that its results can carry.

    Raises InputError for a kind asked for that they cannot carry, or when they carry none.
    """
    frame = where(results.frame, conditions)
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
    """The runs at these paths, themselves or one level below; raises InputError."""
    found = [
        run
        for path in paths
        for run in ([path] if timelines.is_run(path) else sorted(filter(timelines.is_run, path.glob("*"))))
    ]
    return [timelines.read_run(path) for path in found]
