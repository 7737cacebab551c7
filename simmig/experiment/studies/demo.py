"""The demo: one guest, one link, every built-in policy, on QEMU's wire as it is and with its freedoms used."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from simmig.experiment.amounts import format_bytes, format_rate, format_time
from simmig.experiment.reports.plots import tradeoff
from simmig.experiment.reports.plots.style import save
from simmig.experiment.reports.plots.timeline import plot_timeline
from simmig.experiment.reports.summary import headline
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.load import Overrides, load_scenario
from simmig.migration import policies
from simmig.verify.workers import prepare_worker

WIRES: dict[str, tuple[str, ...]] = {
    "QEMU's wire": (),
    "freedoms used": (
        "migration.slice=unlimited",
        "migration.registration_batch=64",
        "migration.control_wait=deferred",
        "migration.control_qp=own",
    ),
}
"""What is set for each: nothing, or what protocol version 1 leaves a sender free to do and, beyond it, a queue
pair of its own for control, which a stock QEMU does not speak."""

WAITS = ("drain_time_ns", "forced_drain_time_ns", "protocol_drain_time_ns")
TIMELINE_OF = ("freedoms used", "pending-limit")


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
    workers = min(len(tasks), os.cpu_count() or 1)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=prepare_worker) as pool:
        before = signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # workers inherit it: interrupts are for this process
        futures = [pool.submit(_run_one, task) for task in tasks]
        signal.signal(signal.SIGINT, before)
        try:
            for future in futures:
                yield future.result()
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _run_one(task: tuple[Path, str, str, Path]) -> Comparison:
    path, wire, policy, timeline = task
    scenario = load_scenario(path, Overrides(WIRES[wire], policy))
    result = run(scenario)
    if (wire, policy) == TIMELINE_OF:
        plot_timeline(result.metrics, headline(result, scenario).plain, timeline)
    return Comparison(wire, policy, result.figures())


def draw(rows: list[Comparison], path: Path, picture: Path) -> None:
    """The trade-off plot of a comparison of the scenario at `path`."""
    scenario = load_scenario(path)
    frame = pd.DataFrame(
        {
            "variant.wire": row.wire,
            "policy.name": row.policy,
            "migration.slice": row.wire,  # what the variants stand for, to whoever asks what is chosen
            "migration.downtime_limit_ns": scenario.migration.downtime_limit_ns,
            **{name: row.figures[name] for name in ("status", "total_time_ns", "downtime_ns")},
        }
        for row in rows
    )
    guest = f"{format_bytes(scenario.guest.memory_bytes)} guest, {scenario.guest.workload.kind} workload"
    title = f"{guest}, {scenario.link.model} ({format_rate(scenario.link.bandwidth_bit_s)})"
    save(tradeoff.figure(frame, title), picture)


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
    shown.add_column("")
    shown.add_column("policy")
    for heading in ("total", "downtime", "at stop", "at most", "waited", "asked", "forced", "due", "throughput"):
        shown.add_column(heading, justify="right")
    for row in rows:
        figures = row.figures
        first_of_wire = row.policy == rows[0].policy
        if first_of_wire and row is not rows[0]:
            shown.add_row()
        shown.add_row(
            row.wire if first_of_wire else "",
            row.policy if good(row) else f"{row.policy} ({figures['status']}, BROKEN)",
            format_time(figures["total_time_ns"]),
            "none" if figures["downtime_ns"] is None else format_time(figures["downtime_ns"]),
            format_bytes(figures["pending_bytes_at_stop"]),
            format_bytes(figures["max_pending_bytes"]),
            format_time(sum(figures[name] for name in WAITS)),
            *(format_time(figures[name]) for name in WAITS),
            format_rate(figures["throughput_bit_s"]),
        )
    return shown


LEGEND = """\
at stop, at most: posted and not completed when the guest was stopped, and ever.
waited: for posted writes, in all; asked by the policy, forced by the control channel, due by the protocol."""


def findings(rows: list[Comparison]) -> Iterator[str]:
    """What the table says, from its figures alone."""
    for wire, settings in WIRES.items():
        runs = [row.figures for row in rows if row.wire == wire]
        used = ", ".join(setting.removeprefix("migration.") for setting in settings)
        yield f"{wire} ({used})" if used else wire
        yield (
            f"  downtime {_span(runs, 'downtime_ns', format_time)}, "
            f"with {_span(runs, 'pending_bytes_at_stop', format_bytes)} pending at the stop, "
            f"in a total of {_span(runs, 'total_time_ns', format_time)}"
        )


def _span(runs: list[dict[str, Any]], figure: str, tell: Callable[[int], str]) -> str:
    """From the least to the most, over the policies."""
    least, most = (tell(pick(run[figure] for run in runs if run[figure] is not None)) for pick in (min, max))
    return least if least == most else f"{least} to {most}"
