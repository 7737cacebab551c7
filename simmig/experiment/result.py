"""What a run came to: the figures of the JSON contract, and the tables behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from simmig.migration.convergence import FLAT_ROUNDS, Shrinking
from simmig.trace.metrics import Metrics, Stretch

Engine = Literal["events", "compiled"]


def flat_since(rounds: Sequence[tuple[int, int]]) -> int | None:
    """Of rounds, (number, dirty pages) each, the first of those at its end that did not shrink; None: few."""
    shrinking = Shrinking()
    for _, pages in rounds:
        shrinking.round_began(pages)
    flat = shrinking.flat_rounds
    return rounds[-flat][0] if flat >= FLAT_ROUNDS else None


@dataclass(frozen=True, kw_only=True)
class Result:
    """One migration's outcome.

    Attributes:
        status: completed, failed, cancelled or not-converging.
        reason: why, when it is not completed.
        backend: "sim", "rdma", or "qemu" for a recording.
        policy: its name.
        policy_parameters: what it was given, times in ns and sizes in bytes.
        seed: the scenario's.
        invariants: those that were checked, and whether each held.
        source_running: whether the guest runs on the source in the end.
        destination_running: whether it runs on the destination.
        trace_sha256: digest of the trace; None of a run that nobody asked for a trace.
        metrics: everything else, from the trace.
        engine: what simulated it: "events", or "compiled", which checks invariants and compares memory
            where a trace was asked for; None where nothing was simulated.
    """

    status: str
    reason: str
    backend: str
    policy: str
    policy_parameters: dict[str, Any]
    seed: int
    invariants: dict[str, bool]
    source_running: bool
    destination_running: bool
    trace_sha256: str | None
    metrics: Metrics
    engine: Engine | None = None

    @property
    def good(self) -> bool:
        """Completed, and nothing that must hold was broken."""
        return self.status == "completed" and all(self.invariants.values())

    @property
    def guest(self) -> str:
        """What the guest was, where it was not the scenario's."""
        return ""

    @property
    def remark(self) -> str:
        """What is to be said of the other end, by a result that is only one end's."""
        return ""

    @property
    def memory_identical(self) -> bool | None:
        """Whether the destination's memory was found to be the source's; None where nobody looked."""
        compared = self.metrics.compared
        if compared is None:
            return None if self.status == "completed" else False
        return compared.different_pages == 0

    @property
    def flat_since_round(self) -> int | None:
        """From which round on the live rounds did not shrink any more; None where they did to the end."""
        stopped_ns = self.metrics.stopped_ns
        live = [row for row in self.metrics.rounds if stopped_ns is None or row.began_ns < stopped_ns]
        return flat_since([(row.index, row.dirty_pages) for row in live])

    @property
    def went_on_flat(self) -> bool:
        """Whether it did not converge and had flat rounds, so that `stop_when_flat` would have ended it sooner."""
        began = self.metrics.began
        return self.status == "not-converging" and began is not None and not began.stop_when_flat

    def _downtime(self, part_ns: int) -> int | None:
        """A downtime is from the stop until the guest runs on at the other end: None where it never did."""
        return part_ns if self.status == "completed" else None

    def figures(self) -> dict[str, Any]:
        """The object that ``--json`` prints: times in ns, sizes in bytes; null is what does not apply."""
        metrics, counts = self.metrics, self.metrics.counts
        parts = metrics.downtime
        return {
            "status": self.status,
            "reason": self.reason,
            "backend": self.backend,
            "engine": self.engine,
            "policy": self.policy,
            "policy_parameters": self.policy_parameters,
            "total_time_ns": metrics.total_time_ns,
            "downtime_ns": self._downtime(metrics.downtime_ns),
            "downtime_parts": {
                "residual_pages_ns": self._downtime(parts.residual_pages_ns),
                "drain_ns": self._downtime(parts.drain_ns),
                "device_state_ns": self._downtime(parts.device_state_ns),
                "switch_ns": self._downtime(parts.switch_ns),
            },
            "flat_since_round": self.flat_since_round,
            "setup_time_ns": metrics.setup_time_ns,
            "rounds": len(metrics.rounds),
            "slices": len(metrics.slices),
            "drains": counts.drains,
            "drain_time_ns": counts.drain_ns,
            "forced_drain_time_ns": counts.forced_drain_ns,
            "protocol_drain_time_ns": counts.protocol_drain_ns,
            "bytes_posted": counts.posted_bytes,
            "bytes_on_wire": metrics.bytes_on_wire,
            "zero_pages": counts.zero_pages,
            "pages_written": counts.data_pages,
            "throughput_bit_s": metrics.throughput_bit_s,
            "max_pending_bytes": metrics.max_pending_bytes,
            "pending_bytes_at_stop": metrics.pending_bytes_at_stop,
            "memory_identical": self.memory_identical,
            "invariants": self.invariants,
            "source_running": self.source_running,
            "destination_running": self.destination_running,
            "seed": self.seed,
            "trace_sha256": self.trace_sha256,
        }

    def tables(self) -> dict[str, list[dict[str, int]]]:
        """A row a round and a row a slice, times since the migration began."""
        began_ns = self.metrics.began_ns
        return {
            "round_table": [_row(row, began_ns) for row in self.metrics.rounds],
            "slice_table": [_row(row, began_ns) for row in self.metrics.slices],
        }


@dataclass(frozen=True, kw_only=True)
class DeviceResult(Result):
    """One that was carried out on devices.

    Attributes:
        devices: names of this host's devices that took part, the source's first.
        guest_late_ns: how much longer the source's guest needed for its writes than its workload allows.
    """

    devices: tuple[str, ...]
    guest_late_ns: int

    def figures(self) -> dict[str, Any]:
        """As every run's, and `devices` and `guest_late_ns`."""
        return super().figures() | {"devices": list(self.devices), "guest_late_ns": self.guest_late_ns}


def _row(row: Stretch, began_ns: int) -> dict[str, int]:
    return {
        "index": row.index,
        "round": row.round,
        "began_ns": row.began_ns - began_ns,
        "duration_ns": row.duration_ns,
        "dirty_pages": row.dirty_pages,
        "pages_written": row.counts.data_pages,
        "zero_pages": row.counts.zero_pages,
        "guest_writes": row.counts.guest_writes,
        "bytes_posted": row.counts.posted_bytes,
        "pending_bytes_at_end": row.pending_bytes,
        "drains": row.counts.drains,
        "drain_time_ns": row.counts.drain_ns,
        "forced_drain_time_ns": row.counts.forced_drain_ns,
        "protocol_drain_time_ns": row.counts.protocol_drain_ns,
    }
