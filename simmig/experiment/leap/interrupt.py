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
