"""Moves VMs between stock QEMUs in every way there is, and prints what became of each (tables of docs/qemu.md).

In the lab, with the extra `qemu`: simmig lab -- python docs/live_vm.py [GROUP...] [--only WORDS] [--netem WORDS]
Each row is a fresh pair of QEMUs with a guest that notices a lost or torn page (`live_vm_cases.py`); versions
that are not here are left out, with a word. Downtimes are simmig's, beside those of QEMU's own clock (from the
event STOP to the next RESUME, on either side). Exit status 1 when a VM was lost, lived twice, found a bad page, or
ended otherwise than was meant.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import live_vm_linux
from live_vm_cases import GROUPS, Case
from qemu.qmp import ExecuteError, QMPError

from simmig.experiment.errors import InputError
from simmig.experiment.runs import ends
from simmig.experiment.runs.ends import Address, EndResult
from simmig.experiment.runs.ends_qemu import migrate_vm
from simmig.experiment.scenario import machines
from simmig.lab import firmware as test_guest
from simmig.lab.qemu import find
from simmig.lab.vm import Vm, counted
from simmig.trace.events import AnyEvent, ControlReceived, ControlSent, MemoryRegistered
from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import load
from simmig.verbs.rdma.runtime import RdmaRuntime, RdmaSignal

MIB = 1 << 20
IMAGE = test_guest.image(MIB, working_set_bytes=4 * MIB)
RAM_BYTES = 32 * MIB
BOOT_PATIENCE_S = 900.0
"""Linux, emulated within an emulated machine."""
LINKS = ("veth0", "veth1")
PORT, PORT_KEPT = 4470, 4471
HEAD = (
    "| migration | QEMU | ended | slices | registered | downtime | by QEMU's clock | the VM lives | as meant |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


@dataclass(frozen=True)
class Row:
    """What became of a case. Times in ms; `living` is where a VM runs in the end."""

    status: str
    slices: int
    registered: str
    simmig_ms: float | None
    qemu_ms: float | None
    living: str
    good: bool
    reason: str
    words: str


class Watch:
    """Counts what goes over the control channel, and strikes when the case says so."""

    def __init__(self, case: Case, strikes: dict[str, Callable[[], object]]) -> None:
        self._case = case
        self._strikes = strikes
        self._seen = 0
        self.commands = 0
        self.chunks: Counter[int] = Counter()

    def __call__(self, event: AnyEvent) -> None:
        """Take an event."""
        if isinstance(event, ControlSent | ControlReceived) and event.type == "REGISTER_REQUEST":
            self.commands += 1
        if isinstance(event, MemoryRegistered):
            self.chunks[event.length_bytes] += 1
        if self._case.at is not None and isinstance(event, self._case.at):
            self._seen += 1
            if self._seen == self._case.nth:
                self._strikes[self._case.strike]()

    @property
    def registered(self) -> str:
        """In words: how many messages, for how much memory."""
        if not self.commands:
            return "whole blocks" if self.chunks else ""
        total = sum(size * count for size, count in self.chunks.items())
        return f"{total / MIB:.0f} MiB in {self.commands} messages"


def netem(words: str) -> None:
    """Rate, delay and loss of the lab's link, each way."""
    for name in LINKS:
        subprocess.run(["tc", "qdisc", "del", "dev", name, "root"], check=False, stderr=subprocess.DEVNULL)
        if words:
            command = f"tc qdisc add dev {name} root netem {words} limit 20000"
            subprocess.run(command.split(), check=True)


def moments(vm: Vm) -> dict[str, int]:
    """When QEMU says that a thing happened last, in ns since 1970, by the event's name."""
    found = {}
    for message in vm.events.clear():
        stamp = message["timestamp"]
        if isinstance(stamp, dict):
            at_ns = int(stamp["seconds"]) * 1_000_000_000 + int(stamp["microseconds"]) * 1000
            found[str(message["event"])] = at_ns
    return found


async def status(vm: Vm) -> str:
    """Its run state, or that it is gone."""
    try:
        return await vm.status() if vm.alive else "gone"
    except (QMPError, OSError, EOFError):
        return "gone"


def complaint(vm: Vm) -> str:
    """What QEMU has said first of what it does not like."""
    said = (line.partition("qemu-system-x86_64: ")[2] for line in vm.messages.splitlines())
    return next(filter(None, said), "nothing")


async def send_running(
    case: Case, source: Vm, destination: Vm, at: Address, words: str
) -> tuple[EndResult, Watch]:
    """`simmig send --qemu`."""
    runtime = RdmaRuntime()
    cancel: RdmaSignal = runtime.signal()
    plugging: list[asyncio.Future[None]] = []
    watch = Watch(
        case,
        {
            "cancel": cancel.set,
            "kill": lambda: os.kill(destination.pid, signal.SIGKILL),
            "cut": lambda: netem("loss 100%"),
            "plug": lambda: plugging.append(asyncio.ensure_future(plug(case, source))),
        },
    )
    qmp = source.monitor_socket
    scenario = machines.scenario_for(qmp, (case.settings, case.policy, None))
    if case.capability:
        asked = [{"capability": case.capability, "state": True}]
        await source.execute("migrate-set-capabilities", capabilities=asked)
    result = await migrate_vm(scenario, qmp, at, "rxe0", runtime, cancel, [watch])
    for each in plugging:
        await each
    netem(words)
    return result, watch


async def plug(case: Case, vm: Vm) -> None:
    """Plug in what the case says."""
    arguments = dict(case.plug)
    if "memdev" in arguments:
        size = {"qom_type": "memory-backend-ram", "id": arguments["memdev"], "size": 128 * MIB}
        await vm.execute("object-add", **size)
    await vm.execute("device_add", **arguments)


async def keep_and_send(case: Case, source: Vm, at: Address, directory: Path) -> tuple[EndResult, Watch]:
    """`migrate` to a `simmig receive --save`, then `simmig send --load`; of the former what was seen."""
    saved, here = directory / "saved", Address(at.ip, PORT_KEPT)
    listening = threading.Event()
    watch = Watch(case, {})
    asked = [{"capability": "rdma-pin-all", "state": case.rdma_pin_all}]
    await source.execute("migrate-set-capabilities", capabilities=asked)

    def receive() -> EndResult:
        scenario = machines.scenario_for(None, (case.taking, None, None))
        with machines.keeping(saved, None) as keeping:
            return ends.receive(
                scenario, here, "rxe1", lambda _: listening.set(), [watch], (), keeping.both(None), keeping.machine
            )

    def send() -> EndResult:
        scenario = machines.scenario_for(saved, (case.settings, case.policy, None))
        return ends.send(scenario, at, "rxe0", machine=machines.load(saved, None))

    receiving = asyncio.create_task(asyncio.to_thread(receive))
    while not listening.is_set() and not receiving.done():
        await asyncio.sleep(0.05)
    with contextlib.suppress(ExecuteError):  # where it is turned away, the command itself fails
        await source.migrate(f"rdma:{here}")
    received = await receiving
    if received.status != "completed":
        return received, watch
    return await asyncio.to_thread(send), watch


async def carry_out(case: Case, words: str, directory: Path) -> Row:
    """One case, with QEMUs of its own."""
    (directory / "a").mkdir()
    (directory / "b").mkdir()
    netem(words)
    at = Address(device.address(load(), "rxe1").ip, PORT)
    programs = [(str(find(version)),) for version in (case.source, case.destination)]
    firmware, ram_bytes, arguments = IMAGE, RAM_BYTES, case.arguments
    if case.linux:
        firmware, ram_bytes = live_vm_linux.FIRMWARE.read_bytes(), live_vm_linux.RAM_BYTES
        arguments += live_vm_linux.arguments(directory)
    machine_there, arguments_there = case.there or (case.machine, arguments)
    async with (
        Vm(
            *(directory / "a", firmware, ram_bytes),
            machine=case.machine,
            arguments=arguments,
            shared=not case.kept,
            binary=programs[0],
        ) as source,
        Vm(
            *(directory / "b", firmware, ram_bytes),
            machine=machine_there,
            arguments=arguments_there,
            incoming=f"rdma:{at}",
            binary=programs[1],
        ) as destination,
    ):
        await source.says(2, BOOT_PATIENCE_S)
        try:
            if case.kept:
                result, watch = await keep_and_send(case, source, at, directory)
            else:
                result, watch = await send_running(case, source, destination, at, words)
        except InputError as error:  # before anything was touched
            said = await source.says(5)
            good = said.steps == {1} and not said.bad and not case.arrives and await status(source) == "running"
            return Row("refused", 0, "", None, None, "source", good, str(error).split("\n")[-1].strip(), "")
        moved = result.status == "completed"
        await (destination if moved else source).says(15)
        states = {"source": await status(source), "destination": await status(destination)}
        living = [side for side, state in states.items() if state == "running"]
        said = counted(source.serial, destination.serial)
        good = said.steps == {1} and not said.bad and case.arrives == moved
        here, there = moments(source), moments(destination)
        resumed_ns = (there if moved else here).get("RESUME", 0)
        qemu_ms = (resumed_ns - here["STOP"]) / 1e6 if 0 < here.get("STOP", 0) < resumed_ns else None
        return Row(
            result.status,
            len(result.metrics.slices),
            watch.registered,
            None if case.kept else result.metrics.downtime_ns / 1e6,
            None if case.kept else qemu_ms,
            " and ".join(living) or "nowhere",
            good and living == (["destination"] if moved else ["source"]),
            result.reason,
            complaint(destination) if case.there and not moved else "",
        )


def line(case: Case, row: Row) -> str:
    """A row of the table."""
    ended = row.status + (f" ({row.reason})" if row.reason else "")
    ended += f"; QEMU there: {row.words}" if row.words else ""
    times = ("" if ms is None else f"{ms:.0f} ms" for ms in (row.simmig_ms, row.qemu_ms))
    verdict = "yes" if row.good else "NO"
    cells = (case.name, case.way, ended, row.slices, row.registered, *times, row.living, verdict)
    return f"| {' | '.join(map(str, cells))} |"


def main() -> int:
    """All cases, or some, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; all by default")
    parser.add_argument(
        "--only", action="append", default=[], help="cases whose name and versions have these words"
    )
    parser.add_argument("--netem", default="rate 200mbit", help="the link, each way (man tc-netem(8))")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    bad = 0
    for group in options.groups or GROUPS:
        print(f"\n{group}\n\n{HEAD}", flush=True)
        for case in GROUPS[group]:
            if options.only and not any(words in f"{case.name}, {case.way}" for words in options.only):
                continue
            if not all(map(find, (case.source, case.destination))):
                print(f"| {case.name} | {case.way} | left out: `simmig lab install --qemu 10.0` |", flush=True)
                continue
            with tempfile.TemporaryDirectory(prefix="vm-") as directory:
                try:
                    row = asyncio.run(carry_out(case, options.netem, Path(directory)))
                except Exception as error:  # told as a row: the other cases are still to come
                    bad += 1
                    print(f"| {case.name} | {case.way} | {type(error).__name__}: {error} |", flush=True)
                    with contextlib.suppress(OSError):
                        netem(options.netem)
                    continue
            bad += not row.good
            print(line(case, row), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
