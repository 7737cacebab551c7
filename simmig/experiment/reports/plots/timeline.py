"""One migration over time: what was pending, sent and dirtied, who waited, and where the downtime went."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simmig.experiment.amounts import format_bytes, format_time
from simmig.experiment.reports.plots.arrivals import Floats, arrival_rate
from simmig.experiment.reports.plots.downtime import PARTS
from simmig.experiment.reports.plots.style import (
    BLUE,
    DARK,
    DPI,
    GREEN,
    ORANGE,
    PAGE_IN,
    PURPLE,
    SKY,
    VERMILLION,
    in_style,
    save,
)
from simmig.trace.events import AskedBy
from simmig.trace.metrics import Metrics
from simmig.trace.series import Amount, Gauge

_MIB = 1 << 20
_WAITS: Sequence[tuple[AskedBy, str, str, str]] = (
    ("policy", "the policy asks", GREEN, ""),
    ("wire", "the control channel forces", ORANGE, "////"),
    ("protocol", "the protocol must", VERMILLION, "xxxx"),
)


def plot_timeline(metrics: Metrics, title: str, path: Path) -> None:
    """Write the timeline as a PNG. `title` says what ran; the outcome stands above it."""
    save(figure(metrics, title), path)


def figure(metrics: Metrics, title: str) -> Figure:
    """The timeline as a figure as wide as a page."""
    with in_style():
        return _figure(metrics, title)


def _figure(metrics: Metrics, title: str) -> Figure:
    drawn = Figure(figsize=(PAGE_IN, 5.7), dpi=DPI)
    pending = drawn.add_axes((0.09, 0.575, 0.88, 0.295))
    rates = drawn.add_axes((0.09, 0.37, 0.88, 0.16), sharex=pending)
    waits = drawn.add_axes((0.09, 0.225, 0.88, 0.1), sharex=pending)
    downtime = drawn.add_axes((0.09, 0.065, 0.88, 0.045))
    took, stood = format_time(metrics.total_time_ns), f"guest stopped for {format_time(metrics.downtime_ns)}"
    if not completed(metrics):
        stood = "not completed" if metrics.stopped_ns is None else f"not completed, {stood}"
    drawn.suptitle(f"total time {took}, {stood}", x=0.09, y=0.985, ha="left", fontsize=9)
    drawn.text(0.09, 0.95, "\n".join(textwrap.wrap(title, 112)), fontsize=7, va="top", color=DARK)
    draw_pending(pending, metrics)
    _draw_rates(rates, metrics)
    _draw_waits(waits, metrics)
    draw_downtime(downtime, metrics)
    for axes in (pending, rates):
        axes.tick_params(labelbottom=False)
    waits.set_xlabel("time since the migration began (s)")
    waits.set_xlim(0, max(metrics.total_time_ns, 1) / 1e9)
    return drawn


def completed(metrics: Metrics) -> bool:
    """Whether a side says that it completed."""
    return any(ended.status == "completed" for ended in metrics.ended.values())


def _seconds(metrics: Metrics, t_ns: int) -> float:
    return (t_ns - metrics.began_ns) / 1e9


def steps(gauge: Gauge, end_ns: int) -> tuple[Floats, Floats, Floats]:
    """Bin edges, and per edge the lowest and the highest value until the next one."""
    times: list[int] = []
    lows: list[int] = []
    highs: list[int] = []
    last = 0
    for index, values in gauge.bins.items():
        begin_ns = index * gauge.width_ns
        if times and begin_ns > times[-1] + gauge.width_ns:  # nothing happened in between
            times.append(times[-1] + gauge.width_ns)
            lows.append(last)
            highs.append(last)
        last = values.last
        times.append(begin_ns)
        lows.append(values.low)
        highs.append(values.high)
    if times:
        if end_ns > times[-1] + gauge.width_ns:  # nothing happened since
            times.append(times[-1] + gauge.width_ns)
            lows.append(last)
            highs.append(last)
        times.append(max(end_ns, times[-1] + gauge.width_ns))
        lows.append(last)
        highs.append(last)
    return np.array(times, dtype=float), np.array(lows, dtype=float), np.array(highs, dtype=float)


def _per_second(amount: Amount, until_ns: int, bins: int = 60) -> tuple[Floats, Floats]:
    """Bin edges in ns, and the rate in each, in bins wide enough to be read."""
    width_ns = amount.width_ns
    while until_ns // width_ns > bins:
        width_ns *= 2
    totals = np.zeros(until_ns // width_ns + 1)
    for index, value in amount.bins.items():
        totals[min(index * amount.width_ns // width_ns, len(totals) - 1)] += value
    return np.arange(len(totals) + 1, dtype=float) * width_ns, totals * 1e9 / width_ns


def draw_pending(axes: Axes, metrics: Metrics) -> None:
    """What is pending, over time, with the rounds behind it."""
    end_ns = metrics.began_ns + metrics.total_time_ns
    times, lows, highs = steps(metrics.pending, end_ns)
    axes.set_ylabel("pending writes (MiB)")
    top = max(metrics.max_pending_bytes / _MIB, 1e-3) * 1.22
    axes.set_ylim(0, top)
    _shade_rounds(axes, metrics, top)
    if len(times):
        seconds = (times - metrics.began_ns) / 1e9
        axes.fill_between(seconds, lows / _MIB, highs / _MIB, step="post", color=SKY, lw=0, alpha=0.7)
        axes.step(seconds, highs / _MIB, where="post", color=BLUE, lw=1)
    _mark_stop(axes, metrics)
    if metrics.stopped_ns is not None:
        axes.text(
            1.0,
            1.02,
            f"guest stopped with {format_bytes(metrics.pending_bytes_at_stop)} pending",
            transform=axes.transAxes,
            ha="right",
            va="bottom",
            fontsize=7,
            color=VERMILLION,
        )


def _shade_rounds(axes: Axes, metrics: Metrics, top: float) -> None:
    """Every other round is shaded; those wide enough to hold it carry their number."""
    total_ns = max(metrics.total_time_ns, 1)
    for row in metrics.rounds:
        begin, end = _seconds(metrics, row.began_ns), _seconds(metrics, max(row.ended_ns, row.began_ns))
        if row.index % 2:
            axes.axvspan(begin, end, color="#000000", alpha=0.06, lw=0)
        if (row.ended_ns - row.began_ns) / total_ns > 0.025:
            wide = (row.ended_ns - row.began_ns) / total_ns > 0.08
            text = f"round {row.index}" if wide else str(row.index)
            axes.text((begin + end) / 2, top * 0.97, text, ha="center", va="top", fontsize=6.5, color=DARK)


def _mark_stop(axes: Axes, metrics: Metrics) -> None:
    if metrics.stopped_ns is None:
        return
    stop = _seconds(metrics, metrics.stopped_ns)
    axes.axvspan(stop, stop + metrics.downtime_ns / 1e9, color=VERMILLION, alpha=0.25, lw=0)
    axes.axvline(stop, color=VERMILLION, lw=1.2)


def _draw_rates(axes: Axes, metrics: Metrics) -> None:
    end_ns = metrics.began_ns + metrics.total_time_ns
    shown = []
    if metrics.arrived.bins:
        shown.append((*arrival_rate(metrics, end_ns), "RAM arrived", BLUE, "-"))
    if metrics.dirtied.bins:
        shown.append((*_per_second(metrics.dirtied, end_ns), "guest writes", PURPLE, "--"))
    for edges, rate, label, color, style in shown:
        seconds = (edges - metrics.began_ns) / 1e9
        axes.stairs(rate / _MIB, seconds, color=color, label=label, lw=1.3, ls=style)
    _mark_stop(axes, metrics)
    axes.set_ylabel("rate (MiB/s)")
    axes.set_ylim(bottom=0)
    _legend_above(axes)


def _draw_waits(axes: Axes, metrics: Metrics) -> None:
    """The share of time that the source spends waiting for its writes, by who makes it wait."""
    end_ns = metrics.began_ns + metrics.total_time_ns
    _mark_stop(axes, metrics)
    width_ns = max(metrics.waited[who].width_ns for who in metrics.waited)
    while end_ns // width_ns > 200:
        width_ns *= 2
    below = np.zeros(end_ns // width_ns + 1)
    edges = np.arange(len(below) + 1) * width_ns
    seconds = (edges - metrics.began_ns) / 1e9
    for who, label, color, hatch in _WAITS:
        amount = metrics.waited[who]
        waited = np.zeros(len(below))
        for index, value in amount.bins.items():
            waited[min(index * amount.width_ns // width_ns, len(waited) - 1)] += value
        above = below + 100 * waited / width_ns
        look: dict[str, Any] = {"facecolor": color, "edgecolor": "white", "hatch": hatch, "lw": 0}
        axes.stairs(above, seconds, baseline=below, fill=True, label=label, **look)
        below = above
    axes.set_ylim(0, 100)
    axes.set_ylabel("waiting\n(% of time)")
    _legend_above(axes)


def draw_downtime(axes: Axes, metrics: Metrics, widest_ns: int | None = None) -> None:
    """Where the downtime went, as one bar; beside others on a scale for the widest of them."""
    axes.set_yticks([])
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    if not completed(metrics):
        stood = "the guest was never stopped" if metrics.stopped_ns is None else "the guest ran on at the source"
        axes.set_xticks([])
        axes.set_xlabel(f"no downtime: it did not complete, {stood}")
        return
    widest_ns = metrics.downtime_ns if widest_ns is None else widest_ns
    scale, unit = (1e6, "ms") if widest_ns >= 1e6 else (1e3, "us")
    axes.set_xlabel(f"downtime ({unit})")
    left = 0.0
    for name, label, color, hatch in PARTS:
        spent_ns = getattr(metrics.downtime, name)
        look: dict[str, Any] = {"color": color, "hatch": hatch, "edgecolor": "white", "lw": 0}
        axes.barh(0, spent_ns / scale, left=left, label=f"{label} {format_time(spent_ns)}", **look)
        left += spent_ns / scale
    axes.set_xlim(0, widest_ns / scale or 1)
    _legend_above(axes)


def _legend_above(axes: Axes) -> None:
    """Beside nothing that is drawn."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.01, 0.97),
            borderaxespad=0.0,
            ncols=4,
            fontsize=7,
            frameon=False,
            handlelength=1.4,
        )
