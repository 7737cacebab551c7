"""The downtime limit and the bandwidth that hold now: libvirt and KubeVirt change them while a migration runs."""

from __future__ import annotations

from simmig.migration.config import Change, MigrationConfig
from simmig.trace.events import BandwidthLimitChanged, DowntimeLimitChanged, Emit


class Limits:
    """What was asked for at first (nanoseconds, bytes a second), and what the changes made of it since."""

    def __init__(self, config: MigrationConfig, began_ns: int, emit: Emit | None) -> None:
        self.downtime_limit_ns = config.downtime_limit_ns
        self.max_bandwidth_bytes_s = config.max_bandwidth_bytes_s or None
        self._changes = config.changes
        self._began_ns = began_ns
        self._emit = emit

    def take_downtime_limit(self, now_ns: int, round_index: int) -> int:
        """The downtime limit that holds from now on; a change is told."""
        before = self.downtime_limit_ns
        for change in self._due(now_ns, round_index):
            if change.downtime_limit_ns is not None:
                self.downtime_limit_ns = change.downtime_limit_ns
        if self.downtime_limit_ns != before and self._emit is not None:
            self._emit(DowntimeLimitChanged(now_ns, "source", self.downtime_limit_ns))
        return self.downtime_limit_ns

    def take_max_bandwidth(self, now_ns: int, round_index: int) -> int | None:
        """The rate limit that holds from now on, None for none; a change is told."""
        before = self.max_bandwidth_bytes_s
        for change in self._due(now_ns, round_index):
            if change.max_bandwidth_bytes_s is not None:
                self.max_bandwidth_bytes_s = change.max_bandwidth_bytes_s or None
        if self.max_bandwidth_bytes_s != before and self._emit is not None:
            self._emit(BandwidthLimitChanged(now_ns, "source", self.max_bandwidth_bytes_s))
        return self.max_bandwidth_bytes_s

    def are_final(self, now_ns: int, round_index: int) -> bool:
        """Whether no change is still to come."""
        return len(self._due(now_ns, round_index)) == len(self._changes)

    def _due(self, now_ns: int, round_index: int) -> list[Change]:
        elapsed_ns = now_ns - self._began_ns
        return [change for change in self._changes if change.is_due(elapsed_ns, round_index)]
