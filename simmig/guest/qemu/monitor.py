"""QEMU's monitor: QMP, with an end to every wait and QEMU's words in every error."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError

from simmig.guest.qemu.errors import QemuError

PATIENCE_S = 30.0
_GREETING_S = 10.0
_LOGGER = logging.getLogger("qemu.qmp")
_CREDENTIALS = struct.Struct("3i")


class Monitor:
    """A connection to a QMP socket. `pid` is the process that listens there.

    `on_event` hears of events: name, and when by QEMU's own clock (ns since 1970).
    """

    def __init__(self, path: Path, client: QMPClient, pid: int) -> None:
        self.path = path
        self.pid = pid
        self._client = client
        self._listening: asyncio.Task[None] | None = None
        self.on_event: Callable[[str, int], None] = lambda _name, _at_ns: None

    @classmethod
    async def connect(cls, path: Path) -> Monitor:
        """Connect; raises QemuError, which says what helps."""
        _LOGGER.setLevel(logging.CRITICAL)  # all that it would tell is in what is raised
        raw = socket.socket(socket.AF_UNIX)
        try:
            raw.connect(str(path))
            told = raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            raw.setblocking(False)
            client = QMPClient("simmig")
            async with asyncio.timeout(_GREETING_S):
                await client.connect(raw)
        except TimeoutError:
            raw.close()
            raise QemuError(
                f"{path}: no greeting within {_GREETING_S:g} s: QMP serves one client a socket, and somebody else "
                "may be connected; give QEMU a socket for simmig: -qmp unix:PATH,server=on,wait=off"
            ) from None
        except (OSError, QMPError) as error:
            raw.close()
            words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise QemuError(
                f"{path}: {words}; it must be QEMU's QMP socket: -qmp unix:PATH,server=on,wait=off"
            ) from None
        monitor = cls(path, client, _CREDENTIALS.unpack(told)[0])
        monitor._listening = asyncio.create_task(monitor._listen())
        return monitor

    async def execute(self, command: str, **arguments: Any) -> Any:
        """A command's result; underscores in argument names stand for hyphens. Raises QemuError."""
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._client.execute(command, named)
        except ExecuteError as error:
            raise QemuError(f"QEMU refuses {command}: {error}") from None
        except TimeoutError:
            raise QemuError(f"QEMU does not answer {command} within {PATIENCE_S:g} s") from None
        except (QMPError, OSError, EOFError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and self.alive:
                raise
            raise QemuError(f"QEMU is gone ({command}: {str(error) or type(error).__name__})") from None

    async def human(self, line: str) -> str:
        """What the human monitor says to a line."""
        return str(await self.execute("human-monitor-command", command_line=line))

    async def status(self) -> str:
        """The run state: "running", "paused", "postmigrate", ..."""
        return str((await self.execute("query-status"))["status"])

    async def lend(self, descriptor: int) -> int:
        """Give QEMU a copy of a descriptor; returns its set, for `/dev/fdset/N`."""
        with contextlib.suppress(BlockingIOError):
            self._client.send_fd_scm(descriptor)
        return int((await self.execute("add-fd"))["fdset-id"])

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True

    async def close(self) -> None:
        """Disconnect; QEMU goes on."""
        if self._listening is not None:
            self._listening.cancel()
        with contextlib.suppress(QMPError, EOFError, OSError):
            await self._client.disconnect()

    async def _listen(self) -> None:
        listener = EventListener()
        self._client.register_listener(listener)
        async for message in listener:
            stamp: Any = message["timestamp"]
            at_ns = int(stamp["seconds"]) * 1_000_000_000 + int(stamp["microseconds"]) * 1000
            self.on_event(str(message["event"]), at_ns)
