"""`simmig compare --qemu` with VMs that run: predicted, moved under each policy, and alive at the destination."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

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
END_THEM = """
for side in a b; do
    [ -e $side/pid ] && kill -KILL $(cat $side/pid) && while [ -e /proc/$(cat $side/pid) ]; do sleep 0.1; done
    rm -f $side/pid $side/monitor $side/qmp
done
"""
KEEP_WORDS = "[ -e a/serial ] && cat a/serial b/serial >words.$(ls words.* 2>/dev/null | wc -l)\n"
WAIT = "until grep -q 00000002 a/serial; do sleep 0.1; done\n"


@contextmanager
def started(directory: Path) -> Iterator[str]:
    """A VM and its destination, as a user's script starts them; what it is called by."""
    commands = []
    for side, options in (("a", {"shared": True}), ("b", {"incoming": f"rdma:{THERE}:{PORT}"})):
        (directory / side).mkdir()
        command = Vm(directory / side, IMAGE, 32 * MIB, **options).command
        commands.append(shlex.join([*command, "-daemonize", "-pidfile", str(directory / side / "pid")]) + "\n")
    script = directory / "fresh.sh"
    script.write_text("".join((f"cd {directory}\n", KEEP_WORDS, END_THEM, "set -e\n", *commands, WAIT)))
    try:
        subprocess.run(["sh", script], check=True)
        yield f"sh {script}"
    finally:
        subprocess.run(["sh", "-c", f"cd {directory}\n{END_THEM}"], check=False)


@pytest.mark.skipif(not kernel_knows(), reason="the kernel has no soft-dirty pages")
def test_each_policy_moves_a_vm_of_its_own() -> None:
    with scratch() as directory:
        (directory / "model.toml").write_text(MODEL)
        with started(directory) as fresh:
            command = [sys.executable, "-m", "simmig.cli", "compare", "--qemu", str(directory / "a/monitor")]
            command += ["--to", f"{THERE}:{PORT}", "--destination-qemu", str(directory / "b/monitor")]
            command += ["--policy", "per-chunk", "--policy", "at-switch", "--for", "2 s", "--json"]
            command += [
                "--fresh",
                fresh,
                "--model",
                str(directory / "model.toml"),
                "--out",
                str(directory / "out"),
            ]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
            assert done.returncode in (0, 1)  # a miss is one
            document: dict[str, Any] = json.loads(done.stdout)
            subprocess.run(["sh", "-c", f"cd {directory}; sleep 1; {KEEP_WORDS}"], check=True)
        words = [path.read_text() for path in sorted(directory.glob("words.*"))]
        written = {path.name for path in (directory / "out").iterdir()}
    assert written == {"comparison.txt", "comparison.json", "vm.csv", "model.toml"}
    assert len(words) == 2
    for said in map(counted, words):
        assert said.steps == {1}
        assert not said.bad
    for policy in document["policies"]:
        [measured] = policy["measured"]
        assert policy["predicted"]["downtime_ns"] > 0
        assert measured["status"] == "completed"
        assert measured["qemu_downtime_ns"] > 0.9 * measured["downtime_ns"]
        assert policy["downtime"]["measured_ns"] == measured["qemu_downtime_ns"]
        # What does not depend on speeds is predicted well: the pages that are zero, and the machine's state.
        assert policy["predicted"]["zero_pages"] == pytest.approx(measured["zero_pages"], rel=0.1)
    assert 1000 < document["watched"]["device_state_bytes"] < 1 << 20
