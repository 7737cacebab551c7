"""What a command finds in its process: three standard files, and signals that let it tidy up."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import click

from simmig.experiment.errors import InputError

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Ended:
    """Which signal has ended the command, if one has."""

    def __init__(self) -> None:
        self.status: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal: the command ends as by Ctrl-C."""
        self.status = 128 + number
        if callable(signal.getsignal(signal.SIGINT)):
            signal.raise_signal(signal.SIGINT)
        else:  # Ctrl-C is ignored, for it is another's terminal
            raise KeyboardInterrupt


@contextmanager
def tidy_ends() -> Iterator[Ended]:
    """Have SIGTERM and SIGHUP do what Ctrl-C does, as long as the block lasts; ignored ones stay so."""
    ended = Ended()
    if threading.current_thread() is not threading.main_thread():
        yield ended
        return
    mine = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, ended)
    try:
        yield ended
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def let_go(error: BaseException) -> None:
    """Drop what an error cut short: a coroutine of a simulation that ends there cannot clean up, nor need it.

    Else each would say so on standard error, with a traceback, when it is collected.
    """
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        cut_short: BaseException | None = error
        while cut_short is not None:
            traceback.clear_frames(cut_short.__traceback__)
            cut_short = cut_short.__cause__ or cut_short.__context__
        gc.collect()
    finally:
        sys.unraisablehook = before


def require_standard_files() -> None:
    """Raises InputError when there is no standard output to print to; other missing ones are made up for."""
    for number in (0, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # or the next file would be taken for it
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # as long as the process lasts
    if sys.stdout is None:
        raise InputError("standard output is closed: results have nowhere to go (/dev/null would do)")
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a name may be no text


def tell_failed(error: OSError | MemoryError) -> None:
    """One line about a file that could not be opened, read or written (standard output, if it names none)."""
    if isinstance(error, MemoryError):
        click.echo("simmig: there is not enough memory for this", err=True)
        return
    named = error.filename
    if named is None and _printing(error):
        named = "standard output"
        forget_output()
    click.echo(f"simmig: {f'{named}: ' if named else ''}{error.strerror or error}", err=True)


def _printing(error: OSError) -> bool:
    """Whether it was raised where something was printed."""
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return len(frames) == 1 or any(code is click.echo.__code__ for code in frames)


def forget_output() -> None:
    """Nobody takes what is still to be printed: let it go without a word."""
    with suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
