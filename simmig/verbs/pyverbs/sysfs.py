"""The few files of /sys, and what `rdma` and `ip` say, for the simulated devices: kept below a directory.

A program's own look at /sys/class/infiniband, and that of a command it starts, goes there.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simmig.verbs.pyverbs.world import World

_ROOTS = ("/sys/class/infiniband", "/sys/class/infiniband_verbs")


def write(world: World, below: Path) -> None:
    """Write files and commands for the world's devices below that directory: `sys/...`, `bin/rdma`, `bin/ip`."""
    links, addresses = [], {}
    for index, device in enumerate(world.fabric.devices.values()):
        interface = world.interfaces[device.name]
        port = below / "sys/class/infiniband" / device.name / "ports/1"
        (port.parents[1] / "device/net" / interface.name).mkdir(parents=True)
        verbs = below / "sys/class/infiniband_verbs" / f"uverbs{index}"
        for path, text in {
            port.parents[1] / "node_type": "1: CA",
            port.parents[1] / "node_guid": ":".join(
                f"{device.guid >> shift & 0xFFFF:04x}" for shift in (48, 32, 16, 0)
            ),
            port / "state": "4: ACTIVE",
            port / "link_layer": "Ethernet",
            port / "pkeys/0": "0xffff",
            verbs / "ibdev": device.name,
            verbs / "abi_version": "1",
        }.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        for row, (gid, kind) in enumerate(zip(device.gids, device.gid_types, strict=True)):
            for name, text in (
                ("gids", gid),
                ("gid_attrs/types", "RoCE v2" if kind == 2 else "IB/RoCE v1"),
                ("gid_attrs/ndevs", interface.name),
            ):
                (port / name).mkdir(parents=True, exist_ok=True)
                (port / name / str(row)).write_text(text + "\n")
        state = {
            "ifindex": index,
            "ifname": device.name,
            "port": 1,
            "state": "ACTIVE",
            "physical_state": "LINK_UP",
        }
        links.append({**state, "netdev": interface.name, "netdev_index": index + 100})
        inet = {"family": "inet", "local": interface.ip, "prefixlen": 24, "scope": "global"}
        addresses[interface.name] = {
            "ifindex": index + 100,
            "ifname": interface.name,
            "operstate": "UP",
            "address": interface.mac,
            "addr_info": [inet],
        }
    commands = below / "bin"
    commands.mkdir()
    answers = below / "answers.json"
    answers.write_text(json.dumps({"rdma": links, "ip": addresses}))
    for name in ("rdma", "ip"):
        command = commands / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -S {__file__} {name} {answers} "$@"\n')
        command.chmod(0o755)


def redirect(directory: str) -> None:
    """Have this process, and what it starts, look below that directory for what `write` has put there."""

    def there(path: Any) -> Any:
        if isinstance(path, str | bytes | os.PathLike):
            text = os.fsdecode(path)
            if text.startswith(_ROOTS):
                return os.fsencode(directory + text) if isinstance(path, bytes) else directory + text
        return path

    def wrap(module: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(module, name)

        def call(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            return original(there(path), *args, **kwargs)

        setattr(module, name, call)

    for module, name in (
        (builtins, "open"),
        (io, "open"),
        *((os, n) for n in ("stat", "lstat", "listdir", "scandir")),
    ):
        wrap(module, name)
    for name in ("exists", "isdir", "isfile"):
        wrap(os.path, name)
    start = subprocess.Popen.__init__

    def popen(self: Any, args: Any, *rest: Any, **kwargs: Any) -> None:
        if isinstance(args, list | tuple):
            args = [there(arg) for arg in args]
        start(self, args, *rest, **kwargs)

    subprocess.Popen.__init__ = popen  # type: ignore[method-assign]


def _command(name: str, answers: dict[str, Any], args: list[str]) -> Any:
    """What `rdma link show` or `ip addr show DEV` says in JSON; None when it is not about simulated devices."""
    words = [arg for arg in args if not arg.startswith("-")]
    if name == "rdma":
        return answers["rdma"] if words[:1] == ["link"] or not words else None
    known = [answers["ip"][word] for word in words if word in answers["ip"]]
    return known or None


def main(name: str, answers: str, *args: str) -> int:
    """The commands `rdma` and `ip` themselves: our own answer, or the real command's."""
    with open(answers, encoding="utf-8") as file:
        answer = _command(name, json.load(file), list(args))
    if answer is not None:
        print(json.dumps(answer))
        return 0
    here = os.path.dirname(answers) + "/bin"
    path = os.pathsep.join(part for part in os.environ.get("PATH", "").split(os.pathsep) if part != here)
    os.environ["PATH"] = path
    try:
        os.execvp(name, [name, *args])
    except OSError as error:
        print(f"{name}: {error.strerror}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
