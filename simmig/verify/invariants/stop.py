"""When the guest may be stopped: by the estimate that the trace shows, and by what was left at the last sync."""

from __future__ import annotations

from collections.abc import Mapping

from simmig.trace import events as ev
from simmig.verify.invariants.base import Check, Invariant, Key
from simmig.verify.invariants.ledger import Ledger

_SECOND_NS = 1_000_000_000


class StopFitsEstimate(Invariant):
    """The threshold follows from the estimate, and what is left dirty when the guest stops lies below it."""

    name = "stop_fits_estimate"
    rule = "protocol 5"
    words = (
        "The threshold is the last estimate x the downtime limit of then, and the guest is stopped only when less "
        "than that was left at the last sync, or nothing."
    )

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._threshold_bytes = 0
        self._limit_ns = 0
        self._dirty_pages = 0

    def checks(self) -> Mapping[Key, Check]:
        """Estimates, syncs and the stop."""
        return {
            ev.MigrationBegan: self._on_limit,
            ev.DowntimeLimitChanged: self._on_limit,
            ev.BandwidthEstimated: self._on_estimate,
            ev.BitmapSynced: self._on_synced,
            ev.VmStopped: self._on_stopped,
        }

    def applies(self) -> bool:
        """QEMU stops by another rule when it has walked all memory before its first estimate."""
        return self.ledger.began is not None and self.ledger.began.max_rounds > 0

    def _on_limit(self, event: ev.MigrationBegan | ev.DowntimeLimitChanged) -> None:
        self._limit_ns = event.downtime_limit_ns

    def _on_estimate(self, event: ev.BandwidthEstimated) -> None:
        fits = event.bandwidth_bytes_s * self._limit_ns // _SECOND_NS
        if event.threshold_bytes != fits:
            self.broken(event, f"a threshold of {event.threshold_bytes} bytes, where the estimate gives {fits}")
        self._threshold_bytes = event.threshold_bytes

    def _on_synced(self, event: ev.BitmapSynced) -> None:
        self._dirty_pages = event.dirty_pages

    def _on_stopped(self, event: ev.VmStopped) -> None:
        began = self.ledger.began
        left = self._dirty_pages * (4096 if began is None else began.page_bytes)
        if event.side == "source" and left and left >= self._threshold_bytes:
            self.broken(
                event, f"the guest was stopped with {left} bytes dirty, and {self._threshold_bytes} fit the limit"
            )
