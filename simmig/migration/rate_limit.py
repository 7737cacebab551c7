"""The rate limit: how much may go in a window of 100 ms.

QEMU 7.2 counts 4096 bytes for every page it walks over, zero or not, and looks before each: a window takes its
share of `max_bandwidth` and at most one page more. QEMU 10.0 counts bytes when they are posted or put into the
stream: the chunk that is being filled slips through, and zero pages are free. Once the guest
stands, nothing is limited in either.
"""

from __future__ import annotations

from collections.abc import Callable

from simmig.guest.api import PAGE_BYTES
from simmig.migration.config import WINDOW_NS, MigrationConfig

UNLIMITED_PAGES = 1 << 40
"""More than any walk: nothing holds it back."""

WINDOWS_A_SECOND = 1_000_000_000 // WINDOW_NS


def window_limit_bytes(max_bandwidth_bytes_s: int) -> int:
    """A window's share of the limit."""
    return max_bandwidth_bytes_s // WINDOWS_A_SECOND


def pages_left(limit_bytes: int, used_bytes: int) -> int:
    """How many pages pass in a row when each may go that finds no more than the limit used."""
    return (limit_bytes - used_bytes) // PAGE_BYTES + 1 if used_bytes <= limit_bytes else 0


class RateLimit:
    """Keeps count of the current window. `tell` gives the stream's position, posted pages included."""

    def __init__(self, config: MigrationConfig, tell: Callable[[], int], now_ns: int) -> None:
        self._has_windows = config.is_ever_limited
        self.allow(config.max_bandwidth_bytes_s)
        self._counts_posts = config.rate_limit == "qemu-10.0"
        self._tell = tell
        self._begin(now_ns)

    def allow(self, max_bandwidth_bytes_s: int | None) -> None:
        """Another limit, from a window's begin on; None or 0 for none."""
        self._limited = bool(max_bandwidth_bytes_s)
        self._limit_bytes = window_limit_bytes(max_bandwidth_bytes_s or 0)

    def pages_left(self, walked_pages: int = 0) -> int:
        """How many pages may follow in this window, after so many that `walked` has not been told of yet."""
        if not self._limited:
            return UNLIMITED_PAGES
        if self._counts_posts:
            return UNLIMITED_PAGES if self._tell() - self._position <= self._limit_bytes else 0
        return pages_left(self._limit_bytes, self._used_bytes + walked_pages * PAGE_BYTES)

    def walked(self, pages: int) -> None:
        """So many pages were walked over."""
        self._used_bytes += pages * PAGE_BYTES

    def wait_ns(self, now_ns: int) -> int:
        """How long to wait before anything may follow: until the window is over, if it is used up."""
        return 0 if self.pages_left() else max(0, self._began_ns + WINDOW_NS - now_ns)

    def renew(self, now_ns: int) -> bool:
        """A new window, if this one is over: whether. Nothing may be held back then that was counted in it."""
        if now_ns < self._began_ns + WINDOW_NS:
            return False
        self._begin(now_ns)
        return True

    def is_over(self, now_ns: int) -> bool:
        """Whether there is a limit, now or at another time, and the window is over."""
        return self._has_windows and now_ns >= self._began_ns + WINDOW_NS

    def _begin(self, now_ns: int) -> None:
        self._began_ns = now_ns
        self._position = self._tell()
        self._used_bytes = 0
