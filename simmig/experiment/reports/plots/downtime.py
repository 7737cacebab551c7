"""What the downtime is made of: a bar a choice, its parts one after the other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simmig.experiment.reports.plots import space
from simmig.experiment.reports.plots.panels import CannotDraw, draw_panels, legend_below
from simmig.experiment.reports.plots.quantities import name_of, quantity, tell
from simmig.experiment.reports.plots.style import GREY, ORANGE, POLICIES, PURPLE, SKY, VERMILLION

if TYPE_CHECKING:
    import pandas as pd

PARTS = (
    ("residual_pages_ns", "residual pages", SKY, ""),
    ("drain_ns", "drain", ORANGE, "////"),
    ("device_state_ns", "device state", PURPLE, "...."),
    ("switch_ns", "switch", GREY, "xxxx"),
)
"""The figures, what they are called, and how they look. They add up to the downtime."""
MAX_BARS = 40


def figure(frame: pd.DataFrame) -> Figure:
    """A panel for each combination of circumstances and of whatever is chosen beside the policy."""
    by = panels_by(frame)
    most = max(len(_bars(rows)) for _, rows in space.split(frame, by))
    if most > MAX_BARS:
        raise CannotDraw(f"{most} bars in a panel; --where takes some of them")
    drawn, panels = draw_panels(frame, by, draw, lambda rows: 0.75 + 0.17 * len(_bars(rows)))
    legend_below(drawn, panels, columns=4)
    return drawn


def panels_by(frame: pd.DataFrame) -> list[str]:
    """The columns whose combinations have a panel each."""
    return [*space.circumstances(frame), *space.wire_columns(frame)]


def draw(axes: Axes, frame: pd.DataFrame) -> None:
    """The bars of one panel, from the policy that waits least to the one that waits most; means over seeds."""
    missing = [name for name, *_ in PARTS if f"downtime_parts.{name}" not in frame]
    if missing:
        raise CannotDraw(f"there is no column downtime_parts.{missing[0]}")
    bars = _bars(frame)
    done = frame[space.completed(frame)]
    means = [float(rows.loc[space.completed(rows), "downtime_ns"].mean()) for _, rows in bars]
    longest = max((mean for mean in means if not math.isnan(mean)), default=0.0)
    shown = quantity("downtime_ns", done["downtime_ns"])
    for number, (name, rows) in enumerate(bars):
        finished = rows[space.completed(rows)]
        left = 0.0
        for part, label, color, hatch in PARTS:
            width = finished[f"downtime_parts.{part}"].mean() / shown.divisor if len(finished) else 0.0
            axes.barh(
                number, width, left=left, height=0.72, color=color, hatch=hatch, edgecolor="white", lw=0,
                label=label if number == 0 else None,
            )  # fmt: skip
            left += width
        lost = space.why_not(rows) if len(finished) < len(rows) else ""
        text = tell("downtime_ns", finished["downtime_ns"].mean()) if len(finished) else ""
        axes.text(left, number, f" {text}", va="center", ha="left", fontsize=6)
        if lost:
            end: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center"}
            axes.text(1.0, number, f"\u2717 {lost}", fontsize=6, color=VERMILLION, **end)
        axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, (longest / shown.divisor or 1.0) * 1.22)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    seeds = frame["seed"].nunique() if "seed" in frame else 1
    if not longest:
        axes.set_xticks([])
        axes.set_xlabel(f"{name_of('downtime_ns')}: nothing completed")
        return
    axes.set_xlabel(shown.label.replace(" (", f", mean of {seeds} seeds (") if seeds > 1 else shown.label)


def _bars(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    columns = [name for name in space.choices(frame) if name.startswith("policy.")]
    found = [
        (space.policy_text(rows.iloc[0], columns), rows)
        for _, rows in frame.groupby(columns or [space.POLICY], dropna=False, sort=True)
    ]
    order = {name: number for number, name in enumerate(POLICIES)}
    return sorted(found, key=lambda bar: order.get(str(bar[1][space.POLICY].iloc[0]), len(order)))
