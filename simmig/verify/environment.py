"""A simpy environment in which the order of simultaneous events is a choice."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import repeat
from typing import Any

from simmig.verbs.sim.host import Host
from simmig.verbs.sim.timeline import Timeline
from simmig.verify.choices import Choices
from simmig.verify.instants import told_instant
from simmig.verify.patience import Endless

MOST_SIMULTANEOUS = 4
"""Simultaneous events among which the next is chosen; the fifth and later ones keep their places."""

MOST_EVENTS = 50_000
"""In one instant; no run of a case has as many in all its time."""


class ChoosingEnvironment(Timeline):
    """Runs until nothing is left to happen, asking `choices` whenever several events are due at once."""

    def __init__(self, choices: Choices) -> None:
        super().__init__()
        self._choices = choices
        self.hosts: Sequence[Host] = ()
        """Who may be the one that lets no time pass."""

    def rest(self, until_ns: int) -> bool:
        """Let everything happen that is due by then; whether the world has come to rest.

        Raises Endless when no time passes any more.
        """
        queue: list[Any] = self._queue
        while queue:
            began = self._now
            for _ in repeat(None, MOST_EVENTS):
                if not queue:
                    return True
                head = queue[0]
                if head[0] > until_ns:
                    return False
                count = len(queue)
                if (count > 1 and queue[1][:2] == head[:2]) or (count > 2 and queue[2][:2] == head[:2]):
                    self._choose(queue)
                self.step()
            if self._now == began:
                raise Endless(told_instant(self, self.hosts, MOST_EVENTS))
        return True

    def _choose(self, queue: list[Any]) -> None:
        """Have the event that is to be next at the head of the queue."""
        due = queue[0][:2]
        events: list[Any] = []
        while queue and queue[0][:2] == due and len(events) < MOST_SIMULTANEOUS:
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
