"""What is to happen, and when: SimPy's environment, and what devices use of it beyond what it offers to all."""

from __future__ import annotations

from heapq import heappush
from typing import Any

import simpy
from simpy.events import NORMAL


class Timeline(simpy.Environment):
    """An environment whose times are whole nanoseconds, and whose heap is open.

    `heap` holds (time, priority, number, event); numbers, the next of which `number` gives, keep what is due at
    the same time in the order in which it was put there. An event is anything with callbacks and SimPy's `_ok`.
    What happens for every message puts its events there itself, at no cost of a call; all else comes by `at`.
    """

    _now: int  # and read as it is: `now` is a property

    def __init__(self) -> None:
        super().__init__()
        self.heap: list[tuple[int, int, int, Any]] = self._queue  # type: ignore[assignment]
        self.number = self._eid.__next__

    def at(self, at_ns: int, event: Any) -> None:
        """Have the event happen then."""
        heappush(self.heap, (at_ns, NORMAL, self.number(), event))
