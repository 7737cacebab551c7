"""A stock QEMU at one end and simmig, in a thread of this process, at the other."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from qemu.qmp import ExecuteError

from simmig.experiment.runs import ends
from simmig.experiment.runs.ends import Address, EndResult
from simmig.experiment.scenario import machines
from simmig.lab import firmware, qemu
from simmig.lab.vm import MACHINE, Vm, counted

MIB = 1 << 20
HERE, THERE = "10.9.9.1", "10.9.9.2"  # the lab's
PORT = 4444
RATE_BYTES_S = 2 * MIB


Q35 = MACHINE.replace("i440fx", "q35")
DEVICES = ("-vga", "std", "-device", "e1000", "-device", "virtio-balloon-pci")


def command(version: str) -> tuple[str]:
    """What runs QEMU `version`; the test is skipped where there is none."""
    found = qemu.find(version)
    if found is None:
        pytest.skip(f"no QEMU {version} here: simmig lab install --qemu {version}")
    return (str(found),)


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory whose name is short enough for sockets in it."""
    with tempfile.TemporaryDirectory(prefix="qemu-") as path:
        yield Path(path)


def firmware_image(rate_bytes_s: int = RATE_BYTES_S) -> bytes:
    return firmware.image(rate_bytes_s, zero_bytes=8 * MIB)


def vm(directory: Path, name: str, **options: object) -> Vm:
    """A QEMU of that name with the test guest; `options` are `Vm`'s."""
    (directory / name).mkdir()
    ram_bytes = options.pop("ram_bytes", 32 * MIB)
    return Vm(directory / name, firmware_image(), ram_bytes, **options)  # type: ignore[arg-type]


async def take_over(
    save: Path | None, source: Vm, settings: tuple[str, ...] = ()
) -> tuple[EndResult, dict[str, object]]:
    """`simmig receive`, and `migrate` at the source: what either says in the end."""
    listening = threading.Event()

    def receive() -> EndResult:
        scenario = machines.scenario_for(None, (settings, None, None))
        with machines.keeping(save, None) as keeping:
            return ends.receive(
                scenario,
                Address(THERE, PORT),
                "rxe1",
                lambda _: listening.set(),
                sink=keeping.both(None),
                machine=keeping.machine,
            )

    receiving = asyncio.create_task(asyncio.to_thread(receive))
    while not listening.is_set() and not receiving.done():
        await asyncio.sleep(0.05)
    try:
        told = await source.migrate(f"rdma:{THERE}:{PORT}")
    except ExecuteError as error:  # it fails so early that the command itself does
        told = {"status": "failed", "error-desc": str(error)}
    return await receiving, told


async def hand_on(
    saved: Path, to: int = 5555, policy: str | None = None, settings: tuple[str, ...] = ()
) -> EndResult:
    """`simmig send --load`, to a QEMU that listens on that port."""

    def send() -> EndResult:
        scenario = machines.scenario_for(saved, (settings, policy, None))
        return ends.send(scenario, Address(THERE, to), "rxe0", machine=machines.load(saved, None))

    return await asyncio.to_thread(send)


def assert_lives(*serial: str) -> None:
    """The guest, of which these are the words on all its hosts, has lost no number and no page."""
    said = counted(*serial)
    assert said.bad == ()
    assert said.steps == {1}, said.numbers
