"""Rounds: as many as the dirty pages ask for, each with one sync of the bitmap, and no more than were allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from simmig.trace import events as ev
from simmig.verify.invariants.base import Check, Invariant, Key
from simmig.verify.invariants.ledger import Ledger

_FLAT = 4
"""Three rounds and what would be the next."""


class RoundsAreDue(Invariant):
    """A round ends when what is left may fit, and another begins only when after the sync it does not."""

    name = "rounds_are_due"
    rule = "protocol 5"
    words = (
        "A round ends when less than the threshold is left, with one sync of the bitmap; another begins only when "
        "more than that is dirty then, and never more than `max_rounds`; only then the source gives up, or, told "
        "`stop_when_flat`, after three rounds that did not shrink and before one more."
    )

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._round = 0
        self._threshold_bytes = 0
        self._left_pages = 0
        self._sizes: list[int] = []
        self._at: Literal["begin", "round", "ended", "synced", "stopped", "last"] = "begin"
        """What came last: after the beginning, a round's end and the stop a sync is due, and at no other time."""

    def checks(self) -> Mapping[Key, Check]:
        """All that tells of rounds."""
        return {
            ev.BandwidthEstimated: self._on_estimate,
            ev.PagesSaved: self._on_saved,
            ev.RoundEnded: self._on_round_ended,
            ev.BitmapSynced: self._on_synced,
            ev.RoundBegan: self._on_round_began,
            ev.VmStopped: self._on_stopped,
            ev.MigrationEnded: self._on_ended,
        }

    def applies(self) -> bool:
        """Only where the trace tells how many rounds were allowed; a log of QEMU's does not."""
        return self._most > 0

    @property
    def _most(self) -> int:
        return 0 if self.ledger.began is None else self.ledger.began.max_rounds

    @property
    def _fits(self) -> bool:
        """Whether what is left would fit into the downtime limit."""
        page_bytes = 4096 if self.ledger.began is None else self.ledger.began.page_bytes
        return not self._left_pages or self._left_pages * page_bytes < self._threshold_bytes

    @property
    def _may_stop_flat(self) -> bool:
        """Whether it was told to, three rounds were no smaller than one before them, and the next is neither."""
        sizes = [*self._sizes, self._left_pages]
        told = self.ledger.began is not None and self.ledger.began.stop_when_flat
        return (
            told
            and len(sizes) > _FLAT
            and all(20 * sizes[at] > 19 * min(sizes[:at]) for at in range(len(sizes) - _FLAT, len(sizes)))
        )

    def _on_estimate(self, event: ev.BandwidthEstimated) -> None:
        self._threshold_bytes = event.threshold_bytes

    def _on_saved(self, event: ev.PagesSaved) -> None:
        self._left_pages -= event.count

    def _on_round_ended(self, event: ev.RoundEnded) -> None:
        if self._at not in ("round", "last") or event.index != self._round:
            self.broken(event, f"round {event.index} ended, and round {self._round} is on")
        elif self._at == "round" and not self._fits:
            self.broken(event, f"round {event.index} ended with {self._left_pages} pages left, which do not fit")
        elif self._at == "last" and self._left_pages:
            self.broken(event, f"the last round ended with {self._left_pages} pages left")
        if self._at == "round":
            self._at = "ended"

    def _on_synced(self, event: ev.BitmapSynced) -> None:
        if self._at not in ("begin", "ended", "stopped"):
            self.broken(event, "the bitmap was synced where no round had ended")
        elif self._at != "begin" and event.dirty_pages != self._left_pages + event.new_pages:
            self.broken(
                event, f"{self._left_pages} pages were left and {event.new_pages} came, not {event.dirty_pages}"
            )
        self._left_pages = event.dirty_pages
        self._at = "synced" if self._at != "stopped" else "last"

    def _on_round_began(self, event: ev.RoundBegan) -> None:
        last, first = self._at == "last", not self._round
        if not last and not first and self._at == "synced" and self._fits:
            self.broken(
                event, f"round {event.index} began with {event.dirty_pages} dirty pages, which fit already"
            )
        elif self._at not in ("synced", "last") or event.index != self._round + 1:
            self.broken(event, f"round {event.index} began after round {self._round}")
        elif event.dirty_pages != self._left_pages:
            self.broken(event, f"a round began with {event.dirty_pages} pages, {self._left_pages} were dirty")
        elif not last and event.index > self._most:
            self.broken(event, f"round {event.index} began, and {self._most} were allowed")
        self._sizes.append(event.dirty_pages)
        self._round = event.index
        self._at = "last" if last else "round"

    def _on_stopped(self, event: ev.VmStopped) -> None:
        if event.side != "source":
            return
        if self._at != "synced":
            self.broken(event, "the guest was stopped without a sync of the bitmap to decide by")
        self._at = "stopped"

    def _on_ended(self, event: ev.MigrationEnded) -> None:
        if event.side != "source" or event.status != "not-converging":
            return
        if not (self._may_stop_flat or self._round == self._most) or self._at != "synced" or self._fits:
            self.broken(event, f"gave up after round {self._round} of {self._most}")
