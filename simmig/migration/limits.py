"""The downtime limit and the bandwidth that hold now: libvirt and KubeVirt change them while a migration runs."""

from __future__ import annotations

from simmig.migration.config import Change, MigrationConfig


class Limits:
    """What was asked for at first, and what the changes made of it since."""

    def __init__(self, config: MigrationConfig, began_ns: int) -> None:
        self.downtime_limit_ns = config.downtime_limit_ns
        self.max_bandwidth_bytes_s = config.max_bandwidth_bytes_s or None
        self._changes = config.changes
        self._began_ns = began_ns

    def downtime_limit_changed(self, now_ns: int, round_index: int) -> bool:
        """Take the downtime limit that holds from now on; whether it is another one."""
        before = self.downtime_limit_ns
        for change in self._due(now_ns, round_index):
            if change.downtime_limit_ns is not None:
                self.downtime_limit_ns = change.downtime_limit_ns
        return self.downtime_limit_ns != before

    def bandwidth_changed(self, now_ns: int, round_index: int) -> bool:
        """Take the rate limit that holds from now on; whether it is another one."""
        before = self.max_bandwidth_bytes_s
        for change in self._due(now_ns, round_index):
            if change.max_bandwidth_bytes_s is not None:
                self.max_bandwidth_bytes_s = change.max_bandwidth_bytes_s or None
        return self.max_bandwidth_bytes_s != before

    def _due(self, now_ns: int, round_index: int) -> list[Change]:
        elapsed_ns = now_ns - self._began_ns
        return [change for change in self._changes if change.is_due(elapsed_ns, round_index)]
