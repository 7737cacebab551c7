"""The demo: one guest, one link, every built-in policy, on QEMU's wire as it is and with its freedoms used."""

from __future__ import annotations

import csv
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from simmig.experiment.amounts import format_bytes, format_rate, format_time
from simmig.experiment.load import Overrides, load_scenario
from simmig.experiment.plot_timeline import plot_timeline
from simmig.experiment.run import run
from simmig.experiment.summary import headline
from simmig.migration import policies

WIRES: dict[str, tuple[str, ...]] = {
    "QEMU's": (),
    "freed": (
        "migration.slice=unlimited",
        "migration.registration_batch=4096",
        "migration.control_wait=deferred",
        "migration.control_qp=own",
    ),
}
"""What is set for each wire: nothing, or everything that protocol version 1 leaves a sender free to do, and more:
a control connection of its own, which a stock QEMU does not speak."""

TIMELINE_OF = ("freed", "pending-limit")


@dataclass(frozen=True)
class Comparison:
    """One policy on one wire, and the figures of the run."""

    wire: str
    policy: str
    figures: dict[str, Any]


def runs() -> list[tuple[str, str]]:
    """The wire and the policy of each run."""
    return [(wire, policy) for wire in WIRES for policy in policies.builtin()]


def good(row: Comparison) -> bool:
    """Completed, and nothing that must hold was broken."""
    return row.figures["status"] == "completed" and all(row.figures["invariants"].values())


def compare(scenario: Path, timeline: Path) -> Iterator[Comparison]:
    """Run every policy on both wires, on all cores; yields each as it is done, in a fixed order.

    The picture of one of the runs is written to `timeline`.
    """
    tasks = [(scenario, wire, policy, timeline) for wire, policy in runs()]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(len(tasks), os.cpu_count() or 1), mp_context=context) as pool:
        yield from pool.map(_run_one, tasks)


def _run_one(task: tuple[Path, str, str, Path]) -> Comparison:
    path, wire, policy, timeline = task
    scenario = load_scenario(path, Overrides(WIRES[wire], policy))
    result = run(scenario)
    if (wire, policy) == TIMELINE_OF:
        plot_timeline(result.metrics, headline(result, scenario).plain, timeline)
    return Comparison(wire, policy, result.figures())


def write_csv(rows: list[Comparison], path: Path) -> None:
    """All figures, a line a run."""
    names = [name for name, value in rows[0].figures.items() if not isinstance(value, dict)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["wire", *names])
        writer.writerows([row.wire, *(row.figures[name] for name in names)] for row in rows)


def table(rows: list[Comparison]) -> Table:
    """The comparison as a person reads it: what the control channel forces beside what the policy adds."""
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    shown.add_column("wire")
    shown.add_column("policy")
    headings = (
        "total",
        "downtime",
        "drains asked",
        "waited: asked",
        "forced",
        "due",
        "pending at most",
        "at stop",
    )
    for heading in (*headings, "throughput"):
        shown.add_column(heading, justify="right")
    for row in rows:
        figures = row.figures
        first_of_wire = row.policy == rows[0].policy
        if first_of_wire and row is not rows[0]:
            shown.add_row()
        failed = (
            "" if figures["status"] == "completed" and figures["memory_identical"] else f" ({figures['status']})"
        )
        shown.add_row(
            row.wire if first_of_wire else "",
            row.policy + failed,
            format_time(figures["total_time_ns"]),
            format_time(figures["downtime_ns"]),
            str(figures["drains"]),
            format_time(figures["drain_time_ns"]),
            format_time(figures["forced_drain_time_ns"]),
            format_time(figures["protocol_drain_time_ns"]),
            format_bytes(figures["max_pending_bytes"]),
            format_bytes(figures["pending_bytes_at_stop"]),
            format_rate(figures["throughput_bit_s"]),
        )
    return shown


def findings(rows: list[Comparison]) -> Iterator[str]:
    """What the table says, a sentence a wire, from its figures alone."""
    for wire in WIRES:
        runs = [row.figures for row in rows if row.wire == wire]
        low, high = (format_time(pick(run["downtime_ns"] for run in runs)) for pick in (min, max))
        least, most = (format_time(pick(run["drain_time_ns"] for run in runs)) for pick in (min, max))
        forced = [run["forced_drain_time_ns"] for run in runs]
        spread = f"downtime from {low} to {high}" if low != high else f"a downtime of {low} under every policy"
        asked = f"{least} to {most}" if least != most else least
        yield (
            f"On {wire} wire: {spread}; waited because the policy asked {asked}, because the control channel "
            f"forced it {format_time(min(forced))} to {format_time(max(forced))}."
        )
