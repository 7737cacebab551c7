"""What is checked, as data: a small migration, a fault plan and a schedule."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from simmig.guest import workload
from simmig.guest.api import PAGE_BYTES
from simmig.guest.machine import Machine
from simmig.migration.config import Change, MigrationConfig, RateLimitOf, Transport
from simmig.verbs import ProfileName
from simmig.verify.choices import Choice
from simmig.verify.faults import Fault


class Small(msgspec.Struct, frozen=True, omit_defaults=True):
    """A migration small enough to be run by the thousand. Memory in pages, times in ns, rates in bytes per second.

    The pages given back are those from `ballooned_from` on, which must lie in the first block, or (None) the last.
    """

    pages: tuple[int, ...] = (512,)
    zero_fraction: float = 0.0
    workload: Literal["idle", "uniform", "sweep"] = "idle"
    working_set_pages: int = 64
    rate_bytes_s: int = 50 << 20
    ballooned_pages: int = 0
    ballooned_from: int | None = None
    device_state_bytes: int = 1024
    reversed_blocks: bool = False
    bandwidth_bit_s: int = 10_000_000_000
    latency_ns: int = 2_000
    mtu: int = 4096
    busy_host: bool = False
    profile: ProfileName = "ideal"
    streams: bool = False
    transport: Transport = "rdma"
    pin_all: bool = False
    destination_pin_all: bool | None = None
    slice_ns: int | Literal["round"] | None = 50_000_000
    registration_batch: int = 1
    control_wait: Literal["completion", "deferred"] = "completion"
    control_qp: Literal["shared", "own"] = "shared"
    max_rounds: int = 4
    max_bandwidth_bytes_s: int | None = None
    downtime_limit_ns: int = 3_000_000
    send_queue_depth: int = 512
    rate_limit: RateLimitOf = "qemu-7.2"
    changes: tuple[Change, ...] = ()
    stop_when_flat: bool = False
    policy: str = "per-iteration"
    policy_parameters: dict[str, Any] = {}

    @property
    def set_pages(self) -> int:
        """Pages of the working set, as many as the guest has."""
        return max(1, min(self.working_set_pages, sum(self.pages)))

    def machine(self) -> Machine:
        """The guest. Raises ValueError when there can be no such guest."""
        blocks = tuple((f"block{index}", pages * PAGE_BYTES) for index, pages in enumerate(self.pages))
        set_bytes = self.set_pages * PAGE_BYTES
        work: workload.Workload = workload.Idle()
        if self.workload == "uniform":
            work = workload.Uniform(set_bytes, self.rate_bytes_s, 1)
        elif self.workload == "sweep":
            work = workload.Sweep(set_bytes, self.rate_bytes_s)
        return Machine(blocks, self.zero_fraction, work, device_state_bytes=self.device_state_bytes)

    def config(self, destination: bool = False) -> MigrationConfig:
        """The migration as one side is asked for it."""
        refused = destination and self.destination_pin_all is not None
        return MigrationConfig(
            self.transport,
            bool(self.destination_pin_all) if refused else self.pin_all,
            self.max_bandwidth_bytes_s,
            self.downtime_limit_ns,
            self.max_rounds,
            self.slice_ns,
            self.registration_batch,
            self.control_wait,
            self.control_qp,
            self.send_queue_depth,
            self.rate_limit,
            self.changes,
            self.stop_when_flat,
        )


class Case(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run to the last detail. `schedule` lists every choice that was not the usual one."""

    migration: Small = Small()
    faults: tuple[Fault, ...] = ()
    schedule: tuple[Choice, ...] = ()


def to_json(case: Case) -> bytes:
    """The same bytes for the same case, anywhere."""
    return msgspec.json.encode(case)


def from_json(data: bytes) -> Case:
    """Raises msgspec.DecodeError (its ValidationError for what is no case), with the key in its text."""
    return msgspec.json.decode(data, type=Case, strict=True)
