"""How whatever reads a trace takes its events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from simmig.trace.events import AnyEvent

Reader = Callable[[AnyEvent], None]
"""Takes the events of a trace one by one, in order."""

Handlers = Mapping[type, Callable[[Any], None]]


class EventReader:
    """A reader that cares for some types of events: `handlers` has a function for each of them.

    It is a `Reader`; who has many events to hand on may look up and call the handlers directly.
    """

    handlers: Handlers

    def __call__(self, event: AnyEvent) -> None:
        """Take the next event."""
        handle = self.handlers.get(type(event))
        if handle is not None:
            handle(event)
