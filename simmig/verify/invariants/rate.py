"""The rate limit: what may go while the guest runs."""

from __future__ import annotations

from collections.abc import Mapping

from simmig.trace import events as ev
from simmig.verify.invariants.base import Check, Invariant, Key
from simmig.verify.invariants.ledger import Ledger

WINDOW_NS = 100_000_000
_CHUNK_BYTES = 1 << 20


class RateLimitKept(Invariant):
    """Windows follow each other from the setup's end on, each of 100 ms at least, with its allowance and no more.

    Where they lie a trace does not tell, but any stretch of time meets at most two more of them than fit into it,
    and one that begins with the first window, or with one that has another limit, at most one more. Who is not
    allowed to send has to wait, too: a slice opened and closed for nothing costs the wire its messages.
    """

    name = "rate_limit_kept"
    rule = "protocol 5"
    words = (
        "While the guest runs, no more is sent than `max_bandwidth` allows in windows of 100 ms, "
        "and no slice goes without a page."
    )

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._allowance_bytes = 0
        self._page_bytes = 0
        self._zero_pages_count = True
        self._live = self._is_limited = False
        self._began_ns = self._last_ns = 0
        self._bytes = 0
        self._bucket = 0  # bytes x the window's length, leaking an allowance a window
        self._slice_is_empty = False

    def checks(self) -> Mapping[Key, Check]:
        """Pages, the live phase, its slices."""
        return {
            ev.MigrationBegan: self._on_began,
            ev.SetupEnded: self._on_live,
            ev.BandwidthLimitChanged: self._on_changed,
            ev.PagesSaved: self._on_saved,
            ev.SliceBegan: self._on_slice,
            ev.SliceEnded: self._on_slice_ended,
            ev.VmStopped: self._on_stopped,
        }

    def applies(self) -> bool:
        """Where there is a limit to keep."""
        return self._is_limited

    def _on_began(self, event: ev.MigrationBegan) -> None:
        self._page_bytes = event.page_bytes
        self._zero_pages_count = event.rate_limit != "qemu-10.0"
        self._allow(event.max_bandwidth_bytes_s)

    def _on_changed(self, event: ev.BandwidthLimitChanged) -> None:
        self._allow(event.max_bandwidth_bytes_s)
        self._bytes = self._bucket = 0
        self._began_ns = self._last_ns = event.t_ns

    def _allow(self, max_bandwidth_bytes_s: int | None) -> None:
        if max_bandwidth_bytes_s is None:
            self._allowance_bytes = 0
            return
        self._is_limited = True
        page = self._page_bytes
        limit = max_bandwidth_bytes_s * WINDOW_NS // 1_000_000_000
        if self._zero_pages_count:  # each page looks before it goes
            self._allowance_bytes = (limit // page + 1) * page
        else:  # a chunk is posted at once, and the page after it is on its way already
            self._allowance_bytes = limit + _CHUNK_BYTES + page

    def _on_live(self, event: ev.SetupEnded) -> None:
        if event.side == "source":
            self._live = True
            self._began_ns = self._last_ns = event.t_ns

    def _on_stopped(self, event: ev.VmStopped) -> None:
        self._live = False

    def _on_saved(self, event: ev.PagesSaved) -> None:
        self._slice_is_empty = False
        if not self._live or not self._allowance_bytes or (event.how == "zero" and not self._zero_pages_count):
            return
        length = event.count * self._page_bytes
        allowance = self._allowance_bytes
        self._bytes += length
        self._bucket = max(0, self._bucket - allowance * (event.t_ns - self._last_ns)) + length * WINDOW_NS
        self._last_ns = event.t_ns
        windows = (event.t_ns - self._began_ns) // WINDOW_NS + 1
        if self._bytes > windows * allowance:
            self.broken(event, f"{self._bytes} bytes were sent in {windows} window(s) of {allowance}")
        elif self._bucket > 2 * allowance * WINDOW_NS:
            over = -(-self._bucket // WINDOW_NS) - 2 * allowance
            self.broken(event, f"{over} bytes more are sent than the windows of {allowance} allow of late")

    def _on_slice(self, event: ev.SliceBegan) -> None:
        self._slice_is_empty = True

    def _on_slice_ended(self, event: ev.SliceEnded) -> None:
        if self._live and self._is_limited and self._slice_is_empty:
            self.broken(event, f"slice {event.index} was opened with nothing allowed to be sent in it")
