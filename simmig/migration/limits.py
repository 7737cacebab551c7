"""The downtime limit and the bandwidth that hold now: libvirt and KubeVirt change them while a migration runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simmig.migration.config import Change, MigrationConfig
from simmig.trace.events import BandwidthLimitChanged, DowntimeLimitChanged, Emit

Ints = NDArray[np.int64]

AT_NS, FROM_ROUND, DOWNTIME_LIMIT_NS, MAX_BANDWIDTH_BYTES_S = range(4)
"""The columns of `table_of`."""


def table_of(changes: Sequence[Change]) -> Ints:
    """A row a change; what it leaves open is -1."""
    rows = [(c.at_ns, c.round, c.downtime_limit_ns, c.max_bandwidth_bytes_s) for c in changes]
    numbers = [[-1 if value is None else value for value in row] for row in rows]
    return np.array(numbers, dtype=np.int64).reshape(-1, 4)


def is_due(changes: Ints, row: int, elapsed_ns: int, round_index: int) -> bool:
    """Whether that change holds by then."""
    from_ns, from_round = changes[row, AT_NS], changes[row, FROM_ROUND]
    if from_ns >= 0:
        return bool(elapsed_ns >= from_ns)
    return bool(0 <= from_round <= round_index)


def are_final(changes: Ints, elapsed_ns: int, round_index: int) -> bool:
    """Whether no change is still to come."""
    due = 0
    for row in range(len(changes)):
        due += is_due(changes, row, elapsed_ns, round_index)
    return due == len(changes)


def holds_now(changes: Ints, column: int, before: int, elapsed_ns: int, round_index: int) -> int:
    """The limit in that column: what the last change that is due makes of it, or as before."""
    limit = before
    for row in range(len(changes)):
        if changes[row, column] >= 0 and is_due(changes, row, elapsed_ns, round_index):
            limit = changes[row, column]
    return limit


class Limits:
    """What was asked for at first (nanoseconds, bytes a second), and what the changes made of it since."""

    def __init__(self, config: MigrationConfig, began_ns: int, emit: Emit | None) -> None:
        self.downtime_limit_ns = config.downtime_limit_ns
        self.max_bandwidth_bytes_s = config.max_bandwidth_bytes_s or None
        self._changes = table_of(config.changes)
        self._began_ns = began_ns
        self._emit = emit

    def take_downtime_limit(self, now_ns: int, round_index: int) -> int:
        """The downtime limit that holds from now on; a change is told."""
        before = self.downtime_limit_ns
        self.downtime_limit_ns = self._now(DOWNTIME_LIMIT_NS, before, now_ns, round_index)
        if self.downtime_limit_ns != before and self._emit is not None:
            self._emit(DowntimeLimitChanged(now_ns, "source", self.downtime_limit_ns))
        return self.downtime_limit_ns

    def take_max_bandwidth(self, now_ns: int, round_index: int) -> int | None:
        """The rate limit that holds from now on, None for none; a change is told."""
        before = self.max_bandwidth_bytes_s
        limit = self._now(MAX_BANDWIDTH_BYTES_S, before or 0, now_ns, round_index)
        self.max_bandwidth_bytes_s = limit or None
        if self.max_bandwidth_bytes_s != before and self._emit is not None:
            self._emit(BandwidthLimitChanged(now_ns, "source", self.max_bandwidth_bytes_s))
        return self.max_bandwidth_bytes_s

    def are_final(self, now_ns: int, round_index: int) -> bool:
        """Whether no change is still to come."""
        return are_final(self._changes, now_ns - self._began_ns, round_index)

    def _now(self, column: int, before: int, now_ns: int, round_index: int) -> int:
        return int(holds_now(self._changes, column, before, now_ns - self._began_ns, round_index))
