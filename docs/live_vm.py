"""Moves running VMs between stock QEMUs under every policy, and aborts ten migrations: prints what became of each.

In the lab, with the extra `qemu`: simmig lab -- python docs/live_vm.py [--only WORDS]... [--netem 'rate 200mbit']
Each row is a fresh pair of QEMUs with a guest that notices a lost or torn page. Downtimes are simmig's, beside
those of QEMU's own clock (the events STOP at the source and RESUME at the destination). Exit status 1 when a VM
was lost, lived twice or found a bad page.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qemu.qmp import QMPError

from simmig.experiment.ends import Address
from simmig.experiment.ends_qemu import migrate_vm
from simmig.experiment.machines import scenario_for
from simmig.lab import firmware
from simmig.lab.vm import BINARY, Vm, counted
from simmig.trace.events import (
    AnyEvent,
    BitmapSynced,
    DeviceStateSent,
    Event,
    MigrationBegan,
    SetupEnded,
    SliceBegan,
    SliceEnded,
    VmStopped,
)
from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import load
from simmig.verbs.rdma.runtime import RdmaRuntime, RdmaSignal

POLICIES = (
    *("final-only", "per-iteration", "per-round", "per-chunk", "pending-limit,limit=2 MiB"),
    *("every-bytes,interval=4 MiB", "at-switch", "downtime-budget"),
)
MIB = 1 << 20
IMAGE = firmware.image(MIB, working_set_bytes=4 * MIB)
LINKS = ("veth0", "veth1")
PORT = 4470


@dataclass(frozen=True)
class Case:
    """A migration, and what is done to it: `strike` at the first event of that kind, or at its `nth`."""

    name: str
    policy: str = "per-iteration"
    pin_all: bool = False
    at: type[Event] | None = None
    strike: str = ""
    nth: int = 1


CASES = (
    *(Case(f"{policy.partition(',')[0]}, dynamic", policy) for policy in POLICIES),
    *(Case(f"{policy.partition(',')[0]}, pinned", policy, pin_all=True) for policy in POLICIES),
    Case("cancelled at the start", at=MigrationBegan, strike="cancel"),
    Case("cancelled after the setup", at=SetupEnded, strike="cancel"),
    Case("cancelled in a slice", at=SliceBegan, strike="cancel", nth=3),
    Case("cancelled at the stop", at=VmStopped, strike="cancel"),
    Case("cancelled after the state", at=DeviceStateSent, strike="cancel"),
    Case("destination killed after the setup", at=SetupEnded, strike="kill"),
    Case("destination killed at a sync", at=BitmapSynced, strike="kill", nth=2),
    Case("destination killed at the stop", at=VmStopped, strike="kill"),
    Case("destination killed after the state", at=DeviceStateSent, strike="kill"),
    Case("link cut in a slice", at=SliceEnded, strike="cut", nth=2),
)


@dataclass(frozen=True)
class Row:
    """What became of a case. Times in ms; `living` is where a VM runs in the end."""

    status: str
    simmig_ms: float
    qemu_ms: float | None
    living: str
    good: bool
    reason: str


def netem(words: str) -> None:
    """Rate, delay and loss of the lab's link, each way."""
    for name in LINKS:
        subprocess.run(["tc", "qdisc", "del", "dev", name, "root"], check=False, stderr=subprocess.DEVNULL)
        if words:
            command = f"tc qdisc add dev {name} root netem {words} limit 20000"
            subprocess.run(command.split(), check=True)


def striker(case: Case, destination: Vm, cancel: RdmaSignal) -> Callable[[AnyEvent], None]:
    """What does to the migration what the case says."""
    strikes: dict[str, Callable[[], object]] = {
        "cancel": cancel.set,
        "kill": lambda: os.kill(destination.pid, signal.SIGKILL),
        "cut": lambda: netem("loss 100%"),
    }
    seen = 0

    def see(event: AnyEvent) -> None:
        nonlocal seen
        if case.at is not None and isinstance(event, case.at):
            seen += 1
            if seen == case.nth:
                strikes[case.strike]()

    return see


async def when(vm: Vm, name: str) -> int | None:
    """When QEMU says that this happened last, in ns since 1970."""
    found = None
    for message in vm.events.clear():
        stamp = message["timestamp"]
        if message["event"] == name and isinstance(stamp, dict):
            found = int(stamp["seconds"]) * 1_000_000_000 + int(stamp["microseconds"]) * 1000
    return found


async def status(vm: Vm) -> str:
    """Its run state, or that it is gone."""
    try:
        return await vm.status() if vm.alive else "gone"
    except (QMPError, OSError, EOFError):
        return "gone"


async def carry_out(case: Case, words: str, program: str, directory: Path) -> Row:
    """One case, with QEMUs of its own."""
    (directory / "a").mkdir()
    (directory / "b").mkdir()
    netem(words)
    at = Address(device.address(load(), "rxe1").ip, PORT)
    binary = (program,)
    async with (
        Vm(directory / "a", IMAGE, 32 * MIB, shared=True, binary=binary) as source,
        Vm(directory / "b", IMAGE, 32 * MIB, incoming=f"rdma:{at}", binary=binary) as destination,
    ):
        await source.says(2)
        runtime = RdmaRuntime()
        cancel = runtime.signal()
        qmp = source.monitor_socket
        scenario = scenario_for(qmp, ((f"migration.pin_all={str(case.pin_all).lower()}",), case.policy, None))
        strike = striker(case, destination, cancel)
        result = await migrate_vm(scenario, qmp, at, "rxe0", runtime, cancel, [strike])
        netem(words)
        moved = result.status == "completed"
        await (destination if moved else source).says(15)
        states = {"source": await status(source), "destination": await status(destination)}
        living = [side for side, state in states.items() if state == "running"]
        said = counted(source.serial, destination.serial)
        alive = said.steps == {1} and not said.bad
        as_meant = (case.at is None) == moved and living == (["destination"] if moved else ["source"])
        stopped, resumed = await when(source, "STOP"), await when(destination, "RESUME")
        qemu_ms = (resumed - stopped) / 1e6 if stopped is not None and resumed is not None else None
        simmig_ms = result.metrics.downtime_ns / 1e6
        return Row(
            result.status, simmig_ms, qemu_ms, " and ".join(living) or "nowhere", alive and as_meant, result.reason
        )


def main() -> int:
    """All cases, or some, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], help="cases whose name has these words")
    parser.add_argument("--netem", default="rate 200mbit", help="the link, each way (man tc-netem(8))")
    parser.add_argument("--qemu", default=BINARY, help="the program at both ends")
    options = parser.parse_args()
    print("| migration | ended | downtime | by QEMU's clock | the VM lives | no page lost |", flush=True)
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    bad = 0
    for case in CASES:
        if options.only and not any(words in case.name for words in options.only):
            continue
        with tempfile.TemporaryDirectory(prefix="vm-") as directory:
            row = asyncio.run(carry_out(case, options.netem, options.qemu, Path(directory)))
        bad += not row.good
        qemu = "" if row.qemu_ms is None else f"{row.qemu_ms:.0f} ms"
        ended = row.status + (f" ({row.reason})" if row.reason else "")
        verdict = "yes" if row.good else "NO"
        print(
            f"| {case.name} | {ended} | {row.simmig_ms:.0f} ms | {qemu} | {row.living} | {verdict} |", flush=True
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
