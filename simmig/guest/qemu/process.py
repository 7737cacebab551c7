"""QEMU's process, as /proc shows it: its mappings, its memory, its threads."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from simmig.guest.qemu.errors import QemuError

STOP_PATIENCE_S = 2.0
_STOPPED = frozenset("TtZX")
_LOOK_S = 0.0002
_HEAD = re.compile(r"([0-9a-f]+)-[0-9a-f]+ ...(.) ")
_HUGE = re.compile(r"(?:THPeligible|ShmemPmdMapped|FilePmdMapped): +[1-9]")


@dataclass(frozen=True, slots=True)
class Mapping:
    """A line of /proc/PID/maps."""

    start: int
    end: int
    permissions: str
    offset: int
    inode: int
    path: str

    @property
    def shared(self) -> bool:
        """Whether what is written there is seen by others."""
        return self.permissions[3] == "s"


class Process:
    """A process that is somebody else's child. Raises OSError where it is gone or may not be looked into."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._proc = Path(f"/proc/{pid}")
        self._handle = os.pidfd_open(pid)  # the number may be another's one day, this is not
        self._memory = -1

    def mappings(self) -> list[Mapping]:
        """Its address space, in order."""
        found = []
        for line in (self._proc / "maps").read_text(errors="surrogateescape").splitlines():
            span, permissions, offset, _, inode, *path = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in span.split("-"))
            found.append(Mapping(start, end, permissions, int(offset, 16), int(inode), "".join(path)))
        return found

    def huge(self) -> frozenset[int]:
        """Where the shared mappings begin that have, or may get, transparent huge pages."""
        return huge((self._proc / "smaps").read_text(errors="replace"))

    def read(self, address: int, length: int) -> bytes:
        """A stretch of its memory."""
        if self._memory < 0:
            self._memory = os.open(self._proc / "mem", os.O_RDONLY | os.O_CLOEXEC)
        data = os.pread(self._memory, length, address)
        while len(data) < length:
            more = os.pread(self._memory, length - len(data), address + len(data))
            if not more:
                raise QemuError(f"QEMU's memory cannot be read at {address + len(data):#x}")
            data += more
        return data

    def open(self, mapping: Mapping) -> int:
        """A descriptor of the file that is mapped, to read and to write."""
        for entry in (self._proc / "fd").iterdir():
            try:
                if entry.stat().st_ino == mapping.inode and entry.is_file():
                    return os.open(entry, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
        return os.open(self._proc / "map_files" / f"{mapping.start:x}-{mapping.end:x}", os.O_RDWR | os.O_CLOEXEC)

    def open_files(self) -> list[str]:
        """What its descriptors stand for."""
        found = []
        for entry in (self._proc / "fd").iterdir():
            try:
                found.append(os.readlink(entry))
            except FileNotFoundError:
                continue
        return found

    def freeze(self) -> None:
        """Stop all its threads, and see them stopped. `thaw` must follow, whatever happens."""
        signal.pidfd_send_signal(self._handle, signal.SIGSTOP)
        deadline = time.monotonic() + STOP_PATIENCE_S
        while left := self._not_stopped():
            if time.monotonic() > deadline:
                raise QemuError(f"QEMU's thread {left} does not stop within {STOP_PATIENCE_S:g} s")
            time.sleep(_LOOK_S)

    def thaw(self) -> None:
        """Let its threads go on. Again, or when it is gone, is a no-op."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGCONT)

    def close(self) -> None:
        """Forget it."""
        os.close(self._handle)
        if self._memory >= 0:
            os.close(self._memory)

    def _not_stopped(self) -> str:
        """A thread that is still on its way, in words; empty when there is none."""
        for task in (self._proc / "task").iterdir():
            try:
                stat = (task / "stat").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            name, state = re.fullmatch(r"\d+ \((.*)\) (\w) .*", stat.strip(), re.DOTALL).groups()  # type: ignore[union-attr]
            if state not in _STOPPED:
                return f"{task.name} ({name}, in state {state})"
        return ""


def huge(smaps: str) -> frozenset[int]:
    """The same, as /proc/PID/smaps has it."""
    found = set()
    start, shared = 0, False
    for line in smaps.splitlines():
        if head := _HEAD.match(line):
            start, shared = int(head[1], 16), head[2] == "s"
        elif shared and _HUGE.match(line):
            found.add(start)
    return frozenset(found)
