"""Whether memory full of zeros stays off the wire where a COMPRESS would do (`migration.ram_writer`).

What a page holds is in no trace, so the world under check looks. Once a chunk is registered, its pages are
written whatever they hold, and with pin-all every chunk is: that is QEMU's. A guest's workload never clears pages,
so that it does not matter that the protocol looked a little earlier; `cleared` are those that the world did.
"""

from __future__ import annotations

from collections.abc import Callable

from simmig.guest.api import Guest
from simmig.trace import events as ev

CHUNK_PAGES = 256


class Thrift:
    """A reader of the trace, as it is being made; `found` has what was registered or written for nothing."""

    def __init__(self, guest: Guest) -> None:
        self.found: list[tuple[int, str]] = []
        """Number of the event, and words."""
        self.cleared: set[int] = set()
        self._guest = guest
        self._index = -1
        self._asked = False
        self._due: tuple[int, int] | None = None
        self._handlers: dict[type, Callable[[ev.AnyEvent], None]] = {
            ev.ControlReceived: self._on_received,
            ev.MemoryRegistered: self._on_registered,
            ev.PagesSaved: self._on_saved,
        }

    def __call__(self, event: ev.AnyEvent) -> None:
        """One more event."""
        self._index += 1
        if event.side == "source" and (handler := self._handlers.get(type(event))) is not None:
            handler(event)

    def _on_received(self, event: ev.AnyEvent) -> None:
        self._asked = isinstance(event, ev.ControlReceived) and event.type == "REGISTER_RESULT"

    def _on_registered(self, event: ev.AnyEvent) -> None:
        """The first chunk of an answer is that of the run to be written, the others come with it."""
        if not isinstance(event, ev.MemoryRegistered) or event.chunk < 0:
            return
        block = self._guest.blocks[event.block]
        first = event.chunk * CHUNK_PAGES
        pages = (block.first_page + first, min(CHUNK_PAGES, block.pages - first))
        if self._guest.is_zero(*pages):
            self.found.append(
                (self._index, f"chunk {event.chunk} of {block.name} was registered, and is all zero")
            )
        if self._asked:
            self._due, self._asked = pages, False

    def _on_saved(self, event: ev.AnyEvent) -> None:
        """The run that a chunk was registered for."""
        if self._due is None or not isinstance(event, ev.PagesSaved):
            return
        (first, count), self._due = self._due, None
        if event.how == "data" and first <= event.page < first + count:
            pages = range(event.page, event.page + event.count)
            if self._guest.is_zero(event.page, event.count) and self.cleared.isdisjoint(pages):
                words = f"{event.count} pages from {event.page} were written for the first time, and are all zero"
                self.found.append((self._index, words))
