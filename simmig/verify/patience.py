"""An end to what never ends: a policy that does not answer, code that never waits, an instant without end.

Virtual time does not help where it does not pass. Events in one instant are counted; what does not even come to
its next event is looked at by the clock of this machine, once a second, and ended by an exception in its midst.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE_S = 3
"""For one step of a run, which takes microseconds."""


class Endless(BaseException):
    """It would never end; the text tells. No Exception, so that no handler takes it for an error of its own."""


@contextmanager
def patience(progress: Callable[[], Any], stuck: Callable[[float], str]) -> Iterator[None]:
    """Raise Endless within the block when for PATIENCE_S `progress()` stays the same and `stuck()` has words.

    `stuck` is told for how many seconds of processor time that has been so. Where the machine is busy with other
    things that is little, and where somebody waits it is none. Seconds for which this process was stopped do not
    count. In another than the main thread, where no alarm can be
    set, a call that blocks in the system is ended only when it returns.
    """
    seen: list[Any] = []
    since_s = 0.0

    def look() -> str:
        nonlocal since_s
        now = progress()
        if not seen or seen[-1] != now:
            seen.clear()
            since_s = time.process_time()
        seen.append(now)
        return stuck(time.process_time() - since_s) if len(seen) > PATIENCE_S else ""

    yield from (_by_alarm if threading.current_thread() is threading.main_thread() else _by_thread)(look)


def _by_alarm(look: Callable[[], str]) -> Iterator[None]:
    def on_alarm(*_: Any) -> None:
        if words := look():
            raise Endless(words)

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _by_thread(look: Callable[[], str]) -> Iterator[None]:
    over = threading.Event()
    thread = threading.get_ident()

    def watch() -> None:
        while not over.wait(1):
            if words := look():
                raised = type("_Endless", (Endless,), {"__str__": lambda _: words})  # made where it is raised
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(raised))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
