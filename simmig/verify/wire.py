"""A link's direction on which a fault plan says what becomes of which packet."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappush
from typing import Any

from simpy.events import NORMAL

from simmig.verbs.sim.link import Direction
from simmig.verbs.sim.work import RequestBurst
from simmig.verify.faults import Packet

_NEVER = 1 << 60


class CheckedDirection(Direction):
    """Losses come from the plan, not by lot; TCP and the connection manager see no reordering, only delay."""

    __slots__ = ("_drops", "_happened", "_not_before_ns", "_plans", "seen")

    def plan(self, faults: Sequence[Packet], happened: Callable[[Packet], None]) -> None:
        """Have these faults come about; `happened` is told of each when it does."""
        self._happened = happened
        self.seen = 0
        self._not_before_ns = 0
        self._plans = {fault.number: fault for fault in faults if fault.what != "drop"}
        drops = {fault.number: fault for fault in faults if fault.what == "drop"}
        self._drops = deque(drops[number] for number in sorted(drops))
        if self._drops:
            self._until_loss = self._drops[0].number

    def _draw_loss(self) -> int:
        """A packet is being lost: how many get through before the next."""
        lost = self._drops.popleft()
        self._happened(lost)
        return self._drops[0].number - lost.number - 1 if self._drops else _NEVER

    def answer(self, event: Any, callbacks: tuple[Callable[[Any], None], ...]) -> bool:
        """An acknowledgement; a late one does not hold up others."""
        if not super().answer(event, callbacks):
            return False
        fault = self._next(1)
        if fault is not None and fault.what != "duplicate":  # a second acknowledgement says nothing new
            queue: list[Any] = self.env.heap
            index = next(i for i, entry in enumerate(queue) if entry[3] is event)
            at_ns, priority, number, _ = queue.pop(index)
            self.env.heap.sort()
            heappush(queue, (at_ns + fault.by_ns, priority, number, event))
        return True

    def fly(self, burst: Any, departure_ns: int) -> None:
        """Packets on their way."""
        fault = self._next(burst.count)
        arrival_ns = departure_ns + self.latency_ns
        is_request = isinstance(burst, RequestBurst)
        if fault is not None and fault.what == "duplicate" and is_request:
            self._push(copy.copy(burst), arrival_ns + fault.by_ns)
        elif fault is not None:
            arrival_ns += fault.by_ns
        if fault is None or fault.what != "reorder" or not is_request:
            arrival_ns = self._not_before_ns = max(arrival_ns, self._not_before_ns)
        self._push(burst, arrival_ns)

    def _push(self, burst: Any, at_ns: int) -> None:
        burst.callbacks = self._arriving
        heappush(self.env.heap, (at_ns, NORMAL, self.env.number(), burst))

    def _next(self, count: int) -> Packet | None:
        """Count packets off; the fault of the first of them that has one."""
        self.seen += count
        if not self._plans:
            return None
        for number in [number for number in self._plans if number < self.seen]:
            fault = self._plans.pop(number)
            self._happened(fault)
            return fault
        return None
