"""Ctrl-C, or a signal that a handler of Python's takes, during a simulation."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import simpy


@contextmanager
def interrupt_between_events(env: simpy.Environment) -> Iterator[None]:
    """Let an interrupt end `env.run` with KeyboardInterrupt when the event under way is over.

    Raised in the middle of an event it would land in whatever coroutine is running, which might take it for an
    error of its own and go on. A second interrupt does not wait. Only the main thread has interrupts to handle,
    and those that are ignored stay so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before = {number: handler for number, handler in handlers.items() if callable(handler)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        restore()
        event = env.event()
        event.callbacks.append(lambda _: before[signal.Signals(number)](number, frame))
        event.succeed()

    for number in before:
        signal.signal(number, on_interrupt)
    try:
        yield
    finally:
        restore()
