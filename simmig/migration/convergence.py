"""When may the guest be stopped: QEMU's bandwidth estimate, over windows of 100 ms; and when will it never be."""

from __future__ import annotations

from simmig.guest.api import PAGE_BYTES
from simmig.migration.config import WINDOW_NS, MigrationConfig
from simmig.migration.per_second import amount_in, rate_of


class Convergence:
    """Bytes posted per window give a bandwidth, times the downtime limit a threshold.

    Bytes count when they are posted: without a drain the estimate is too high, and so is the threshold. That is
    QEMU's, and part of what the drain policies are about.
    """

    __slots__ = ("_began_ns", "_position", "bandwidth_bytes_s", "limit_ns", "threshold_bytes")

    def __init__(self, config: MigrationConfig, now_ns: int, position: int) -> None:
        self.limit_ns = config.downtime_limit_ns
        self._began_ns = now_ns
        self._position = position
        self.bandwidth_bytes_s = 0
        self.threshold_bytes = 0

    def due(self, now_ns: int) -> bool:
        """Whether the window is over."""
        return now_ns >= self._began_ns + WINDOW_NS

    def close_window(self, now_ns: int, position: int) -> None:
        """A new estimate, from the stream's position now and when the window began."""
        elapsed_ns = max(1, now_ns - self._began_ns)
        self.bandwidth_bytes_s = rate_of(position - self._position, elapsed_ns)
        self.threshold_bytes = amount_in(self.limit_ns, self.bandwidth_bytes_s)
        self._began_ns = now_ns
        self._position = position


FLAT_ROUNDS = 3
"""So many rounds in a row that are no smaller are no accident of where a round happened to end."""


class Shrinking:
    """Of rounds, whether they still shrink: shown each one's dirty pages as it begins.

    A round that has at most 95 % of what the smallest before it had (-1: none was) is smaller.
    """

    __slots__ = ("_least_pages", "flat_rounds")

    def __init__(self) -> None:
        self._least_pages = -1
        self.flat_rounds = 0

    def round_began(self, pages: int) -> None:
        """Take the next round."""
        self.flat_rounds = self._no_smaller(pages)
        self._least_pages = min(pages, self._least_pages) if self._least_pages >= 0 else pages

    def is_hopeless(self, pages: int) -> bool:
        """Whether FLAT_ROUNDS rounds in a row did not shrink, and the next, of so many pages, would not either."""
        return self._no_smaller(pages) > FLAT_ROUNDS

    def _no_smaller(self, pages: int) -> int:
        """How many rounds in a row did not shrink, with one more of so many pages."""
        return self.flat_rounds + 1 if self._least_pages >= 0 and 20 * pages > 19 * self._least_pages else 0


def divergence(rounds: int, dirty_pages: int, threshold_bytes: int, flat_rounds: int = 0) -> str:
    """Why a migration that does not converge gives up, in words; `flat_rounds`: because so many did not shrink."""
    left = dirty_pages * PAGE_BYTES
    flat = f"rounds did not shrink from round {rounds - flat_rounds + 1} on: " if flat_rounds else ""
    return (
        f"{flat}after {rounds} rounds {left / 2**20:.0f} MiB are dirty, more than the "
        f"{threshold_bytes / 2**20:.0f} MiB that fit into the downtime limit"
    )
