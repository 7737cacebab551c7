"""Runs of pages: one write where one does."""

from __future__ import annotations

from collections.abc import Mapping

from simmig.trace import events as ev
from simmig.verify.invariants.base import Check, Invariant, Key
from simmig.verify.invariants.ledger import Ledger
from simmig.verify.invariants.work import CHUNK_SHIFT

_CHUNK_MASK = (1 << CHUNK_SHIFT) - 1


class RunsAreMerged(Invariant):
    """Pages that lie side by side in a chunk and are walked one after the other go as one write.

    A rate limit may come between any two pages: in a slice that it interrupts, nothing in the trace tells where.
    """

    name = "runs_are_merged"
    rule = "protocol 5"
    words = (
        "A write does not begin where the last one ended, unless a chunk, a slice or a round begins there too, "
        "or there is a rate limit."
    )

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._end: tuple[int, int] | None = None

    def checks(self) -> Mapping[Key, Check]:
        """Writes, and where merging ends by rights."""
        ends = (ev.SliceBegan, ev.SliceEnded, ev.RoundBegan, ev.RoundEnded, ev.VmStopped)
        return {(ev.WorkPosted, "write"): self._on_posted, **dict.fromkeys(ends, self._on_end)}

    def _on_posted(self, event: ev.WorkPosted) -> None:
        at = (event.block, event.offset_bytes)
        began = self.ledger.began
        limited = began is not None and began.rate_limit is not None
        if at == self._end and event.offset_bytes & _CHUNK_MASK and not limited:
            self.broken(
                event, f"a write at {event.offset_bytes:#x} of block {event.block}, where the last one ended"
            )
        self._end = (event.block, event.offset_bytes + event.length_bytes)

    def _on_end(self, _: ev.Event) -> None:
        self._end = None
