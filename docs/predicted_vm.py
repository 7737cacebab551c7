"""Predicts migrations of running VMs, carries them out, and prints both (the table of docs/qemu.md).

In the lab, with the extra `qemu`: simmig lab -- python docs/predicted_vm.py [--links 'A;B'] [--keep FILE]
On the first link the devices are calibrated while a VM runs; of another one the rate and the delay are put into
that model as they were set. On each link each guest is watched and its migration predicted under every policy;
then each is carried out with a fresh pair of QEMUs. Nothing of a prediction comes from the migrations. `--keep`
adds all figures of each row to a file, as a line of JSON; rows that it has are not run again. The links are
slow; with a machine that does other things meanwhile, what is calibrated and measured is that. `--measured` takes
the migrations from a file that was kept, and carries out none: a prediction made anew beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from live_vm import PORT, netem

from simmig.experiment import units
from simmig.experiment.fit.calibrate import Model
from simmig.experiment.fit.compare_vm import (
    Figure,
    PolicyRow,
    bandwidth_bit_s,
    document,
    measure_in,
    predict,
    scenarios,
    told_apart,
)
from simmig.experiment.fit.model_file import read_model
from simmig.experiment.fit.watched_vm import watch_vm
from simmig.experiment.runs.ends import Address
from simmig.lab import firmware
from simmig.lab.vm import Vm, counted
from simmig.trace.metrics import Metrics
from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import load
from simmig.verbs.rdma.runtime import RdmaRuntime

MIB = 1 << 20
RAM_BYTES = 32 * MIB
LINKS = {"16 Mbit/s": (16, 0), "8 Mbit/s, 5 ms": (8, 5)}
"""Rate in Mbit/s and delay in ms, each way: slow enough for emulated processors to keep up with."""
GUEST_NICE = 19
"""The guest never rests: its processor yields to the migration, which would else have one and a half of two."""
GUESTS = {"128 KiB/s over 1 MiB": (128, 1), "384 KiB/s over 4 MiB": (384, 4)}
POLICIES = ("per-iteration", "per-chunk", "pending-limit,limit=1 MiB", "at-switch")
HEAD = (
    "| link | guest | policy | runs | downtime: predicted | measured | off | "
    "| total: predicted | measured | off | |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


@asynccontextmanager
async def pair(rate: int, working_set: int) -> AsyncIterator[tuple[Vm, Vm, Address]]:
    """A VM that runs, a QEMU that waits for it, and where."""
    image = firmware.image(rate * 1024, working_set_bytes=working_set * MIB)
    at = Address(device.address(load(), "rxe1").ip, PORT)
    with tempfile.TemporaryDirectory(prefix="vm-") as path:
        a, b = Path(path) / "a", Path(path) / "b"
        a.mkdir()
        b.mkdir()
        async with (
            Vm(a, image, RAM_BYTES, shared=True) as source,
            Vm(b, image, RAM_BYTES, incoming=f"rdma:{at}") as destination,
        ):
            for cpu in await source.execute("query-cpus-fast"):
                os.setpriority(os.PRIO_PROCESS, cpu["thread-id"], GUEST_NICE)
            await source.says(2)
            yield source, destination, at


def set_link(link: str) -> None:
    """Have the lab's link so."""
    rate, delay = LINKS[link]
    netem(f"rate {rate}mbit delay {delay}ms")


async def calibrated(file: Path) -> Model:
    """The model of the link and its devices, beside a VM that runs."""
    async with pair(*next(iter(GUESTS.values()))):
        command = [sys.executable, "-m", "simmig.cli", "calibrate", "--out", str(file)]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
        if await process.wait():
            raise SystemExit("no calibration")
    return read_model(file)


def on(link: str, calibrated_on: str, model: Model) -> Model:
    """The model that was calibrated on one link, on another."""
    if link == calibrated_on:
        return model
    (rate, delay), (_, delay_before) = LINKS[link], LINKS[calibrated_on]
    latency_ns = units.time_ns(model.tables["link"]["latency"]) + (delay - delay_before) * 1_000_000
    set_anew = {"bandwidth": f"{rate} Mbit/s", "latency": f"{max(0, latency_ns)} ns"}
    tables = model.tables | {"link": model.tables["link"] | set_anew}
    return replace(model, tables=tables)


async def predicted(model: Model, guest: tuple[int, int], policies: Sequence[str]) -> list[PolicyRow]:
    """The guest watched, and what is to be expected of it."""
    async with pair(*guest) as (source, _, _):
        bandwidth = bandwidth_bit_s(model)
        watched = await asyncio.to_thread(watch_vm, source.monitor_socket, None, bandwidth, lambda _: None)
    print(f"<!-- {watched.words} -->", flush=True)
    return [
        PolicyRow(policy, predict(watched, model.applied_to(scenario)))
        for policy, scenario in scenarios(Path(), policies, ())
    ]


async def measured(row: PolicyRow, guest: tuple[int, int]) -> PolicyRow:
    """The same row with one migration more; SystemExit when the VM does not live."""
    async with pair(*guest) as (source, destination, at):
        runtime = RdmaRuntime()
        [(_, scenario)] = scenarios(Path(), [row.policy], ())
        qmp = source.monitor_socket, destination.monitor_socket
        found = await measure_in(scenario, qmp[0], at, "rxe0", qmp[1], runtime, runtime.signal())
        if found.result.status == "completed":
            await destination.says(5)
            said = counted(source.serial, destination.serial)
            if said.steps != {1} or said.bad:
                raise SystemExit(f"{row.policy}: the VM has lost a page: {said}")
    return replace(row, measured=(*row.measured, found))


def line(link: str, guest: str, policy: str, runs: int, figures: Sequence[Figure | None]) -> str:
    """A row of the table."""
    cells = [link, guest, policy, str(runs)]
    for figure in figures:
        cells += told(figure)
    return f"| {' | '.join(cells)} |"


def beside(row: PolicyRow, runs: Sequence[dict[str, Any]]) -> tuple[Figure, Figure]:
    """Downtime and total time, of a prediction beside migrations that were kept."""
    downtimes = [run["qemu_downtime_ns"] or run["downtime_ns"] for run in runs]
    totals = [run["total_time_ns"] for run in runs]
    return (
        Figure(row.predicted.downtime_ns, round(median(downtimes))),
        Figure(row.predicted.total_time_ns, round(median(totals))),
    )


def told(figure: Figure | None) -> list[str]:
    """A figure's cells."""
    if figure is None:
        return ["no verdict", "", "", ""]
    times = [f"{ns / 1e6:.0f} ms" for ns in (figure.predicted_ns, figure.measured_ns)]
    return [*times, f"{100 * figure.off:+.0f} %", "hit" if figure.hit else "**miss**"]


def kept(file: Path | None) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """The migrations of the rows that were run already."""
    lines = file.read_text().splitlines() if file is not None and file.exists() else []
    rows = map(json.loads, lines)
    return {(row["link"], row["guest"], row["policy"]): row["measured"] for row in rows}


def keep(file: Path | None, link: str, guest: str, row: PolicyRow) -> None:
    """Add it to the file."""
    if file is not None:
        with file.open("a") as lines:
            kept = {"link": link, "guest": guest} | document(row)
            kept["predicted"]["each_round"] = rounds(row.predicted.result.metrics)
            for each, found in zip(kept["measured"], row.measured, strict=True):
                each["each_round"] = rounds(found.result.metrics)
            lines.write(json.dumps(kept) + "\n")


def rounds(metrics: Metrics) -> list[dict[str, Any]]:
    """What each round took and sent: where a prediction misses, this is where it parts from the real thing."""
    return [asdict(each) for each in metrics.rounds]


def names(known: dict[str, Any]) -> Any:
    """Parses a choice of these, a part of each name, with semicolons between them."""

    def parse(text: str) -> list[str]:
        found = [name for name in known if any(part in name for part in text.split(";"))]
        if not found:
            raise argparse.ArgumentTypeError(f"{text} is in none of {'; '.join(known)}")
        return found

    return parse


def main() -> int:
    """What was asked for, a line each; exit status 1 when a prediction missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", type=names(LINKS), default=list(LINKS), help="; ".join(LINKS))
    parser.add_argument("--guests", type=names(GUESTS), default=list(GUESTS), help="; ".join(GUESTS))
    parser.add_argument("--policies", default=";".join(POLICIES), help="with ; between them: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="migrations of each: %(default)s")
    parser.add_argument("--keep", type=Path, metavar="FILE.jsonl")
    parser.add_argument("--measured", type=Path, metavar="FILE.jsonl", help="migrations kept before")
    parser.add_argument(
        "--model", type=Path, metavar="FILE.toml", help="of one of the links: kept there, taken from there"
    )
    asked = parser.parse_args()
    print(HEAD, flush=True)
    done, earlier, hits, tried = kept(asked.keep), kept(asked.measured), 0, 0
    model, calibrated_on = None, asked.links[0]
    if asked.model is not None and asked.model.exists():
        model = read_model(asked.model)
        calibrated_on = min(LINKS, key=lambda link: abs(LINKS[link][0] * 1e6 - bandwidth_bit_s(model)))
    for link in asked.links:
        set_link(link)
        for guest in asked.guests:
            policies = [each for each in asked.policies.split(";") if (link, guest, each) not in done]
            if not policies:
                continue
            if model is None:
                with tempfile.TemporaryDirectory() as directory:
                    model = asyncio.run(calibrated(asked.model or Path(directory) / "model.toml"))
            rows = []
            for expected in asyncio.run(predicted(on(link, calibrated_on, model), GUESTS[guest], policies)):
                row = expected
                runs = earlier.get((link, guest, row.policy), [])
                for _ in range(0 if runs else asked.repeats):
                    row = asyncio.run(measured(row, GUESTS[guest]))
                rows.append(row)
                keep(asked.keep, link, guest, row)
                figures = beside(row, runs) if runs else (row.downtime, row.total_time)
                print(line(link, guest, row.policy, len(runs or row.measured), figures), flush=True)
                tried += sum(figure is not None for figure in figures)
                hits += sum(figure is not None and figure.hit for figure in figures)
            for one, other, as_predicted in told_apart(rows):
                verdict = "as predicted" if as_predicted else "**not predicted**"
                print(f"<!-- {one} has a shorter downtime than {other} in every run: {verdict} -->", flush=True)
                tried, hits = tried + 1, hits + as_predicted
    print(f"\n{hits} of {tried} figures and orders hit")
    return 0 if hits == tried else 1


if __name__ == "__main__":
    sys.exit(main())
