"""Whether this host has the memory that a simulated guest takes, asked before it is taken."""

from __future__ import annotations

from pathlib import Path

from simmig.experiment.amounts import format_bytes
from simmig.experiment.errors import InputError
from simmig.guest.machine import Machine

PAGE_NEEDS_BYTES = 6
"""Measured, idle: 5.6 (the destination's content id, a bitmap, a dirty log)."""
WRITTEN_PAGE_NEEDS_BYTES = 4
"""More for a page that the workload may write: its content id at the source."""
STATE_NEEDS = 4.2
"""Copies of the device state on its way; measured: 4.15."""

_CGROUP = Path("/sys/fs/cgroup")


def require_memory(machine: Machine) -> None:
    """Raises InputError when less is free; where that cannot be known, nothing."""
    need_bytes = (
        machine.pages * PAGE_NEEDS_BYTES
        + len(machine.workload.span) * WRITTEN_PAGE_NEEDS_BYTES
        + int(machine.device_state_bytes * STATE_NEEDS)
    )
    free_bytes = available_bytes()
    if free_bytes is not None and need_bytes > free_bytes:
        raise InputError(
            f"guest: simulating it takes about {format_bytes(need_bytes)} of memory, and "
            f"{format_bytes(free_bytes)} are free here; a smaller memory, working set or device_state takes less"
        )


def available_bytes() -> int | None:
    """What this process may still take, as the kernel and the control group say; None: unknown."""
    said = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                said.append(int(line.split()[1]) * 1024)
    except (OSError, ValueError):
        pass
    try:
        limit, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        if limit != "max":
            said.append(int(limit) - int(used))
    except (OSError, ValueError):
        pass
    return min(said, default=None)
