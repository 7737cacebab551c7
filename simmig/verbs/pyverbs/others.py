"""Whether anybody is there who could still do something: processes and threads below this one, as /proc tells."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from multiprocessing.connection import Connection


def pid_of(connection: Connection) -> int:
    """The process at a local connection's other end."""
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


def has_company(pid: int) -> bool:
    """Whether that process has other threads, or another process runs below this one."""
    try:
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except OSError:  # it has ended
        threads = 1
    return threads > 1 or any(other != pid for other in _below(os.getpid()))


def _below(root: int) -> Iterator[int]:
    """The processes that this one has started, and theirs; dead ones nobody has buried yet do not count."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                parents[int(name)] = int(parent)
    for pid, parent_pid in parents.items():
        above = parent_pid
        while above not in (0, root):
            above = parents.get(above, 0)
        if above == root:
            yield pid
