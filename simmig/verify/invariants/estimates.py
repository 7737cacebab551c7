"""Bandwidth is estimated once a window of 100 ms, and when it is due."""

from __future__ import annotations

from collections.abc import Mapping

from simmig.trace import events as ev
from simmig.verify.invariants.base import Check, Invariant, Key
from simmig.verify.invariants.ledger import Ledger

_WINDOW_NS = 100_000_000
_LEAST_NS = _WINDOW_NS * 9 // 10
"""A real clock moves between the reading that ends a window and the one in the trace."""


class EstimatesInTime(Invariant):
    """No estimate before its window is over, but for one in place of none; none left out when it is."""

    name = "estimates_in_time"
    rule = "protocol 5"
    words = (
        "An estimate comes once a window of 100 ms is over, and before the next slice or the round's end; "
        "earlier only in place of none."
    )

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._began_ns = 0
        self._threshold_bytes = 0
        self._overdue = False
        self._live = False

    def checks(self) -> Mapping[Key, Check]:
        """Estimates, what makes one due, and what must not come before it."""
        return {
            ev.SetupEnded: self._on_setup,
            ev.BandwidthEstimated: self._on_estimate,
            ev.PagesSaved: self._on_saved,
            ev.SliceBegan: self._on_passed,
            ev.RoundEnded: self._on_passed,
            ev.VmStopped: self._on_stopped,
        }

    def applies(self) -> bool:
        """A log of QEMU's tells when an estimate was logged, not when it was made."""
        return self.ledger.began is not None and self.ledger.began.max_rounds > 0

    def _on_setup(self, event: ev.SetupEnded) -> None:
        self._live = True
        self._began_ns = event.t_ns

    def _on_estimate(self, event: ev.BandwidthEstimated) -> None:
        took_ns = event.t_ns - self._began_ns
        if took_ns < _LEAST_NS and self._threshold_bytes:
            self.broken(event, f"an estimate over {took_ns / 1e6:.3f} ms, and there was one to go by")
        self._began_ns = event.t_ns
        self._threshold_bytes = event.threshold_bytes
        self._overdue = False

    def _on_saved(self, event: ev.PagesSaved) -> None:
        self._overdue |= self._live and event.t_ns >= self._began_ns + _WINDOW_NS

    def _on_passed(self, event: ev.SliceBegan | ev.RoundEnded) -> None:
        if self._overdue:
            over_ms = (event.t_ns - self._began_ns) / 1e6
            self.broken(event, f"no estimate, {over_ms:.3f} ms after the last window began")

    def _on_stopped(self, _: ev.VmStopped) -> None:
        self._live = self._overdue = False
