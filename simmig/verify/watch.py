"""What a run under check shares: the choices, the faults still to come, and what has become of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from simmig.trace.events import AnyEvent, Side
from simmig.verify import faults as f
from simmig.verify.choices import Choices
from simmig.verify.environment import ChoosingEnvironment

SIDES: tuple[Side, Side] = ("source", "destination")


class Watch:
    """Asked by everything that may go wrong or may choose; keeps the trace and what was made and not destroyed."""

    def __init__(self, plan: Sequence[f.Fault], choices: Choices, streams: bool = False) -> None:
        self.choices = choices
        self.env = ChoosingEnvironment(choices)
        self.streams = streams
        self.events: list[AnyEvent] = []
        self.readers: list[Callable[[AnyEvent], None]] = []
        self.happened: list[f.Fault] = []
        self.made: dict[Side, list[tuple[str, Any]]] = {"source": [], "destination": []}
        self.refused: list[Any] = []
        """Objects whose destruction was made to fail."""
        self.queue_pairs: list[Any] = []
        self.silent: set[Side] = set()
        """Sides that are dead or hang: nobody hears of them any more."""
        self.act: Callable[[f.Fault], None] = lambda fault: None
        self._calls = [fault for fault in plan if isinstance(fault, f.Call)]
        self.called: dict[tuple[Side, str], int] = {}
        self._not_ready = [fault for fault in plan if isinstance(fault, f.NotReady)]
        self.asked: dict[Side, int] = {"source": 0, "destination": 0}
        self.full_and_idle = False
        """Whether a send queue was said to be full that had nothing in it."""
        self._at: dict[int, list[f.Fault]] = {}
        for fault in plan:
            if isinstance(fault, f.Dies | f.Hangs | f.LinkDown | f.Disconnect | f.Cancel):
                self._at.setdefault(fault.event, []).append(fault)

    def emit(self, event: AnyEvent) -> None:
        """An event of the trace; what is to come right after it will."""
        if event.side in self.silent:
            return
        index = len(self.events)
        self.events.append(event)
        for reader in self.readers:
            reader(event)
        for fault in self._at.get(index, ()):
            self.happened.append(fault)
            self.act(fault)

    def failing(self, side: Side, call: str) -> int:
        """The errno with which this call fails, 0 for none."""
        number = self.called.get((side, call), 0)
        self.called[side, call] = number + 1
        for fault in self._calls:
            if (fault.side, fault.call) == (side, call) and 0 <= number - fault.number < fault.times:
                self.happened.append(fault)
                return fault.errno
        return 0

    def not_ready(self, side: Side) -> bool:
        """Whether this message is to find no receive."""
        number = self.asked[side]
        self.asked[side] = number + 1
        for fault in self._not_ready:
            if (fault.side, fault.number) == (side, number):
                self.happened.append(fault)
                return True
        return False

    def leaks(self, side: Side) -> list[str]:
        """What the side made and never destroyed, or tried to."""
        left = [(kind, thing) for kind, thing in self.made[side] if not thing._closed]
        stuck = [thing for _, thing in left if thing in self.refused]
        held = [getattr(thing, "channel", None) for thing in stuck]  # a channel goes only after its queues
        domain = "protection domain"  # and a domain after all that is in it
        return [kind for kind, thing in left if thing not in stuck + held and not (stuck and kind == domain)]
