"""Pre-copy reckoned in whole: what samples tell is too coarse for pages, and a guest of any size answers at once.

Bytes flow at the link's bandwidth or the rate limit's, whichever is less. Every 100 ms a window ends and makes
QEMU's estimate; its threshold is that bandwidth times the downtime limit. When what is left is below it at the end
of a slice, a bitmap sync adds what the guest has dirtied since the one before: of W pages written at random
W (1 - exp(-r t / W)), of which the share that is still to be sent anyway is not new. The working set comes first
in memory, as a scenario's does, and memory is walked in order. What is below the threshold after a sync goes while
the guest stands, at the link's bandwidth. There are no chunks, no drains and no messages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from simmig.experiment.result import Result
from simmig.experiment.scenario.schema import HotspotTable, IdleTable, Scenario, SweepTable, UniformTable
from simmig.migration.config import WINDOW_NS
from simmig.migration.convergence import Shrinking, divergence
from simmig.migration.limits import Limits

_SECOND_NS = 1_000_000_000
_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Reckoned:
    """How the migration ends; `engine` says who answered."""

    status: str
    reason: str
    total_time_ns: int
    downtime_ns: int
    rounds: int
    posted_bytes: int
    engine: str = "reckoned"

    @property
    def good(self) -> bool:
        """Whether it completes."""
        return self.status == "completed"

    def figures(self) -> dict[str, Any]:
        """For JSON: times in ns, sizes in bytes."""
        return {
            "status": self.status,
            "reason": self.reason,
            "engine": self.engine,
            "total_time_ns": self.total_time_ns,
            "downtime_ns": self.downtime_ns,
            "rounds": self.rounds,
            "bytes_posted": self.posted_bytes,
        }

    @classmethod
    def of(cls, result: Result) -> Reckoned:
        """The same of a simulated run."""
        metrics = result.metrics
        return cls(
            result.status,
            result.reason,
            metrics.total_time_ns,
            metrics.downtime_ns,
            len(metrics.rounds),
            metrics.counts.posted_bytes,
            result.engine or result.backend,
        )


def can_reckon(scenario: Scenario) -> bool:
    """Whether nothing is asked for that only a simulation knows: RDMA's costs, a drain policy, a host's work."""
    costs = scenario.host.model_dump(exclude={"model", "connect_ns", "zero_test_page_ns"})
    known = isinstance(scenario.guest.workload, IdleTable | UniformTable | HotspotTable | SweepTable)
    free = not any(costs.values()) and scenario.destination_host is None and not scenario.link.loss
    return scenario.migration.transport == "tcp" and known and free


def reckon(scenario: Scenario) -> Reckoned:
    """Pre-copy of the scenario's guest."""
    return _Reckoning(scenario).run()


class _Reckoning:
    """Times in ns since the migration began, amounts in bytes."""

    def __init__(self, scenario: Scenario) -> None:
        guest = scenario.guest
        memory = guest.memory_bytes - guest.ballooned_pages * _PAGE_BYTES
        self._workload = guest.workload
        self._unit = guest.dirty_log_page_bytes // _PAGE_BYTES
        self._max_rounds = scenario.migration.max_rounds
        self._link_bytes_s = scenario.link.bandwidth_bit_s / 8
        slice_ns = scenario.migration.slice_ns
        self._slice_ns = slice_ns if isinstance(slice_ns, int) else math.inf
        self._now_ns = scenario.host.connect_ns
        self._limits = Limits(scenario.migration.config(), 0, None)
        self._limit_bytes_s = self._limits.max_bandwidth_bytes_s
        self._stop_bytes = guest.device_state_bytes
        self._memory = self._left = memory * (1 - guest.zero_fraction)
        self._zeros_ns = memory * guest.zero_fraction / _PAGE_BYTES * scenario.host.zero_test_page_ns
        self._sent = 0.0
        self._synced_ns = 0.0
        self._window_ends_ns = self._now_ns + WINDOW_NS
        self._window_sent = 0.0
        self._threshold = 0.0
        self._round = 1
        self._shrinking = Shrinking()
        self._stop_when_flat = scenario.migration.stop_when_flat
        self._began()

    def run(self) -> Reckoned:
        """Rounds, until what is left fits."""
        while True:
            while self._left > 0 and self._left >= self._threshold:
                self._slice()
            self._now_ns += self._zeros_ns  # they come last in memory, and are looked at once
            self._zeros_ns = 0.0
            if not self._threshold:
                self._close_window(max(1.0, self._now_ns - self._window_ends_ns + WINDOW_NS))
            self._sync()
            if self._left < self._threshold or not self._left:
                return self._end("completed", "")
            hopeless = self._stop_when_flat and self._shrinking.is_hopeless(self._left_pages)
            if hopeless or self._round == self._max_rounds:
                flat_rounds = self._shrinking.flat_rounds if hopeless else 0
                reason = divergence(self._round, self._left_pages, round(self._threshold), flat_rounds)
                return self._end("not-converging", reason)
            self._round += 1
            self._began()

    @property
    def _left_pages(self) -> int:
        return round(self._left / _PAGE_BYTES)

    def _began(self) -> None:
        if self._limits.are_final(round(self._now_ns), self._round):
            self._shrinking.round_began(self._left_pages)

    def _slice(self) -> None:
        """Until its time is over, or nothing is left."""
        ends_ns = self._now_ns + self._slice_ns
        while self._left > 0 and self._now_ns < ends_ns:
            speed = min(self._link_bytes_s, self._limit_bytes_s or math.inf) / _SECOND_NS
            until_ns = min(ends_ns, self._window_ends_ns)
            if self._left <= speed * (until_ns - self._now_ns):
                self._now_ns += self._left / speed
                self._move(self._left)
            else:
                self._move(speed * (until_ns - self._now_ns))
                self._now_ns = until_ns
            if self._now_ns >= self._window_ends_ns:
                self._close_window(WINDOW_NS)

    def _move(self, length: float) -> None:
        self._left = max(0.0, self._left - length)
        self._sent += length
        self._window_sent += length

    def _close_window(self, length_ns: float) -> None:
        now_ns = round(self._now_ns)
        self._limit_bytes_s = self._limits.take_max_bandwidth(now_ns, self._round)
        limit_ns = self._limits.take_downtime_limit(now_ns, self._round)
        self._threshold = self._window_sent / length_ns * limit_ns
        self._window_ends_ns = self._now_ns + WINDOW_NS
        self._window_sent = 0.0

    def _sync(self) -> None:
        seconds = (self._now_ns - self._synced_ns) / _SECOND_NS
        self._synced_ns = self._now_ns
        working_set = float(getattr(self._workload, "working_set_bytes", 0))
        if not working_set:
            return
        waiting = self._left if self._round > 1 else max(0.0, self._left - self._memory + working_set)
        clean = max(0.0, 1 - waiting / working_set)
        if isinstance(self._workload, SweepTable):
            self._left += min(working_set * clean, self._workload.rate_bytes_s * seconds)
        else:
            self._left += clean * sum(
                size * -math.expm1(-rate * self._unit * seconds / size) for size, rate in _parts(self._workload)
            )

    def _end(self, status: str, reason: str) -> Reckoned:
        down_ns = 0.0
        if status == "completed":
            down_ns = (self._left + self._stop_bytes) / self._link_bytes_s * _SECOND_NS
            self._sent += self._left
        return Reckoned(
            status, reason, round(self._now_ns + down_ns), round(down_ns), self._round + 1, round(self._sent)
        )


def _parts(workload: Any) -> list[tuple[float, float]]:
    """Sets of pages written at random: size, and rate in bytes per second."""
    if isinstance(workload, HotspotTable):
        hot, rate = workload.hot_set_bytes, workload.rate_bytes_s
        cold = workload.working_set_bytes - hot
        return [(hot, rate * workload.hot_fraction), (cold, rate * (1 - workload.hot_fraction))]
    return [(workload.working_set_bytes, workload.rate_bytes_s)] if isinstance(workload, UniformTable) else []
