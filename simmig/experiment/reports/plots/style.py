"""What all pictures share: colours, markers and hatches that differ in grey print too, sizes for a paper, files.

A figure with one panel is as wide as a column of a two-column paper, one with several as wide as the page; type is
6 to 8 points at that size. Colours are Okabe and Ito's, told apart by colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from simmig.migration import policies

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, DARK = "#999999", "#444444"

COLUMN_IN, PAGE_IN = 3.5, 7.16
"""Widths of a column and of a page of a two-column paper."""
DPI = 220

RC = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "grid.linewidth": 0.4,
    "hatch.linewidth": 0.6,
    "pdf.fonttype": 42,
    "svg.hashsalt": "simmig",
}
_METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}
FORMATS = tuple(_METADATA)


class Style(NamedTuple):
    """How a policy looks: colour, marker, hatch."""

    color: str
    marker: str
    hatch: str


_STYLES = (
    Style(BLACK, "o", ""),
    Style(GREY, "v", "...."),
    Style(GREEN, "^", "////"),
    Style(PURPLE, "P", "xxxx"),
    Style(BLUE, "s", "\\\\\\\\"),
    Style(ORANGE, "D", "----"),
    Style(SKY, "X", "||||"),
    Style(VERMILLION, "*", "++++"),
    Style(YELLOW, "h", "oooo"),
    Style("#7F3C00", "<", "//"),
    Style("#004D40", ">", "\\\\"),
    Style("#882255", "p", "xx"),
)
POLICIES = tuple(policies.builtin())
"""The built-in policies, from those that wait least to those that wait most: each has its own look everywhere."""


def styles(names: Sequence[str]) -> dict[str, Style]:
    """A look for each name: a built-in policy has its own, others have what is left, in order."""
    own = {name: _STYLES[POLICIES.index(name)] for name in names if name in POLICIES}
    rest = [style for style in _STYLES if style not in own.values()] or list(_STYLES)
    others = [name for name in names if name not in own]
    return own | {name: rest[number % len(rest)] for number, name in enumerate(others)}


def ordered(names: Sequence[str]) -> list[str]:
    """Each name once: built-in policies in their order, then the others as they come."""
    found = list(dict.fromkeys(names))
    return [name for name in POLICIES if name in found] + [name for name in found if name not in POLICIES]


def new_figure(width_in: float, height_in: float) -> Figure:
    """A figure that makes room for its own labels and legend; use it inside `in_style`."""
    return Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")


def in_style() -> AbstractContextManager[None]:
    """The context in which figures of one's own are made."""
    return mpl.rc_context(RC)  # type: ignore[arg-type]  # a list of all keys there are


def save(figure: Figure, path: Path) -> None:
    """Write a picture, the same bytes for the same picture; the name's end tells the format."""
    with in_style():
        figure.savefig(path, metadata=_METADATA[path.suffix.removeprefix(".")])


def plain_log(axis: Axis) -> None:
    """Numbers such as 20 and 500 on a logarithmic axis, not powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def is_wide(low: float, high: float) -> bool:
    """Whether values from `low` to `high` ask for a logarithmic axis."""
    return low > 0 and high / low >= 8


def scale(axes: Axes, which: str, values: Sequence[float], room: float = 0.08) -> None:
    """Linear or logarithmic limits around the values, with room on both sides."""
    axis, low, high = getattr(axes, f"{which}axis"), min(values), max(values)
    if is_wide(low, high):
        getattr(axes, f"set_{which}scale")("log")
        factor = (high / low) ** room
        getattr(axes, f"set_{which}lim")(low / factor, high * factor)
        plain_log(axis)
    else:
        margin = max((high - low) * room, high * 0.1, 1e-9)
        getattr(axes, f"set_{which}lim")(max(0.0, low - margin), high + margin)
