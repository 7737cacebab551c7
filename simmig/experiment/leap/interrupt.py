"""Ctrl-C, or a signal that a handler of Python's takes, while compiled code runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

Pending = list[tuple[int, FrameType | None]]


@contextmanager
def held() -> Iterator[Pending]:
    """Keep signals until the block ends, where they are handled; it may look whether there are any.

    What a handler raises in a function that compiled code calls would be lost. A second one does not wait. Only
    the main thread has signals to handle, and those that are ignored stay so.
    """
    pending: Pending = []
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before = {number: handler for number, handler in handlers.items() if callable(handler)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, frame: FrameType | None) -> None:
        restore()
        pending.append((number, frame))

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield pending
    finally:
        restore()
        for came, frame in pending:
            before[signal.Signals(came)](came, frame)


@contextmanager
def heard() -> Iterator[None]:
    """Ctrl-C ends the block as one, also where a compiler called in it loses it or makes another error of it.

    What a handler raises in a callback of LLVM's is printed and forgotten; the compilation then fails otherwise.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        handler(number, frame)

    signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    except Exception:
        if came:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        raise KeyboardInterrupt
