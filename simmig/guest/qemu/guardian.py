"""Who gives a VM its life back when simmig dies while it holds it.

A process of its own, forked before anything is touched. It is told what simmig is about to do, a byte each, and
acts on the last one when the pipe is closed: simmig is gone, killed perhaps, and did not undo it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from enum import Enum
from pathlib import Path

from simmig.guest import forking

_PATIENCE_S = 30.0
_RETRY_S = 0.05


class Held(Enum):
    """What simmig holds of the VM."""

    NOTHING = b"-"
    FROZEN = b"f"  # its threads are stopped, for some milliseconds
    STOPPED = b"s"  # the VM is paused
    HANDED_OVER = b"h"  # the destination may be told to run it: nobody here may


class Guardian:
    """`tell` it what is held before it is held, and that nothing is once nothing is; `close` ends it."""

    def __init__(self, pid: int, qmp: Path) -> None:
        reading, self._writing = os.pipe()
        ready, started = os.pipe()
        process = os.pidfd_open(pid)
        self._child = forking.fork()
        if self._child:
            for descriptor in (reading, process, started):
                os.close(descriptor)
            os.read(
                ready, 1
            )  # its end: whatever is meant for this process's group does not reach the guardian now
            os.close(ready)
            return
        try:
            os.setsid()  # what is meant for simmig's process group is not meant for this
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            signal.set_wakeup_fd(-1)
            os.close(started)  # and so it is told
            keep = sorted((reading, process))
            for low, high in zip((3, keep[0] + 1, keep[1] + 1), (*keep, os.sysconf("SC_OPEN_MAX")), strict=True):
                os.closerange(low, high)
            _watch(reading, process, qmp)
        finally:
            os._exit(0)

    def tell(self, held: Held) -> None:
        """From now on simmig holds that."""
        os.write(self._writing, held.value)

    def close(self) -> None:
        """Nothing is held any more. Again is a no-op."""
        if self._writing < 0:
            return
        self.tell(Held.NOTHING)
        os.close(self._writing)
        self._writing = -1
        os.waitpid(self._child, 0)


def _watch(reading: int, process: int, qmp: Path) -> None:
    held = Held.NOTHING
    while told := os.read(reading, 64):
        held = Held(told[-1:])
    if held is not Held.NOTHING:
        try:
            signal.pidfd_send_signal(process, signal.SIGCONT)  # harmless when it is not stopped
        except ProcessLookupError:
            return
    if held is Held.STOPPED:
        _resume(qmp)


def _resume(qmp: Path) -> None:
    """Tell QEMU to let the VM run; it may take a moment to see that its last client is gone."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        try:
            with socket.socket(socket.AF_UNIX) as monitor:
                monitor.settimeout(deadline - time.monotonic())
                monitor.connect(os.fspath(qmp))
                with monitor.makefile("rw") as lines:
                    for command in ("qmp_capabilities", "cont"):
                        lines.write(json.dumps({"execute": command}) + "\n")
                        lines.flush()
                    answers = 0
                    for line in lines:
                        answers += "return" in json.loads(line) or "error" in json.loads(line)
                        if answers == 2:
                            return
        except (OSError, ValueError):
            time.sleep(_RETRY_S)
