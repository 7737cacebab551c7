"""A band at the top of an axis for what did not complete: it has no downtime to stand at, and is not left out."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import Locator

from simmig.experiment.reports.plots.style import DARK, VERMILLION

SHARE = 0.24
TEXT = "did not complete"


def add_band(axes: Axes, note: str = "") -> None:
    """Make room above what is drawn, and say what it is for; call it once the limits are set."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        axes.set_ylim(low, high * (high / low) ** (SHARE / (1 - SHARE)))
    else:
        axes.set_ylim(low, high + (high - low) * SHARE / (1 - SHARE))
    axes.yaxis.set_major_locator(_UpTo(axes.yaxis.get_major_locator(), high))
    axes.yaxis.set_minor_locator(_UpTo(axes.yaxis.get_minor_locator(), high))
    axes.axhline(high, color=VERMILLION, lw=0.6, zorder=0)
    look: dict[str, Any] = {"color": VERMILLION, "alpha": 0.1, "lw": 0, "zorder": 0}
    axes.add_patch(Rectangle((0, 1 - SHARE), 1, SHARE, transform=axes.transAxes, **look))
    axes.text(
        0.01, 0.985, f"\u2717 {TEXT}{note}", transform=axes.transAxes, fontsize=6, color=VERMILLION, va="top"
    )


class _UpTo(Locator):
    """Ticks of another locator, none of them above a value: there the axis is over."""

    def __init__(self, inner: Locator, top: float) -> None:
        self._inner = inner
        self._top = top

    def set_axis(self, axis: Any) -> None:
        """The axis that it is for."""
        super().set_axis(axis)
        self._inner.set_axis(axis)

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """Ticks between two values."""
        return [value for value in self._inner.tick_values(vmin, vmax) if value <= self._top]

    def __call__(self) -> list[float]:
        """Ticks within the axis' limits."""
        return [value for value in self._inner() if value <= self._top]


def height_in_band(number: int, count: int) -> float:
    """Where, as a share of the axis' height, the marks of one of `count` policies stand."""
    return 1 - SHARE + SHARE * (count - number) / (count + 1) * 0.8


def no_scale(axes: Axes, why: str, reason: str = "") -> None:
    """Nothing completed, so no number on the vertical axis means anything: what became of it instead, and why."""
    axes.set_yticks([])
    lines = [f"nothing completed: {why}", *textwrap.wrap(textwrap.shorten(reason, 160, placeholder=" ..."), 54)]
    axes.text(
        0.5, 0.4, "\n".join(lines), transform=axes.transAxes, ha="center", va="center", fontsize=6.5, color=DARK
    )
