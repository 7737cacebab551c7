"""A panel for each set of circumstances: what compares is drawn together, what does not, apart."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simmig.experiment.reports.plots.space import split
from simmig.experiment.reports.plots.style import COLUMN_IN, PAGE_IN, in_style, new_figure

if TYPE_CHECKING:
    import pandas as pd

MAX_PANELS = 8
_LINE_IN, _LINES_IN_PLACE = 0.155, 3
"""A legend's line, and how many of them there is room for anyway."""

Draw = Callable[[Axes, "pd.DataFrame"], None]


class CannotDraw(Exception):
    """These results do not carry that kind of picture; the message says what is missing."""


def draw_panels(
    frame: pd.DataFrame, by: Sequence[str], draw: Draw, panel_height_in: float | Callable[[pd.DataFrame], float]
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each combination of the columns `by`, each drawn by `draw` from its rows.

    Where there are too many combinations, some of them, evenly spread, are drawn, and the figure says so.
    """
    parts = split(frame, by)
    shown = _spread(parts)
    across = 1 if len(shown) == 1 else 2
    down = -(-len(shown) // across)
    height = (
        panel_height_in if isinstance(panel_height_in, float) else max(panel_height_in(rows) for _, rows in shown)
    )
    with in_style():
        figure = new_figure(COLUMN_IN if across == 1 else PAGE_IN, down * height + 0.5)
        grid = figure.subplots(down, across, squeeze=False).flatten().tolist()
        for axes, (title, rows) in zip(grid, shown, strict=False):
            draw(axes, rows)
            if title:
                axes.set_title("\n".join(textwrap.wrap(title, 44)), loc="left", fontsize=8)
        for axes in grid[len(shown) :]:
            axes.remove()
        if len(shown) < len(parts):
            text = f"{len(shown)} of {len(parts)} combinations of {', '.join(by)}; --where chooses others"
            figure.suptitle("\n".join(textwrap.wrap(text, 110)), fontsize=7)
    return figure, grid[: len(shown)]


def legend_below(figure: Figure, panels: Sequence[Axes], columns: int | None = None, title: str = "") -> None:
    """One legend for all panels, each name once; a long one makes the figure higher, not the panels lower."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault("\n".join(textwrap.wrap(label, 44)), handle)
    if not handles:
        return
    wide = figure.get_figwidth() > COLUMN_IN
    longest = max(len(line) for label in handles for line in label.split("\n"))
    fitting = max(1, int((130 if wide else 60) / (longest + 8)))
    shown_columns = min(columns or fitting, fitting, len(handles))
    lines = [label.count("\n") + 1 for label in handles]
    rows = sum(max(lines[at :: -(-len(lines) // shown_columns)]) for at in range(-(-len(lines) // shown_columns)))
    figure.set_figheight(figure.get_figheight() + _LINE_IN * max(0, rows - _LINES_IN_PLACE))
    with in_style():
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=shown_columns,
            handlelength=1.8,
            columnspacing=1.2,
            title="\n".join(textwrap.wrap(title, 110 if wide else 58)) or None,
            title_fontsize=7,
        )


def _spread(parts: list[tuple[str, pd.DataFrame]]) -> list[tuple[str, pd.DataFrame]]:
    if len(parts) <= MAX_PANELS:
        return parts
    return [parts[round(number * (len(parts) - 1) / (MAX_PANELS - 1))] for number in range(MAX_PANELS)]
