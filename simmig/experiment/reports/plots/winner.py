"""Which policy wins where: a cell for each pair of circumstances, coloured by who has the least downtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from simmig.experiment.reports.plots import space
from simmig.experiment.reports.plots.panels import CannotDraw, draw_panels, legend_below
from simmig.experiment.reports.plots.quantities import name_of, tell
from simmig.experiment.reports.plots.style import DARK, VERMILLION, ordered, styles

if TYPE_CHECKING:
    import pandas as pd

TIE = 0.01
"""Medians as near as this to the best one tie with it, and so do policies whose spread over seeds reaches it."""
_MAX_TEXT = 64
EVERY = "every policy ties"
LOST = "some policies do not complete (how many)"
CAPTION = (
    "least downtime (in the cell), median over seeds; stripes: ties within 1 % or within the spread over seeds"
)


class Cell(NamedTuple):
    """One pair of circumstances: who wins (several: a tie), with which downtime, and who did not complete."""

    winners: tuple[str, ...]
    downtime_ns: float
    lost: tuple[str, ...]


def cell_of(frame: pd.DataFrame) -> Cell:
    """Judge the rows of one cell; of a policy those parameters compete with which every seed completes."""
    names = ordered(list(frame[space.POLICY]))
    best: dict[str, pd.Series] = {}
    for name in names:
        rows = frame[frame[space.POLICY] == name]
        columns = [column for column in space.choices(rows) if column.startswith("policy.")]
        parts = [part for _, part in rows.groupby(columns, dropna=False)] if columns else [rows]
        done = [part["downtime_ns"] for part in parts if space.completed(part).all()]
        if done:
            best[name] = min(done, key=lambda cells: float(cells.median()))
    lost = tuple(name for name in names if name not in best)
    if not best:
        return Cell((), 0.0, lost)
    first = min(best, key=lambda name: float(best[name].median()))
    least = float(best[first].median())
    winners = tuple(
        name
        for name, cells in best.items()
        if cells.median() <= least * (1 + TIE) or (len(cells) > 1 and cells.min() <= best[first].max())
    )
    return Cell(winners, least, lost)


def default_axes(frame: pd.DataFrame, x: str | None = None, y: str | None = None) -> tuple[str, str]:
    """Two circumstances to span the map, those with most values first; raises CannotDraw when there are none."""
    if frame[space.POLICY].nunique() < 2:
        raise CannotDraw("one policy only: nobody to win against; sweep policy")
    taken = [name for name in (x, y) if name is not None]
    for name in taken:
        if not space.is_input(name):
            raise CannotDraw(f"{name} is no input: the map is over what a scenario sets, such as link.bandwidth")
    found = [name for name in space.circumstances(frame) if name not in taken]
    found += [name for name in space.wire_columns(frame)[:1] if name not in taken and len(found) < 2]
    found.sort(key=lambda name: -frame[name].nunique(dropna=False))
    if len(found) < 2 - len(taken):
        told = f"varies {', '.join(map(repr, found))} only" if found else "varies nothing of the kind"
        raise CannotDraw(f"two circumstances beside the policy are needed, and the sweep {told}")
    first = x or found.pop(0)
    return first, y or found.pop(0)


def figure(frame: pd.DataFrame, x: str | None = None, y: str | None = None) -> Figure:
    """The map over `x` and `y`, in a panel for each combination of what else varies."""
    across, up = default_axes(frame, x, y)
    drawn, panels = draw_panels(
        frame, others(frame, across, up), lambda axes, rows: draw(axes, rows, across, up), 2.6
    )
    legend_below(drawn, panels, title=CAPTION)
    return drawn


def others(frame: pd.DataFrame, x: str, y: str) -> list[str]:
    """What varies besides `x`, `y` and the policy, and is not decided by these."""
    rest = [name for name in (*space.circumstances(frame), *space.wire_columns(frame)) if name not in (x, y)]
    both = len(frame[[x, y]].drop_duplicates())
    return [name for name in rest if len(frame[[x, y, name]].drop_duplicates()) > both]


def draw(axes: Axes, frame: pd.DataFrame, x: str, y: str) -> None:
    """The cells of one panel. Ties are striped in the colours of all who tie, or grey where nobody loses."""
    columns, rows = (_values(frame[name]) for name in (x, y))
    looks = styles(ordered(list(frame[space.POLICY])))
    small = len(columns) * len(rows) > _MAX_TEXT
    seen: dict[str, Any] = {}
    for i, column in enumerate(columns):
        for j, row in enumerate(rows):
            part = frame[_is(frame[x], column) & _is(frame[y], row)]
            if part.empty:
                continue
            cell = cell_of(part)
            _draw_cell(axes, (i, j), cell, looks, seen, part[space.POLICY].nunique())
            if cell.lost and cell.winners:
                seen[LOST] = {}
            if not small:
                _write_cell(axes, (i, j), cell, len(columns))
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.set_xticks(range(len(columns)), [tell(x, value) for value in columns])
    axes.set_yticks(range(len(rows)), [tell(y, value) for value in rows])
    if len(columns) > 4:
        axes.tick_params(axis="x", rotation=35)
    axes.tick_params(length=0)
    axes.set_xlabel(name_of(x))
    axes.set_ylabel(name_of(y))
    if LOST in seen:
        axes.plot([], [], ls="", marker="x", ms=4, color=DARK, label=LOST)
    for name in [*looks, EVERY, "no policy completes"]:
        if name in seen:
            axes.add_patch(Rectangle((-2, -2), 0, 0, label=name, **seen[name]))


def _values(cells: pd.Series) -> list[Any]:
    """In order, and None last where some rows have no value."""
    known = cells.dropna().sort_values().unique().tolist()
    return [*known, None] if cells.isna().any() else known


def _is(cells: pd.Series, value: Any) -> pd.Series:
    return cells.isna() if value is None else cells == value


def _draw_cell(
    axes: Axes, at: tuple[int, int], cell: Cell, looks: dict[str, Any], seen: dict[str, Any], count: int
) -> None:
    i, j = at
    stripes: list[tuple[str, dict[str, Any]]]
    if not cell.winners:
        stripes = [("no policy completes", {"facecolor": "white", "hatch": "xx", "edgecolor": VERMILLION})]
    elif len(cell.winners) == count > 1:
        stripes = [(EVERY, {"facecolor": "#E4E4E4", "hatch": "", "edgecolor": "#E4E4E4"})]
    else:
        stripes = [
            (name, {"facecolor": looks[name].color, "hatch": looks[name].hatch, "edgecolor": "white"})
            for name in cell.winners
        ]
    width = 1 / len(stripes)
    for number, (name, look) in enumerate(stripes):
        axes.add_patch(Rectangle((i - 0.5 + number * width, j - 0.5), width, 1, lw=0, **look))
        seen[name] = look
    axes.add_patch(Rectangle((i - 0.5, j - 0.5), 1, 1, fill=False, edgecolor="white", lw=1.5))


def _write_cell(axes: Axes, at: tuple[int, int], cell: Cell, across: int) -> None:
    lines = [tell("downtime_ns", cell.downtime_ns)] if cell.winners else []
    if cell.lost and cell.winners:
        lines.append(f"\u2717{len(cell.lost)}")
    if lines:
        axes.text(
            *at, "\n".join(lines), ha="center", va="center", fontsize=6 if across <= 6 else 5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85},
        )  # fmt: skip
