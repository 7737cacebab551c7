"""A simpy environment in which the order of simultaneous events is a choice."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import simpy

from simmig.verify.choices import Choices

_MOST = 4
"""Simultaneous events among which the next is chosen; the fifth and later ones keep their places."""


class ChoosingEnvironment(simpy.Environment):
    """Runs until nothing is left to happen, asking `choices` whenever several events are due at once."""

    def __init__(self, choices: Choices) -> None:
        super().__init__()
        self._choices = choices

    def rest(self, until_ns: int) -> bool:
        """Let everything happen that is due by then; whether the world has come to rest."""
        queue: list[Any] = self._queue
        while queue:
            head = queue[0]
            if head[0] > until_ns:
                return False
            count = len(queue)
            if (count > 1 and queue[1][:2] == head[:2]) or (count > 2 and queue[2][:2] == head[:2]):
                self._choose(queue)
            self.step()
        return True

    def _choose(self, queue: list[Any]) -> None:
        """Have the event that is to be next at the head of the queue."""
        due = queue[0][:2]
        events: list[Any] = []
        while queue and queue[0][:2] == due and len(events) < _MOST:
            entry = heappop(queue)
            if entry[3].callbacks:  # the others are events that came to nothing
                events.append(entry)
        if len(events) > 1:
            option = self._choices.choose("order", len(events))
            if option:
                chosen = events.pop(option)
                heappush(queue, (*due, -1, chosen[3]))
        for entry in events:
            heappush(queue, entry)
        if not queue:  # nothing but events that came to nothing
            heappush(queue, (*due, -1, _Nothing()))


class _Nothing:
    """An event that nobody hears of."""

    _ok = True

    def __init__(self) -> None:
        self.callbacks: tuple[Any, ...] | None = ()
