"""A stock QEMU with the test guest of `firmware.py`: started, spoken to by QMP, its numbers read.

For tests and measurements of real migrations. Needs the extra `qemu`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from qemu.qmp import EventListener, QMPClient, QMPError

from simmig.lab.errors import LabError

BINARY = "qemu-system-x86_64"
MACHINE = "pc-i440fx-7.2"
PATIENCE_S = 120.0
"""Emulated within an emulated machine, everything takes its time."""
_LOOK_S = 0.02


@dataclass(frozen=True)
class Counted:
    """What a test guest has said: its numbers in order, and the addresses of pages that were bad."""

    numbers: tuple[int, ...]
    bad: tuple[int, ...]

    @property
    def steps(self) -> set[int]:
        """By how much one number differs from the one before: {1} when nothing was lost or said twice."""
        return {b - a for a, b in zip(self.numbers, self.numbers[1:], strict=False)}


def counted(*serial: str) -> Counted:
    """What these stretches of serial output say, in a row: of a guest that was moved, all its hosts'."""
    whole = "".join(serial)
    numbers = tuple(int(line, 16) for line in re.findall(r"^([0-9A-F]{8})\n", whole, re.MULTILINE))
    return Counted(numbers, tuple(int(page, 16) for page in re.findall(r"BAD ([0-9A-F]{8})\n", whole)))


class Vm:
    """One QEMU process; `async with Vm(...) as vm` starts it and ends it, whatever happens.

    Its files (firmware, sockets, serial output, messages, and with `shared` its memory) are in `directory`, which
    must exist and whose path must be short enough for a socket's. With `incoming` it waits for a migration:
    "defer", or where from. With `shared` its RAM is a `memory-backend-file,share=on`. `arguments` are QEMU's own.
    """

    def __init__(
        self,
        directory: Path,
        firmware: bytes,
        ram_bytes: int,
        *,
        incoming: str | None = None,
        machine: str = MACHINE,
        shared: bool = False,
        arguments: Sequence[str] = (),
        binary: Sequence[str] = (BINARY,),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.qmp_socket = directory / "qmp"
        self.monitor_socket = directory / "monitor"
        self.memory = directory / "ram"
        self._serial = directory / "serial"
        self._messages = directory / "messages"
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._qmp = QMPClient("simmig")
        self.events = EventListener()
        """What QEMU has told by itself, with the times of its own clock."""
        self._qmp.register_listener(self.events)
        (directory / "firmware").write_bytes(firmware)
        # A second monitor is for whatever is under test: QMP serves one client a socket.
        monitors = (f"unix:{path},server=on,wait=off" for path in (self.qmp_socket, self.monitor_socket))
        size = f"{ram_bytes >> 20}M"
        backend = f"memory-backend-file,id=pc.ram,size={size},mem-path={self.memory},share=on"
        self.command = [
            *binary,
            *("-machine", machine + (",memory-backend=pc.ram" if shared else ""), "-m", size),
            *(("-object", backend) if shared else ()),
            *("-bios", str(directory / "firmware"), "-nodefaults", "-no-user-config", "-display", "none"),
            *("-serial", f"file:{self._serial}"),
            *(argument for monitor in monitors for argument in ("-qmp", monitor)),
            *(("-incoming", incoming) if incoming is not None else ()),
            *arguments,
        ]

    async def __aenter__(self) -> Self:
        with open(self._messages, "wb") as messages:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                env=None if self._environment is None else os.environ | self._environment,
            )
        try:
            await self._connect()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(QMPError, EOFError, OSError):
            await self._qmp.disconnect()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _connect(self) -> None:
        """To its monitor: the socket is there a moment before anybody listens."""
        raw = socket.socket(socket.AF_UNIX)

        def connected() -> bool:
            try:
                raw.connect(str(self.qmp_socket))
            except OSError:
                return False
            return True

        await self.until(connected, "its monitor")
        raw.setblocking(False)
        await self._qmp.connect(raw)

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def messages(self) -> str:
        """What QEMU has said on its standard error."""
        return self._messages.read_text(errors="replace")

    @property
    def serial(self) -> str:
        """What the guest has said here."""
        return self._serial.read_text(errors="replace") if self._serial.exists() else ""

    async def execute(self, command: str, **arguments: Any) -> Any:
        """A QMP command's result; underscores in argument names stand for hyphens. Raises QMPError."""
        return await self._qmp.execute(command, {key.replace("_", "-"): value for key, value in arguments.items()})

    async def status(self) -> str:
        """The run state: "running", "paused", "postmigrate", "inmigrate", ..."""
        return str((await self.execute("query-status"))["status"])

    async def migrate(self, uri: str) -> dict[str, Any]:
        """Migrate to `uri` and wait for the end; what `query-migrate` then says."""
        await self.execute("migrate", uri=uri)
        return await self.migrated()

    async def migrated(self) -> dict[str, Any]:
        """Wait for the end of a migration that has begun, either way; what `query-migrate` then says."""
        for _ in range(round(PATIENCE_S / _LOOK_S)):
            told: dict[str, Any] = await self.execute("query-migrate")
            if told.get("status") in {"completed", "failed", "cancelled"}:
                return told
            await asyncio.sleep(_LOOK_S)
        raise LabError(f"the migration of {self.directory.name} does not end: {told}\n{self.messages}")

    async def says(self, numbers: int = 1, patience_s: float = PATIENCE_S) -> Counted:
        """Wait until the guest has said so many numbers more than when this was called."""
        before = len(counted(self.serial).numbers)
        await self.until(
            lambda: len(counted(self.serial).numbers) >= before + numbers, f"{numbers} more numbers", patience_s
        )
        return counted(self.serial)

    async def until(self, true: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
        """Wait until `true()`; LabError when QEMU ends meanwhile, or after that time."""
        for _ in range(round(patience_s / _LOOK_S)):
            if true():
                return
            if not self.alive:
                raise LabError(f"QEMU ended while {what} was waited for\n{self.messages}")
            await asyncio.sleep(_LOOK_S)
        raise LabError(f"QEMU: {what} did not come within {patience_s:g} s\n{self.messages}")
