"""Run a program and everything it starts for as long as the caller lives, and not a moment longer.

``python -m simmig.lab.guard FD PROGRAM [ARGUMENT]...`` adopts whatever its program leaves behind (it is a child
subreaper, man prctl(2)), so nothing can escape by losing its parent. When the program ends, when the caller's end
of the pipe FD is closed (the caller died, in whatever way) or on a signal it kills all of it, and exits with the
program's status.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36


class _Stopped(Exception):
    pass


@contextlib.contextmanager
def guarded(command: Sequence[str], **popen: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` under a guard of its own, started with Popen's `popen`; on leaving all of it is gone."""
    lifeline, held = os.pipe()
    try:
        guard = [sys.executable, "-m", "simmig.lab.guard", str(lifeline), *command]
        process = subprocess.Popen(guard, pass_fds=[lifeline], **popen)
    except BaseException:
        os.close(held)
        raise
    finally:
        os.close(lifeline)
    try:
        yield process
    finally:
        os.close(held)
        process.wait()


def guard(lifeline: int, command: Sequence[str]) -> int:
    """Run `command` until it ends or the pipe `lifeline` is closed; returns its exit status."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to everybody; the caller decides
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    status = 128 + signal.SIGKILL
    try:
        child = subprocess.Popen(command)
        ended = os.pidfd_open(child.pid)
        ready, _, _ = select.select([lifeline, ended], [], [])
        if ended in ready:
            code = child.wait()
            status = code if code >= 0 else 128 - code
    except _Stopped:
        pass
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _kill_descendants()
    return status


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped


def _kill_descendants() -> None:
    """Kill and reap until nobody is left: whoever loses its parent becomes a child of ours, and is next."""
    while True:
        children = [
            int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()
        ]
        if not children:
            return
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(guard(int(sys.argv[1]), sys.argv[2:]))
