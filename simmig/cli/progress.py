"""How far a running migration is, for a person who waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from simmig.experiment.amounts import format_bytes, format_time
from simmig.guest.api import PAGE_BYTES
from simmig.trace import events as ev

_LOOK_EVERY = 64
_SHOW_EVERY_S = 0.1
_EVERY_MESSAGES = 20
_ESTIMATE_AFTER_S = 1.0


class Progress:
    """A reader of traces that tells `show` the round, the time and what is left of the round."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._round = 0
        self._left = 0
        self._seen = 0
        self._shown_s = 0.0
        self._round_pages = 0
        self._round_began_s = time.monotonic()

    def __call__(self, event: ev.AnyEvent) -> None:
        """Take the next event."""
        if type(event) is ev.RoundBegan:
            self._round, self._left = event.index, event.dirty_pages
            self._round_pages, self._round_began_s = event.dirty_pages, time.monotonic()
        elif type(event) is ev.PagesSaved:
            self._left -= event.count
        self._seen += 1
        if self._seen % _LOOK_EVERY == 0 and time.monotonic() >= self._shown_s + _SHOW_EVERY_S:
            self._shown_s = time.monotonic()
            left = format_bytes(max(0, self._left) * PAGE_BYTES)
            told = f"round {self._round}: {left} left, {format_time(event.t_ns)} of the guest's time"
            self._show(told + self._estimate())

    def _estimate(self) -> str:
        """How long this round may still take here, at its own pace; how many rounds follow nobody knows."""
        sent, spent_s = self._round_pages - self._left, time.monotonic() - self._round_began_s
        if self._left <= 0 or sent <= 0 or spent_s < _ESTIMATE_AFTER_S:
            return ""
        return f", about {max(1, round(spent_s * self._left / sent))} s more for this round"


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
