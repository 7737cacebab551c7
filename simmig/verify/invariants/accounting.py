"""Bytes: counted once, promised, waited for."""

from __future__ import annotations

from collections.abc import Mapping

from simmig.trace import events as ev
from simmig.verify.invariants.base import Check, Invariant, Key
from simmig.verify.invariants.ledger import Ledger

_CHUNK_BYTES = 1 << 20
_SECOND_NS = 1_000_000_000
_UNSENT_BYTES = 4096
"""What a stream may hold back unsent when its position is read: headers and footers of sections."""


class AccountingMatchesWire(Invariant):
    """Zero pages are no wire bytes; a retried post counts once; the protocol's own count is the trace's."""

    name = "accounting_matches_wire"
    rule = "protocol 1"
    words = (
        "Pages saved as data are the bytes of writes, the sender's pending bytes and position are what was posted "
        "and completed, and the wire has carried at least that."
    )

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._saved: ev.PagesSaved | None = None
        self._data_bytes = 0
        self._page_bytes = 4096
        self._tcp = False
        self._bases: dict[int, int] = {}
        self._file_bytes = 0
        self._window: tuple[int, int] | None = None

    def checks(self) -> Mapping[Key, Check]:
        """All that tells of bytes."""
        return {
            ev.MigrationBegan: self._on_began,
            ev.PagesSaved: self._on_saved,
            (ev.WorkPosted, "write"): self._on_posted,
            (ev.WorkCompleted, "write"): self._on_completed,
            ev.DrainBegan: self._on_drain,
            ev.DrainEnded: self._on_drain,
            ev.ControlSent: self._on_sent,
            ev.SetupEnded: self._on_setup,
            ev.BandwidthEstimated: self._on_estimate,
            ev.PortCounted: self._on_port,
        }

    def _on_began(self, event: ev.MigrationBegan) -> None:
        self._tcp = event.transport == "tcp"
        self._page_bytes = event.page_bytes

    def _on_saved(self, event: ev.PagesSaved) -> None:
        if event.how == "zero":
            return
        if self._tcp:
            self._data_bytes += event.count * self._page_bytes
        elif self._saved is not None:
            self.broken(
                event, f"pages from {self._saved.page} were saved as data, and no write was posted for them"
            )
        self._saved = event

    def _on_posted(self, event: ev.WorkPosted) -> None:
        saved, self._saved = self._saved, None
        if saved is None:
            self.broken(event, f"a write of {event.length_bytes} bytes was posted for no page saved as data")
            return
        if event.length_bytes != saved.count * self._page_bytes:
            self.broken(event, f"{saved.count} pages were saved, and {event.length_bytes} bytes posted")
        base = saved.page * self._page_bytes - event.offset_bytes
        if self._bases.setdefault(event.block, base) != base:
            self.broken(event, f"page {saved.page} was written to {event.offset_bytes:#x} of block {event.block}")

    def _on_completed(self, event: ev.WorkCompleted) -> None:
        if len(self.ledger.retired) == 1 and event.length_bytes != self.ledger.retired[0].length_bytes:
            posted = self.ledger.retired[0].length_bytes
            self.broken(event, f"{posted} bytes were posted, and {event.length_bytes} counted as completed")

    def _on_drain(self, event: ev.DrainBegan | ev.DrainEnded) -> None:
        if event.pending_bytes != self.ledger.pending_bytes and self.ledger.receives_seen:
            self.broken(
                event, f"the sender counts {event.pending_bytes} bytes pending, {self.ledger.pending_bytes} are"
            )

    def _on_sent(self, event: ev.ControlSent) -> None:
        if event.side == "source" and event.type == "QEMU_FILE":
            self._file_bytes += event.length_bytes

    def _on_setup(self, event: ev.SetupEnded) -> None:
        if event.side == "source":
            self._window = event.t_ns, self.ledger.posted_bytes + self._file_bytes

    def _on_estimate(self, event: ev.BandwidthEstimated) -> None:
        """The estimate is the stream's position over a window: it moves by what was posted, and by no more."""
        position = self.ledger.posted_bytes + self._file_bytes
        if self._window is not None and not self._tcp and self.ledger.receives_seen:
            began_ns, before = self._window
            counted = event.bandwidth_bytes_s * max(1, event.t_ns - began_ns) // _SECOND_NS
            moved = position - before
            if abs(counted - moved) > _UNSENT_BYTES + moved // 8:  # a real clock moves between two readings
                self.broken(event, f"the position moved by {counted} bytes, and {moved} were posted")
        self._window = event.t_ns, position

    def _on_port(self, event: ev.PortCounted) -> None:
        done = self._data_bytes if self._tcp and self.ledger.completed else self.ledger.completed_bytes
        if event.side == "source" and event.sent_bytes < done:
            self.broken(event, f"{done} bytes have arrived, and the port has sent {event.sent_bytes}")


class PendingWithinPromise(Invariant):
    """A policy that promises a bound keeps it, give or take the chunk that is being filled when it is asked."""

    name = "pending_within_promise"
    rule = "protocol 1"
    words = "Never more bytes are pending than the policy promises, and one chunk."

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._limit: float = 0
        self._follows_budget = False
        self._allowed = float("inf")

    def checks(self) -> Mapping[Key, Check]:
        """The promise, and what moves pending bytes."""
        return {
            ev.MigrationBegan: self._on_began,
            (ev.WorkPosted, "write"): self._on_posted,
            ev.BandwidthEstimated: self._on_estimate,
        }

    def applies(self) -> bool:
        """Only a policy that promises something can break it."""
        return self.ledger.began is not None and self.ledger.began.promise is not None

    def _on_began(self, event: ev.MigrationBegan) -> None:
        self._follows_budget = event.promise == "downtime-budget"
        if isinstance(event.promise, int):
            self._allowed = event.promise + _CHUNK_BYTES

    def _on_posted(self, event: ev.WorkPosted) -> None:
        if self.ledger.pending_bytes > self._allowed:
            self.broken(event, f"{self.ledger.pending_bytes} bytes are pending, {self._allowed:.0f} were promised")

    def _on_estimate(self, event: ev.BandwidthEstimated) -> None:
        """A new budget binds from the next full chunk on; what was pending before may still be."""
        if self._follows_budget:
            before = self.ledger.pending_bytes if event.bandwidth_bytes_s else float("inf")
            self._allowed = max(event.threshold_bytes, before) + _CHUNK_BYTES


class DrainsReachTarget(Invariant):
    """A drain whose result is dropped is none."""

    name = "drains_reach_target"
    rule = "protocol 1"
    words = "A drain ends with no more bytes pending than it was asked to leave."

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._targets: dict[ev.AskedBy, int] = {}

    def checks(self) -> Mapping[Key, Check]:
        """Drains."""
        return {ev.DrainBegan: self._on_began, ev.DrainEnded: self._on_ended}

    def _on_began(self, event: ev.DrainBegan) -> None:
        if event.asked_by in self._targets:
            self.broken(event, f"a drain asked by the {event.asked_by} began within another")
        self._targets[event.asked_by] = event.target_bytes

    def _on_ended(self, event: ev.DrainEnded) -> None:
        target = self._targets.pop(event.asked_by, None)
        pending = self.ledger.pending_bytes
        if target is None:
            self.broken(event, f"a drain asked by the {event.asked_by} ended that had not begun")
        elif event.asked_by != "wire" and pending > target:  # a wire's wait may end before the writes do
            self.broken(event, f"a drain down to {target} bytes ended with {pending} pending")

    def conclude(self) -> str:
        """Whether every drain has ended."""
        return f"a drain asked by the {next(iter(self._targets))} never ended" if self._open else ""

    @property
    def _open(self) -> bool:
        return bool(self._targets) and self.ledger.completed
