"""Memory keys: nothing is written without one, none goes while it is needed."""

from __future__ import annotations

from collections.abc import Mapping

from simmig.trace import events as ev
from simmig.verify.invariants.base import Check, Invariant, Key
from simmig.verify.invariants.ledger import Ledger
from simmig.verify.invariants.work import CHUNK_SHIFT

_WHOLE_BLOCK = -1


def _range_of(event: ev.MemoryRegistered) -> tuple[int, int, int]:
    start = 0 if event.chunk == _WHOLE_BLOCK else event.chunk << CHUNK_SHIFT
    return event.block, start, start + event.length_bytes


class KeysRegistered(Invariant):
    """A remote key works from its registration to its end, and for its own range.

    A destination that goes down takes its keys along, and a source that has not heard of it yet may go on posting:
    a key counts as gone when its destination has lived on to send another message.
    """

    name = "keys_registered"
    rule = "R31"
    words = "A write goes to memory that is registered on both sides, under the destination's key for it."

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._remote: dict[int, tuple[int, int, int]] = {}
        self._going: list[int] = []
        self._local: dict[tuple[int, int], int] = {}

    def checks(self) -> Mapping[Key, Check]:
        """Registrations and writes."""
        return {
            ev.MemoryRegistered: self._on_registered,
            ev.MemoryDeregistered: self._on_deregistered,
            ev.ControlSent: self._on_sent,
            (ev.WorkPosted, "write"): self._on_posted,
        }

    def applies(self) -> bool:
        """Only a trace of both sides tells the destination's keys."""
        return self.ledger.both_sides

    def _on_registered(self, event: ev.MemoryRegistered) -> None:
        if event.side == "destination":
            self._remote[event.key] = _range_of(event)
            if event.key in self._going:
                self._going.remove(event.key)
        else:
            self._local[event.block, event.chunk] = event.length_bytes

    def _on_deregistered(self, event: ev.MemoryDeregistered) -> None:
        if event.side == "destination":
            self._going.append(event.key)
        else:
            self._local.pop((event.block, event.chunk), None)

    def _on_sent(self, event: ev.ControlSent) -> None:
        if self._going and event.side == "destination":
            for key in self._going:
                self._remote.pop(key, None)
            self._going.clear()

    def _on_posted(self, event: ev.WorkPosted) -> None:
        offset, block = event.offset_bytes, event.block
        region = self._remote.get(event.key)
        if region is None:
            self.broken(event, f"a write under key {event.key:#x}, which the destination has not registered")
        elif region[0] != block or not region[1] <= offset <= offset + event.length_bytes <= region[2]:
            self.broken(
                event, f"a write of {event.length_bytes} bytes at {offset:#x} of block {block} leaves its key"
            )
        elif (block, offset >> CHUNK_SHIFT) not in self._local and (block, _WHOLE_BLOCK) not in self._local:
            self.broken(event, f"a write from chunk {offset >> CHUNK_SHIFT} of block {block}, not registered here")


class KeysOutliveWrites(Invariant):
    """A side that goes down destroys its queue pair first; one that lives on keeps memory that a write uses."""

    name = "keys_outlive_writes"
    rule = "R12"
    words = "No memory is deregistered with a write to or from it in flight."

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._suspects: dict[ev.Side, tuple[ev.MemoryDeregistered, int]] = {}

    def checks(self) -> Mapping[Key, Check]:
        """Ends of registrations, and whether their side lives on."""
        return {ev.MemoryDeregistered: self._on_deregistered, ev.WorkPosted: self._on_posted}

    def _on_deregistered(self, event: ev.MemoryDeregistered) -> None:
        if event.side in self._suspects or not self.ledger.pending_bytes:
            return
        for queue in self.ledger.sends.values():
            for work in queue:
                if work.opcode == "write" and _uses(work, event):
                    self._suspects[event.side] = event, self.ledger.index
                    return

    def _on_posted(self, event: ev.WorkPosted) -> None:
        """The side is not going down: it still posts."""
        if self._suspects and (suspect := self._suspects.get(event.side)) is not None:
            gone, index = suspect
            words = (
                f"the {gone.side} deregistered chunk {gone.chunk} of block {gone.block} under a write in flight"
            )
            now, self.ledger.index = self.ledger.index, index
            self.broken(gone, words)
            self.ledger.index = now


def _uses(work: ev.WorkPosted, region: ev.MemoryDeregistered) -> bool:
    if region.side == "destination":
        return work.key == region.key
    return work.block == region.block and region.chunk in (_WHOLE_BLOCK, work.offset_bytes >> CHUNK_SHIFT)
