"""The scenario as a user writes it: every table, key, default and bound.

Keys in the file carry no unit, their values do ("8 GiB"); the attributes here carry the unit in their name and are
integers. Unknown keys are errors. `simmig.experiment.scenario.load` reads files into these tables.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from simmig.experiment import units
from simmig.experiment.amounts import format_byte_rate, format_bytes, format_rate, format_time
from simmig.guest.api import PAGE_BYTES
from simmig.guest.machine import MIN_DEVICE_STATE_BYTES
from simmig.migration.config import Change, MigrationConfig, RateLimitOf, Transport
from simmig.verbs import ProfileName


def _whole_pages(length_bytes: int) -> int:
    if length_bytes % PAGE_BYTES:
        raise ValueError(f"{length_bytes} bytes are no whole number of pages ({format_bytes(PAGE_BYTES)} each)")
    return length_bytes


def _mtu(length_bytes: int) -> int:
    if length_bytes not in (256, 512, 1024, 2048, 4096):
        raise ValueError(f"{length_bytes} B is no RDMA MTU: 256 B, 512 B, 1024 B, 2048 B or 4096 B")
    return length_bytes


@dataclass(frozen=True)
class Between:
    """A check of bounds, both of them allowed; `simmig.experiment.reference` tells them."""

    low: int
    high: int
    tell: Callable[[int], str]

    def __call__(self, value: Any) -> Any:
        """The value; raises ValueError. Words in a quantity's place are not looked at."""
        if isinstance(value, int) and not self.low <= value <= self.high:
            raise ValueError(
                f"{self.tell(value)} is out of bounds: from {self.tell(self.low)} to {self.tell(self.high)}"
            )
        return value


def _between(low: int, high: int, tell: Callable[[int], str]) -> AfterValidator:
    return AfterValidator(Between(low, high, tell))


@dataclass(frozen=True)
class OrWord:
    """A quantity, or one of a few words in its place."""

    parse: Callable[[object], int | None]
    words: Mapping[str, Any]

    def __call__(self, value: object) -> Any:
        """What either stands for; raises ValueError."""
        if isinstance(value, str) and value in self.words:
            return self.words[value]
        try:
            return self.parse(value)
        except units.QuantityError as error:
            near = difflib.get_close_matches(str(value)[:255], self.words, n=1)
            also = (
                f'; did you mean "{near[0]}"?'
                if near
                else ", or " + " or ".join(f'"{word}"' for word in self.words)
            )
            raise ValueError(f"{error}{also}") from error


def _or_word(parse: Callable[[object], int | None], words: dict[str, Any]) -> BeforeValidator:
    return BeforeValidator(OrWord(parse, words))


def _rate_limit(value: object) -> int | None:
    """A rate in bytes per second; None for zero, which is QEMU's and libvirt's word for no limit."""
    if value == 0 and not isinstance(value, bool):
        return None
    return units.rate_limit_bytes_s(value)


def _size_or_fraction(value: object) -> int | float:
    """Whole pages, or a share of the guest's memory."""
    if isinstance(value, str) and value.rstrip().endswith("%"):
        value = units.share(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value <= 1:
            raise ValueError(f'{value} is neither a fraction from 0 to 1 nor a size like "512 MiB"')
        return float(value)
    return _whole_pages(units.size_bytes(value))


def _log_page(length_bytes: int) -> int:
    if length_bytes & (length_bytes - 1):
        raise ValueError(f"{format_bytes(length_bytes)} is no power of two: 4 KiB, 2 MiB, 16 MiB, 1 GiB")
    return length_bytes


Fraction = Annotated[float, BeforeValidator(units.share), Field(ge=0, le=1)]
Size = Annotated[int, BeforeValidator(units.size_bytes)]
Memory = Annotated[Size, AfterValidator(_whole_pages), _between(PAGE_BYTES, 8 << 40, format_bytes)]
LogPage = Annotated[Size, _between(PAGE_BYTES, 1 << 30, format_bytes), AfterValidator(_log_page)]
DirtyRate = Annotated[int, BeforeValidator(units.rate_bytes_s), _between(0, 10**13, format_byte_rate)]
MAX_TIME_NS = 10**13


def key_of(attribute: str) -> str:
    """The key of an attribute: its name without the unit."""
    return re.sub(r"_(bytes|ns|bytes_s|bit_s)$", "", attribute)


class Table(BaseModel):
    """One table of a scenario: no unknown keys, no conversions but those of units, no change afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=key_of)


class WorkloadTable(Table):
    """What the guest writes; a model of `models/workloads` may stand under the keys given."""

    model: str | None = None


class IdleTable(WorkloadTable):
    """The guest writes nothing."""

    kind: Literal["idle"] = "idle"


class UniformTable(WorkloadTable):
    """Writes fall anywhere in a working set, all its pages alike."""

    kind: Literal["uniform"]
    working_set_bytes: Memory
    rate_bytes_s: DirtyRate


class SweepTable(WorkloadTable):
    """Writes go through a working set from its first page to its last, again and again."""

    kind: Literal["sweep"]
    working_set_bytes: Memory
    rate_bytes_s: DirtyRate


class HotspotTable(WorkloadTable):
    """A share of the writes goes to a small hot set, the rest to the working set around it."""

    kind: Literal["hotspot"]
    working_set_bytes: Memory
    hot_set_bytes: Memory
    hot_fraction: Fraction
    rate_bytes_s: DirtyRate

    @model_validator(mode="after")
    def _hot_set_fits(self) -> Self:
        if self.hot_set_bytes >= self.working_set_bytes:
            raise ValueError("hot_set must be smaller than working_set")
        return self


class RecordedTable(WorkloadTable):
    """What a guest was once seen to write, read from a file (relative to the scenario's own place).

    `page` is what its rows count; all of a page that was seen written is taken to be.
    """

    kind: Literal["recorded"]
    file: str
    page_bytes: LogPage = PAGE_BYTES


class Measured(Table):
    """What one `query-dirty-rate` said."""

    calc_time_ns: Annotated[int, BeforeValidator(units.time_ns), _between(1_000_000, MAX_TIME_NS, format_time)]
    dirty_rate_bytes_s: DirtyRate | None = None
    vcpu_dirty_rate: Annotated[list[DirtyRate], Field(max_length=4096)] = []
    mode: Literal["page-sampling", "dirty-bitmap", "dirty-ring"] = "page-sampling"

    @model_validator(mode="after")
    def _says_how_much(self) -> Self:
        total = sum(self.vcpu_dirty_rate)
        if self.dirty_rate_bytes_s is None and not self.vcpu_dirty_rate:
            raise ValueError('needs dirty_rate = "80 MiB/s", or vcpu_dirty_rate = ["50 MiB/s", "30 MiB/s"]')
        if self.dirty_rate_bytes_s is not None and self.vcpu_dirty_rate:
            raise ValueError(
                f"vcpu_dirty_rate adds up to {format_byte_rate(total)}: leave dirty_rate out, it is their sum"
            )
        return self


class DirtyRates(WorkloadTable):
    """What `calc-dirty-rate` measured: written here, or the replies of `query-dirty-rate` in a file."""

    kind: Literal["dirty-rate"]
    file: str | None = None
    measured: Annotated[list[Measured], Field(max_length=1024)] = []
    working_set_bytes: Memory | None = None

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        if (self.file is None) == (not self.measured):
            raise ValueError(
                'needs file = "dirty-rate.json" with what query-dirty-rate replied, or tables '
                '[[guest.workload.measured]] with calc_time = "1 s" and dirty_rate = "80 MiB/s"; one of them'
            )
        return self


Workload = Annotated[
    IdleTable | UniformTable | SweepTable | HotspotTable | RecordedTable | DirtyRates, Field(discriminator="kind")
]
WORKLOADS: dict[str, type[WorkloadTable]] = {
    "idle": IdleTable,
    "uniform": UniformTable,
    "sweep": SweepTable,
    "hotspot": HotspotTable,
    "recorded": RecordedTable,
    "dirty-rate": DirtyRates,
}


class Block(Table):
    """One RAM block."""

    name: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]
    size_bytes: Memory


class GuestTable(Table):
    """The machine that migrates: one RAM block of `memory`, or the blocks given."""

    memory_asked_bytes: Memory | None = Field(default=None, alias="memory")
    block: Annotated[list[Block], Field(max_length=256)] = []
    device_state_bytes: Annotated[Size, _between(MIN_DEVICE_STATE_BYTES, 1 << 30, format_bytes)] = 2 << 20
    zero_fraction: Fraction = 0.0
    ballooned: Annotated[int | float, BeforeValidator(_size_or_fraction)] = 0
    dirty_log_page_bytes: LogPage = PAGE_BYTES
    workload: Workload = IdleTable()

    @property
    def blocks(self) -> list[tuple[str, int]]:
        """Names and lengths in bytes."""
        if self.block:
            return [(block.name, block.size_bytes) for block in self.block]
        return [("pc.ram", self.memory_bytes)]

    @property
    def memory_bytes(self) -> int:
        """All blocks together."""
        return self.memory_asked_bytes or sum(block.size_bytes for block in self.block)

    @property
    def ballooned_pages(self) -> int:
        """Pages the guest has given back."""
        pages = self.memory_bytes // PAGE_BYTES
        return int(self.ballooned * pages) if isinstance(self.ballooned, float) else self.ballooned // PAGE_BYTES

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        blocks_bytes = sum(block.size_bytes for block in self.block)
        if self.memory_asked_bytes is None and not self.block:
            raise ValueError('needs memory = "8 GiB", or blocks: [[guest.block]] with name and size')
        if self.block and self.memory_asked_bytes not in (None, blocks_bytes):
            raise ValueError(
                f"the blocks add up to {format_bytes(blocks_bytes)}: leave memory out, or make it that"
            )
        names = [block.name for block in self.block]
        if len(set(names)) < len(names):
            raise ValueError("two blocks have the same name")
        if self.ballooned_pages * PAGE_BYTES > self.memory_bytes:
            raise ValueError("ballooned is larger than the guest's memory")
        working_set_bytes = getattr(self.workload, "working_set_bytes", None) or 0
        if working_set_bytes > self.memory_bytes:
            raise ValueError("workload.working_set is larger than the guest's memory")
        return self


MIN_LOSS = 1e-15
"""Of packets: less is not one in the longest simulation, and soon no number to compute with."""


def _loss(share: float) -> float:
    if 0 < share < MIN_LOSS:
        raise ValueError(f"{share} is out of bounds: 0, or from {MIN_LOSS} to below 1")
    return share


class LinkTable(Table):
    """The link between the two devices, full duplex, the same in both directions.

    `header` is what every packet of `mtu` payload needs on the wire beside it, `loss` the share of packets lost.
    """

    model: str | None = None
    bandwidth_bit_s: Annotated[int, BeforeValidator(units.rate_bit_s), _between(1_000, 10**13, format_rate)]
    latency_ns: Annotated[int, BeforeValidator(units.time_ns), _between(0, MAX_TIME_NS, format_time)]
    mtu_bytes: Annotated[Size, AfterValidator(_mtu)] = 4096
    header_bytes: Annotated[Size, _between(0, 1024, format_bytes)] = 0
    loss: Annotated[float, BeforeValidator(units.share), Field(ge=0, lt=1), AfterValidator(_loss)] = 0.0


Cost = Annotated[float, BeforeValidator(units.cost_ns), Field(le=MAX_TIME_NS)]


class HostTable(Table):
    """What work costs on a host. What is left out costs nothing; `HostCosts` explains each."""

    model: str | None = None
    register_ns: Cost = 0.0
    register_page_ns: Cost = 0.0
    deregister_ns: Cost = 0.0
    deregister_page_ns: Cost = 0.0
    post_ns: Cost = 0.0
    post_byte_ns: Cost = 0.0
    poll_ns: Cost = 0.0
    poll_cqe_ns: Cost = 0.0
    wake_ns: Cost = 0.0
    scan_page_ns: Cost = 0.0
    sync_page_ns: Cost = 0.0
    zero_test_page_ns: Cost = 0.0
    message_ns: Cost = 0.0
    write_ns: Cost = 0.0
    connect_ns: Cost = 0.0
    tcp_byte_ns: Cost = 0.0
    stop_ns: Cost = 0.0
    resume_ns: Cost = 0.0


class DeviceTable(Table):
    """The kind of device at both ends."""

    profile: ProfileName = "ideal"


_MaxBandwidth = Annotated[
    int | None,
    _or_word(_rate_limit, {"unlimited": None}),
    _between(1, 10**13, format_byte_rate),
]
_DowntimeLimit = Annotated[int, BeforeValidator(units.time_ns), _between(1, 2 * 10**12, format_time)]


class ChangedLimits(Table):
    """Limits that are changed while the migration runs: `at` a time after its start, or from a `round` on.

    They are kept from the next window of 100 ms on; where several hold, the last one in the file does.
    """

    at_ns: Annotated[int | None, BeforeValidator(units.time_ns), _between(1, MAX_TIME_NS, format_time)] = None
    round: Annotated[int | None, Field(ge=2, le=1_000_000)] = None
    downtime_limit_ns: _DowntimeLimit | None = None
    max_bandwidth_bytes_s: _MaxBandwidth = None

    @model_validator(mode="after")
    def _says_when_and_what(self) -> Self:
        if (self.at_ns is None) == (self.round is None):
            raise ValueError('needs at = "10 s" or round = 3, one of them')
        if not self.model_fields_set & {"downtime_limit_ns", "max_bandwidth_bytes_s"}:
            raise ValueError('changes nothing: give downtime_limit = "1 s" or max_bandwidth = "1 Gbit/s"')
        return self

    def change(self) -> Change:
        """The same, as the protocol takes it."""
        limit = self.max_bandwidth_bytes_s or 0
        told = "max_bandwidth_bytes_s" in self.model_fields_set
        return Change(self.at_ns, self.round, self.downtime_limit_ns, limit if told else None)


class Migration(Table):
    """How to migrate. The defaults are QEMU's (7.2), but for `max_bandwidth`: left out or 0, it is no limit.

    `rate_limit` says whose way of keeping it: a page a window too much, or (10.0) the chunk that is being filled.
    """

    transport: Transport = "rdma"
    pin_all: bool = False
    max_bandwidth_bytes_s: _MaxBandwidth = None
    rate_limit: RateLimitOf = "qemu-7.2"
    downtime_limit_ns: _DowntimeLimit = 300_000_000
    max_rounds: Annotated[int, Field(ge=1, le=1_000_000)] = 30
    stop_when_flat: bool = False
    slice_ns: Annotated[
        int | Literal["round"] | None,
        _or_word(units.time_ns, {"round": "round", "unlimited": None}),
        _between(1, MAX_TIME_NS, format_time),
    ] = 50_000_000
    registration_batch: Annotated[int, Field(ge=1, le=4096)] = 1
    control_wait: Literal["completion", "deferred"] = "completion"
    control_qp: Literal["shared", "own"] = "shared"
    change: Annotated[list[ChangedLimits], Field(max_length=256)] = []

    def config(self) -> MigrationConfig:
        """The same, as the protocol takes it."""
        changes = tuple(each.change() for each in self.change)
        return MigrationConfig(**self.model_dump(exclude={"change"}), changes=changes)


class PolicyTable(Table):
    """Which drain policy; every other key is a parameter of that policy."""

    model_config = ConfigDict(extra="allow")

    name: str = "per-iteration"

    @property
    def parameters(self) -> dict[str, Any]:
        """The other keys, as written."""
        return dict(self.model_extra or {})


class Scenario(Table):
    """One experiment."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    guest: GuestTable
    link: LinkTable
    host: HostTable = HostTable()
    destination_host: HostTable | None = None  # where it differs from the source's
    device: DeviceTable = DeviceTable()
    migration: Migration = Migration()
    policy: PolicyTable = PolicyTable()
