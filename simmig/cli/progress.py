"""How far a running migration is, for a person who waits."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

from simmig.experiment.amounts import format_bytes, format_time
from simmig.guest.api import PAGE_BYTES
from simmig.trace import events as ev
from simmig.trace.readers import EventReader

_LOOK_EVERY = 64
_SHOW_EVERY_S = 0.1
_EVERY_MESSAGES = 20
_ESTIMATE_AFTER_S = 1.0
LOG_EVERY_S = 30.0
"""Between two lines that tell how far it is, where there is no terminal."""


class LogLine:
    """Shows the latest of what it is told now and then, a line each time, on standard error."""

    def __init__(self) -> None:
        self._next_s = time.monotonic() + LOG_EVERY_S

    def __call__(self, text: str) -> None:
        """Take what there is to tell."""
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + LOG_EVERY_S
            click.echo(f"simmig: {text}", err=True)


class Counted:
    """Of so many things how many are done, and how long the rest may take at the pace so far."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._what = ""
        self._began_s, self._first = 0.0, 0

    def __call__(self, what: str, done: int, of: int | None) -> None:
        """So many are done, `of` so many; None: nobody knows."""
        now_s = time.monotonic()
        if what != self._what:
            self._what, self._began_s, self._first = what, now_s, done
        text = f"{what}: {done}" + ("" if of is None else f" of {of}")
        spent_s, more = now_s - self._began_s, done - self._first
        if of is not None and more > 0 and done < of and spent_s >= _ESTIMATE_AFTER_S:
            text += f", about {_rough(spent_s * (of - done) / more)} more"
        self._show(text)


def _rough(seconds: float) -> str:
    """A time as an estimate is told."""
    return f"{max(1, round(seconds))} s" if seconds < 120 else f"{round(seconds / 60)} min"


class Progress(EventReader):
    """Tells `show` the round, the time and what is left of the round, as a trace has it or `at` is told."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self.handlers = {ev.RoundBegan: self._on_round_began, ev.PagesSaved: self._on_saved}
        self._show = show
        self._round = 0
        self._left = 0
        self._seen = 0
        self._shown_s = 0.0
        self._round_pages = 0
        self._round_began_s = time.monotonic()

    def at(self, round_index: int, left_pages: int, now_ns: int) -> None:
        """So far it is."""
        if round_index != self._round:
            self._begin(round_index, left_pages)
        self._left = left_pages
        self._tell(now_ns)

    def _on_round_began(self, event: ev.RoundBegan) -> None:
        self._begin(event.index, event.dirty_pages)

    def _on_saved(self, event: ev.PagesSaved) -> None:
        self._left -= event.count
        self._seen += 1
        if self._seen % _LOOK_EVERY == 0:
            self._tell(event.t_ns)

    def _begin(self, index: int, pages: int) -> None:
        self._round, self._left = index, pages
        self._round_pages, self._round_began_s = pages, time.monotonic()

    def _tell(self, now_ns: int) -> None:
        if time.monotonic() < self._shown_s + _SHOW_EVERY_S:
            return
        self._shown_s = time.monotonic()
        left = format_bytes(max(0, self._left) * PAGE_BYTES)
        told = f"round {self._round}: {left} left, {format_time(now_ns)} of the guest's time"
        self._show(told + self._estimate())

    def _estimate(self) -> str:
        """How long this round may still take here, at its own pace; how many rounds follow nobody knows."""
        sent, spent_s = self._round_pages - self._left, time.monotonic() - self._round_began_s
        if self._left <= 0 or sent <= 0 or spent_s < _ESTIMATE_AFTER_S:
            return ""
        return f", about {_rough(spent_s * self._left / sent)} more for this round"


class Received:
    """The same for a destination, which knows only what it is told: a reader of its own events."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._messages = 0

    def __call__(self, event: ev.AnyEvent) -> None:
        """Take the next event."""
        if type(event) is ev.ControlReceived:
            self._messages += 1
            if self._messages % _EVERY_MESSAGES == 1:
                self._show(
                    f"receiving: {self._messages} control messages, {format_time(event.t_ns)} since the start"
                )
        elif type(event) is ev.DeviceStateLoaded:
            self._show("all is here: comparing, resuming")
