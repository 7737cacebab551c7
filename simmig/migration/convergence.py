"""When may the guest be stopped: QEMU's bandwidth estimate, over windows of 100 ms."""

from __future__ import annotations

from simmig.guest.api import PAGE_BYTES
from simmig.migration.config import WINDOW_NS, MigrationConfig

_SECOND_NS = 1_000_000_000


class Convergence:
    """Bytes posted per window give a bandwidth, times the downtime limit a threshold.

    Bytes count when they are posted: without a drain the estimate is too high, and so is the threshold. That is
    QEMU's, and part of what the drain policies are about.
    """

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
        self.bandwidth_bytes_s = (position - self._position) * _SECOND_NS // elapsed_ns
        self.threshold_bytes = self.bandwidth_bytes_s * self.limit_ns // _SECOND_NS
        self._began_ns = now_ns
        self._position = position


def divergence(rounds: int, dirty_pages: int, threshold_bytes: int) -> str:
    """Why a migration that does not converge gives up, in words."""
    left = dirty_pages * PAGE_BYTES
    return (
        f"after {rounds} rounds {left / 2**20:.0f} MiB are dirty, more than the "
        f"{threshold_bytes / 2**20:.0f} MiB that fit into the downtime limit"
    )
