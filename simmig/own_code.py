"""Code that a user wrote, run within this process: what it may raise, and where what it prints goes."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

RAISED = (Exception, SystemExit, KeyboardInterrupt)
"""What user code that is at fault raises: it does not end the process by that."""

_NOT_THEIRS = (str(Path(__file__).parent) + os.sep, "<")
_LONGEST = 200


@contextmanager
def prints_aside() -> Iterator[None]:
    """What is printed in the block goes to standard error: standard output belongs to the results."""
    if sys.stderr is None:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def told(error: BaseException) -> str:
    """What was raised, and on which of the user's lines."""
    try:
        text = str(error)
    except RAISED:
        text = "and cannot say why"
    name = type(error).__name__
    return f"{name}: {text[:_LONGEST]}{_line(error)}" if text else f"{name}{_line(error)}"


def _line(error: BaseException) -> str:
    """The last line of the user's that it went through; empty where there is none."""
    library = sysconfig.get_path("stdlib") + os.sep
    place = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((*_NOT_THEIRS, library)):
            place = f" ({Path(file).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place
