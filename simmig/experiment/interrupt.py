"""Ctrl-C during a simulation."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import simpy


@contextmanager
def interrupt_between_events(env: simpy.Environment) -> Iterator[None]:
    """Let an interrupt end `env.run` with KeyboardInterrupt when the event under way is over.

    Raised in the middle of an event it would land in whatever coroutine is running, which might take it for an
    error of its own and go on. A second interrupt does not wait. Only the main thread has interrupts to handle.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_event: simpy.Event) -> None:
        raise KeyboardInterrupt

    def on_interrupt(*_: Any) -> None:
        signal.signal(signal.SIGINT, before)
        event = env.event()
        event.callbacks.append(stop)
        event.succeed()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
