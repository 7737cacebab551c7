"""The lab's link, broken and mended; and what the kernel holds of verbs objects."""

import json
import subprocess
import time
from pathlib import Path

import pytest

VETH = ("veth0", "veth1")
_PATIENCE_S = 60


def _call(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True)


def need() -> None:
    """Skip where the link is not the lab's to break."""
    if not all((Path("/sys/class/net") / name).exists() for name in VETH):
        pytest.skip("needs the lab's own link, to break it: make test-device")


def netem(words: str) -> None:
    """Rate, delay and loss at both ends (man tc-netem(8)); nothing for a perfect link."""
    for name in VETH:
        subprocess.run(f"tc qdisc del dev {name} root".split(), check=False, capture_output=True)
        if words:
            _call(f"tc qdisc add dev {name} root netem {words} limit 20000")


def cut() -> None:
    """Lose every packet, without a word: a cable pulled somewhere in between. `netem` mends it."""
    netem("loss 100%")


def down() -> None:
    """Take the source's end of the link down, and close the way by `lo` that the kernel would find instead."""
    _call(f"ip link set {VETH[0]} down")
    _call("ip route replace blackhole 10.9.9.2 table 102")


def up() -> None:
    """Put it up again, with the route and the neighbour that it lost. Again is a no-op."""
    _call(f"ip link set {VETH[0]} up")
    subprocess.run(["ip", "route", "flush", "table", "102"], check=False, capture_output=True)
    _call(f"ip route add 10.9.9.2 dev {VETH[0]} src 10.9.9.1 table 102")
    address = Path(f"/sys/class/net/{VETH[1]}/address").read_text().strip()
    _call(f"ip neighbour replace 10.9.9.2 dev {VETH[0]} lladdr {address} nud permanent")


def objects() -> dict[str, dict[str, int]]:
    """What each device holds: device, then kind of object, then how many.

    Contexts are left out: librdmacm keeps every device that it ever used open until its process ends. Whether a
    migration closed its own, the tests that count descriptors say.
    """
    shown = subprocess.run(["rdma", "-j", "resource", "show"], check=True, capture_output=True, text=True).stdout
    return {
        device["ifname"]: {kind: device[kind] for kind in ("pd", "cq", "qp", "cm_id", "mr")}
        for device in json.loads(shown)
    }


def assert_no_more_than(before: dict[str, dict[str, int]]) -> None:
    """Whatever came since is gone, or goes soon: the kernel tidies up after a dead process in its own time."""
    deadline = time.monotonic() + _PATIENCE_S
    while (now := objects()) != before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert now == before, f"{before} before, {now} a minute after"
