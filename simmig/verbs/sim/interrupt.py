"""Ctrl-C, or a signal that a handler of Python's takes, during a simulation."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import simpy

Handling = Callable[[], Any]
"""A signal that has come, still to be handled."""


@contextmanager
def deferred(take: Callable[[Handling], object]) -> Iterator[None]:
    """Have `take` put off the handling of signals, as long as the block lasts.

    A second one does not wait. Only the main thread has signals to handle, and those that are ignored stay so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before = {number: handler for number, handler in handlers.items() if callable(handler)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, frame: FrameType | None) -> None:
        restore()
        take(partial(before[signal.Signals(number)], number, frame))

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        restore()


@contextmanager
def held() -> Iterator[list[Handling]]:
    """Keep signals until the block ends, where they are handled; it may look whether there are any.

    For what cannot be left half done: what a handler raises in a function that compiled code calls would be lost.
    """
    pending: list[Handling] = []
    try:
        with deferred(pending.append):
            yield pending
    finally:
        for handling in pending:
            handling()


@contextmanager
def interrupt_between_events(env: simpy.Environment) -> Iterator[None]:
    """Let an interrupt end `env.run` with KeyboardInterrupt when the event under way is over.

    Raised in the middle of an event it would land in whatever coroutine is running, which might take it for an
    error of its own and go on.
    """

    def take(handling: Handling) -> None:
        event = env.event()
        event.callbacks.append(lambda _: handling())
        event.succeed()

    with deferred(take):
        yield
