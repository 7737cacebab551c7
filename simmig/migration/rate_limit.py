"""The rate limit: how much may go in a window of 100 ms.

QEMU 7.2 counts 4096 bytes for every page it walks over, zero or not, and looks before each: a window takes its
share of `max_bandwidth` and at most one page more. QEMU 10.0 counts bytes when they are posted or put into the
stream: the chunk that is being filled slips through, and zero pages are free. Once the guest
stands, nothing is limited in either.
"""

from __future__ import annotations

from simmig.guest.api import PAGE_BYTES
from simmig.migration.config import WINDOW_NS, MigrationConfig

UNLIMITED_PAGES = 1 << 40
"""More than any walk: nothing holds it back."""

WINDOWS_A_SECOND = 1_000_000_000 // WINDOW_NS


class RateLimit:
    """Keeps count of the current window. Positions are the stream's, posted pages included."""

    __slots__ = ("began_ns", "counts_posts", "has_windows", "limit_bytes", "limited", "position", "used_bytes")

    def __init__(self, config: MigrationConfig, now_ns: int, position: int) -> None:
        self.has_windows = config.is_ever_limited
        self.counts_posts = config.rate_limit == "qemu-10.0"
        self.allow(config.max_bandwidth_bytes_s or 0)
        self.begin(now_ns, position)

    def allow(self, max_bandwidth_bytes_s: int) -> None:
        """Another limit, from a window's begin on; 0 for none."""
        self.limited = max_bandwidth_bytes_s > 0
        self.limit_bytes = max_bandwidth_bytes_s // WINDOWS_A_SECOND

    def begin(self, now_ns: int, position: int) -> None:
        """A new window."""
        self.began_ns = now_ns
        self.position = position
        self.used_bytes = 0

    def pages_left(self, position: int, walked_pages: int) -> int:
        """How many pages may follow in this window, after so many that `walked` has not been told of yet."""
        if not self.limited:
            return UNLIMITED_PAGES
        if self.counts_posts:
            return UNLIMITED_PAGES if position - self.position <= self.limit_bytes else 0
        left_bytes = self.limit_bytes - self.used_bytes - walked_pages * PAGE_BYTES
        return left_bytes // PAGE_BYTES + 1 if left_bytes >= 0 else 0  # each may go that finds no more used

    def walked(self, pages: int) -> None:
        """So many pages were walked over."""
        self.used_bytes += pages * PAGE_BYTES

    def wait_ns(self, now_ns: int, position: int) -> int:
        """How long to wait before anything may follow: until the window is over, if it is used up."""
        return 0 if self.pages_left(position, 0) else max(0, self.began_ns + WINDOW_NS - now_ns)

    def renew(self, now_ns: int, position: int) -> bool:
        """A new window, if this one is over: whether. Nothing may be held back then that was counted in it."""
        if now_ns < self.began_ns + WINDOW_NS:
            return False
        self.begin(now_ns, position)
        return True

    def is_over(self, now_ns: int) -> bool:
        """Whether there is a limit, now or at another time, and the window is over."""
        return self.has_windows and now_ns >= self.began_ns + WINDOW_NS
