"""`simmig compare --qemu` with VMs that run: predicted, migrated, and alive at the destination."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from simmig.experiment.fit.compare_vm import start_afresh
from simmig.guest.qemu.watch import kernel_knows
from simmig.lab import firmware
from simmig.lab.vm import Vm, counted
from tests.qemu.rig import MIB, THERE, scratch

PORT = 4461
IMAGE = firmware.image(MIB // 4, working_set_bytes=MIB, zero_bytes=8 * MIB)
"""Slow enough to converge on whatever machine the lab is."""
MODEL = """
link = { bandwidth = "100 Mbit/s", latency = "100 us" }
host = {}
"""
"""Of no link: what is looked at here does not depend on it."""
FRESH = """cd {directory}
n=$(ls said | wc -l)
if [ -e b/pid ]; then
    until [ "$(wc -l <b/serial)" -ge 3 ]; do sleep 0.1; done
    kill -9 $(cat a/pid b/pid)
    cat a/serial b/serial >said/$n
    rm a/pid b/pid a/ram a/serial
fi
{source}
{destination}
until [ "$(cat a/serial | wc -l)" -ge 2 ]; do sleep 0.1; done
"""
"""Another VM and its destination; of those before, once they live there, what they said is kept."""

pytestmark = pytest.mark.skipif(not kernel_knows(), reason="the kernel has no soft-dirty pages")


def test_a_running_vm_is_compared_and_lives_on() -> None:
    async def body() -> dict[str, Any]:
        with scratch() as directory:
            (directory / "model.toml").write_text(MODEL)
            a, b = directory / "a", directory / "b"
            a.mkdir()
            b.mkdir()
            async with (
                Vm(a, IMAGE, 32 * MIB, shared=True) as source,
                Vm(b, IMAGE, 32 * MIB, incoming=f"rdma:{THERE}:{PORT}") as destination,
            ):
                await source.says(2)
                command = [sys.executable, "-m", "simmig.cli", "compare", "--qemu", str(source.monitor_socket)]
                command += ["--to", f"{THERE}:{PORT}", "--destination-qemu", str(destination.monitor_socket)]
                command += ["--policy", "per-chunk", "--policy", "at-switch", "--for", "2 s", "--json"]
                command += ["--model", str(directory / "model.toml"), "--out", str(directory / "out")]
                process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
                printed, _ = await process.communicate()
                assert process.returncode in (0, 1)  # a miss is one
                await destination.says(15)
                assert await source.status() == "paused"
                said = counted(source.serial, destination.serial)
                assert said.steps == {1}
                assert not said.bad
            written = {path.name for path in (directory / "out").iterdir()}
            assert written == {"comparison.txt", "comparison.json", "vm.csv", "model.toml"}
        document: dict[str, Any] = json.loads(printed)
        return document

    document = asyncio.run(body())
    per_chunk, at_switch = document["policies"]
    [measured] = per_chunk["measured"]
    assert at_switch["measured"] == []
    assert at_switch["predicted"]["downtime_ns"] > 0
    assert measured["status"] == "completed"
    assert measured["qemu_downtime_ns"] > 0.9 * measured["downtime_ns"]
    assert per_chunk["downtime"]["measured_ns"] == measured["qemu_downtime_ns"]
    # What does not depend on speeds is predicted well: the pages that are zero, and the machine's state.
    predicted = per_chunk["predicted"]
    assert predicted["zero_pages"] == pytest.approx(measured["zero_pages"], rel=0.1)
    assert 1000 < document["watched"]["device_state_bytes"] < 1 << 20


def test_with_a_fresh_vm_each_policy_is_carried_out() -> None:
    with scratch() as directory, freshly_started(directory) as (a, b):
        (directory / "model.toml").write_text(MODEL)
        command = [sys.executable, "-m", "simmig.cli", "compare", "--qemu", str(a.monitor_socket)]
        command += ["--to", f"{THERE}:{PORT}", "--destination-qemu", str(b.monitor_socket)]
        command += ["--fresh", f"timeout 60 sh -e {directory / 'fresh'}"]
        command += ["--policy", "per-chunk", "--policy", "at-switch", "--for", "2 s", "--json"]
        command += ["--model", str(directory / "model.toml")]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        assert done.returncode in (0, 1)  # a miss is one
        for row in json.loads(done.stdout)["policies"]:
            [measured] = row["measured"]
            assert measured["status"] == "completed"
            assert measured["qemu_downtime_ns"] == row["downtime"]["measured_ns"]
        start_afresh(f"timeout 60 sh -e {directory / 'fresh'}")  # keeps what the last one said
        said = [counted(path.read_text()) for path in sorted((directory / "said").iterdir())]
    assert [(each.steps, each.bad) for each in said] == [({1}, ()), ({1}, ())]


@contextmanager
def freshly_started(directory: Path) -> Iterator[tuple[Vm, Vm]]:
    """A VM and its destination, started by the script `fresh`, which starts others in their place."""
    for name in ("a", "b", "said"):
        (directory / name).mkdir()
    a = Vm(directory / "a", IMAGE, 32 * MIB, shared=True)
    b = Vm(directory / "b", IMAGE, 32 * MIB, incoming=f"rdma:{THERE}:{PORT}")
    source, destination = (
        shlex.join([*vm.command, "-daemonize", "-pidfile", str(vm.directory / "pid")]) for vm in (a, b)
    )
    fresh = FRESH.format(directory=directory, source=source, destination=destination)
    (directory / "fresh").write_text(fresh)
    try:
        start_afresh(f"timeout 60 sh -e {directory / 'fresh'}")
        yield a, b
    finally:
        for vm in (a, b):
            with suppress(OSError):
                os.kill(int((vm.directory / "pid").read_text()), signal.SIGKILL)
