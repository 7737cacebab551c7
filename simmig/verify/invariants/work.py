"""Work requests: completions, chunks, buffers, queues."""

from __future__ import annotations

from collections.abc import Mapping

from simmig.trace import events as ev
from simmig.verify.invariants.base import Check, Invariant, Key
from simmig.verify.invariants.ledger import KIND_MASK, Ledger

CHUNK_SHIFT = 20
"""A chunk is 1 MiB."""
_WRITE = 1
_BLOCK_SHIFT = 44


class CompletionsMatchPosts(Invariant):
    """Every work request is signalled, so each completion is that of the oldest one of its queue."""

    name = "completions_match_posts"
    rule = "R16"
    words = "Completions of a queue come one for one and in the order of the posts."

    def checks(self) -> Mapping[Key, Check]:
        """Completions."""
        return {ev.WorkCompleted: self._on_completed}

    def _on_completed(self, event: ev.WorkCompleted) -> None:
        ledger = self.ledger
        if ledger.in_order:
            if ledger.retired[0].opcode != event.opcode:
                self.broken(event, f"a {event.opcode} completed where a {ledger.retired[0].opcode} was posted")
        elif not ledger.retired:
            self.broken(event, f"a {event.opcode} (id {event.wr_id:#x}) completed that was not outstanding")
        else:
            skipped = len(ledger.retired) - 1
            self.broken(event, f"a {event.opcode} completed before {skipped} work request(s) posted earlier")


class AllWorkEnded(Invariant):
    """What was sent was seen through."""

    name = "all_work_ended"
    rule = "protocol 1"
    words = "A migration that completed leaves no write and no send open, on either side."

    def checks(self) -> Mapping[Key, Check]:
        """Nothing: the end tells."""
        return {}

    def conclude(self) -> str:
        """What is still open."""
        if not self.ledger.completed:
            return ""
        still = sum(len(queue) for queue in self.ledger.sends.values())
        return f"completed with {still} work request(s) open" if still else ""


class OneWritePerChunk(Invariant):
    """Two writes to one chunk could land in either order of a retransmission, and share their id."""

    name = "one_write_per_chunk"
    rule = "protocol 5"
    words = "A chunk has at most one write in flight."

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._in_flight: set[int] = set()

    def checks(self) -> Mapping[Key, Check]:
        """Writes, from post to completion."""
        return {
            (ev.WorkPosted, "write"): self._on_posted,
            (ev.WorkCompleted, "write"): self._on_ended,
            ev.WorkFailed: self._on_ended,
        }

    def _on_posted(self, event: ev.WorkPosted) -> None:
        chunk = event.block << _BLOCK_SHIFT | event.offset_bytes >> CHUNK_SHIFT
        if chunk in self._in_flight:
            number = event.offset_bytes >> CHUNK_SHIFT
            self.broken(event, f"a second write to chunk {number} of block {event.block} is in flight")
        self._in_flight.add(chunk)

    def _on_ended(self, _: ev.Event) -> None:
        for work in self.ledger.retired:
            self._in_flight.discard(work.block << _BLOCK_SHIFT | work.offset_bytes >> CHUNK_SHIFT)


class WritesWithinChunk(Invariant):
    """Runs are merged up to a chunk's end and no further; the id says which chunk."""

    name = "writes_within_chunk"
    rule = "protocol 2"
    words = "A write lies within the one chunk that its id names."

    def checks(self) -> Mapping[Key, Check]:
        """Writes."""
        return {(ev.WorkPosted, "write"): self._on_posted}

    def _on_posted(self, event: ev.WorkPosted) -> None:
        offset, length = event.offset_bytes, event.length_bytes
        chunk = offset >> CHUNK_SHIFT
        if event.wr_id != _WRITE | event.block << 16 | chunk << 30:
            self.broken(event, f"a write to chunk {chunk} of block {event.block} has the id {event.wr_id:#x}")
        elif length <= 0 or offset + length - 1 >> CHUNK_SHIFT != chunk:
            self.broken(event, f"a write of {length} bytes at {offset:#x} does not lie within a chunk")


class BuffersOwned(Invariant):
    """A posted control buffer is the device's."""

    name = "buffers_owned"
    rule = "R12"
    words = "A control buffer is not posted again before its completion."

    def checks(self) -> Mapping[Key, Check]:
        """Sends and receives."""
        return {(ev.WorkPosted, "send"): self._on_posted, (ev.WorkPosted, "recv"): self._on_posted}

    def _on_posted(self, event: ev.WorkPosted) -> None:
        queue = self.ledger.queue
        if len(queue) > 1 and sum(work.wr_id == event.wr_id for work in queue) > 1:
            self.broken(event, f"the {event.opcode} buffer {event.wr_id & KIND_MASK} was posted twice")


class QueuesNeverOverrun(Invariant):
    """Outstanding work bounds what may lie in a completion queue unpolled."""

    name = "queues_never_overrun"
    rule = "R10, R24"
    words = "No queue holds more work requests than it has room for, nor its completion queue more completions."

    def checks(self) -> Mapping[Key, Check]:
        """Posts."""
        return {
            ev.MigrationBegan: self._on_began,
            (ev.WorkPosted, "write"): self._on_send,
            (ev.WorkPosted, "send"): self._on_send,
            (ev.WorkPosted, "recv"): self._on_receive,
        }

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._on_began(ev.MigrationBegan(0, "source", 0, 0, "", False, "", 0))

    def _on_began(self, event: ev.MigrationBegan) -> None:
        self._send_room = min(event.send_queue, event.completion_queue)
        self._receive_room = min(event.receive_queue, event.completion_queue)

    def _on_send(self, event: ev.WorkPosted) -> None:
        if len(self.ledger.queue) > self._send_room:
            self.broken(event, f"{len(self.ledger.queue)} work requests outstanding, room for {self._send_room}")

    def _on_receive(self, event: ev.WorkPosted) -> None:
        if len(self.ledger.queue) > self._receive_room:
            self.broken(event, f"{len(self.ledger.queue)} receives outstanding, room for {self._receive_room}")
