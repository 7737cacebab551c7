"""Which devices there are, whether they are usable, and their addresses."""

from __future__ import annotations

import ipaddress
import resource
import socket
from dataclasses import dataclass
from pathlib import Path

from simmig.verbs.rdma.binding import Binding
from simmig.verbs.rdma.errors import RdmaUnavailable

_CLASS = Path("/sys/class/infiniband")
_CAP_IPC_LOCK = 14
_NO_DEVICE = (
    "this host has none (`simmig lab -- COMMAND` has two, or: rdma link add NAME type rxe netdev INTERFACE)"
)
_MAX_GIDS = 256
_ROCE_V2 = 2  # enum ibv_gid_type
PORT = 1


@dataclass(frozen=True, slots=True)
class Address:
    """Where a device is reached: an IPv4 or IPv6 address of its network interface, by GID index."""

    device: str
    gid_index: int
    ip: str
    interface: str


def devices(binding: Binding) -> list[str]:
    """Names of this host's RDMA devices."""
    try:
        return sorted(device.name.decode() for device in binding.get_device_list())
    except binding.PyverbsError:  # what it says when the kernel has no RDMA at all
        return []


def pair(binding: Binding) -> tuple[str, str]:
    """This host's two devices. Raises RdmaUnavailable unless there are exactly two, so that none need be named."""
    found = devices(binding)
    if len(found) == 2:
        return found[0], found[1]
    here = f"this host has {', '.join(found)}: name two" if found else _NO_DEVICE
    raise RdmaUnavailable(f"a migration on one host takes two RDMA devices; {here}")


def require(binding: Binding) -> None:
    """Raise RdmaUnavailable unless there is any device."""
    if not devices(binding):
        raise RdmaUnavailable(_NO_DEVICE)


def only(binding: Binding) -> str:
    """This host's device. Raises RdmaUnavailable unless there is exactly one, so that it need not be named."""
    found = devices(binding)
    if len(found) == 1:
        return found[0]
    raise RdmaUnavailable(f"this host has {', '.join(found)}: name one" if found else _NO_DEVICE)


def check(binding: Binding, name: str) -> None:
    """Raise RdmaUnavailable, with what helps, unless that device is there and its port is up."""
    found = devices(binding)
    if name not in found:
        here = f"this host has {', '.join(found)}" if found else _NO_DEVICE
        raise RdmaUnavailable(f"there is no RDMA device {name}; {here}")
    state = _read(name, "state")
    if not state.startswith("4"):
        interface = next((a.interface for a in addresses(binding, name)), "its network interface")
        raise RdmaUnavailable(
            f"port {PORT} of {name} is {state.partition(': ')[2] or 'down'}: ip link set {interface} up"
        )


def address(binding: Binding, name: str) -> Address:
    """The device's own address: its first IPv4 one for RoCE v2, else the first IPv6 one that is routed.

    Raises RdmaUnavailable when its network interface has none.
    """
    found = addresses(binding, name)
    for wanted in (4, 6):
        for candidate in found:
            if ipaddress.ip_address(candidate.ip).version == wanted:
                return candidate
    raise RdmaUnavailable(
        f"the network interface of {name} has no IP address: ip address add ADDRESS/LENGTH dev ..."
    )


def addresses(binding: Binding, name: str) -> list[Address]:
    """Every address in the GID table of the device's port that a connection can be made from."""
    found = []
    with binding.Context(name=name) as context:
        # The kernel names the entries in use; there may be a thousand others, and reading them takes seconds.
        entries = context.query_gid_table(_MAX_GIDS)
    for entry in entries:
        gid = b"".join(half.to_bytes(8, "little") for half in (entry.gid_subnet_prefix, entry.gid_interface_id))
        ip = ipaddress.IPv6Address(gid)
        if entry.port_num != PORT or entry.gid_type != _ROCE_V2 or ip.is_link_local:
            continue
        interface = socket.if_indextoname(entry.ndev_ifindex)
        found.append(Address(name, entry.gid_index, str(ip.ipv4_mapped or ip), interface))
    return found


def check_memlock(length_bytes: int) -> None:
    """Raise RdmaUnavailable when this process may not lock that much memory (man getrlimit(2), RLIMIT_MEMLOCK)."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == resource.RLIM_INFINITY or limit >= length_bytes or _may_lock_all():
        return
    raise RdmaUnavailable(
        f"{length_bytes >> 10} KiB of memory would have to be locked, the limit is {limit >> 10} KiB: run "
        "`ulimit -l unlimited` before (as root, or with memlock raised in /etc/security/limits.conf), or "
        "`sudo prlimit --pid $$ --memlock=unlimited`"
    )


def sent_bytes(binding: Binding, name: str) -> int | None:
    """What the device has sent so far, headers and all; None when nobody counts.

    Hardware counts by itself, in words of four bytes (Linux, Documentation/ABI/stable/sysfs-class-infiniband); of
    soft-RoCE its network interface sees all, of hardware it would see none.
    """
    words = _attribute(_CLASS / name / "ports" / str(PORT) / "counters" / "port_xmit_data")
    if words:
        return 4 * int(words)
    for candidate in addresses(binding, name):
        path = Path("/sys/class/net") / candidate.interface / "statistics" / "tx_bytes"
        if path.exists():
            return int(path.read_text())
    return None


def _may_lock_all() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_IPC_LOCK & 1)
    return False


def _read(name: str, attribute: str) -> str:
    return _attribute(_CLASS / name / "ports" / str(PORT) / attribute)


def _attribute(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
