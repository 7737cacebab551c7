"""What a column of results is called, and in which unit a person reads it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from simmig.experiment import units
from simmig.experiment.amounts import format_byte_rate, format_bytes, format_rate, format_time
from simmig.experiment.scenario.schema import key_of

_UNITS: tuple[tuple[str, tuple[tuple[float, str], ...]], ...] = (
    ("_bytes_s", ((1 << 30, "GiB/s"), (1 << 20, "MiB/s"), (1 << 10, "KiB/s"), (1, "B/s"))),
    ("_bit_s", ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1, "bit/s"))),
    ("_bytes", ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))),
    ("_ns", ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1, "ns"))),
)
"""By the end of a column's name: divisors and units, largest first."""
_TELL = {"_bytes_s": format_byte_rate, "_bit_s": format_rate, "_bytes": format_bytes, "_ns": format_time}
_PARSE = {
    "_bytes_s": units.rate_bytes_s,
    "_bit_s": units.rate_bit_s,
    "_bytes": units.size_bytes,
    "_ns": units.time_ns,
}
_NAMES = {
    "policy.name": "policy",
    "link.bandwidth": "link",
    "guest.memory": "memory",
    "guest.workload.rate": "dirty rate",
    "guest.workload.kind": "guest",
    "bytes_posted": "RAM sent",
    "bytes_on_wire": "sent in all",
    "drain_time": "drains asked by the policy",
    "forced_drain_time": "drains forced by the channel",
    "protocol_drain_time": "drain before device state",
    "max_pending_bytes": "pending at most",
    "pending_bytes_at_stop": "pending at the stop",
}
_SPEAK_FOR_THEMSELVES = ("policy.name", "link.model", "guest.workload.model", "host.model")


class Quantity(NamedTuple):
    """A column as an axis shows it: its name with the unit, and what to divide by."""

    label: str
    divisor: float
    unit: str


def name_of(column: str) -> str:
    """A column's name in words: "link.latency_ns" is "link latency"."""
    key = key_of(column)
    table, _, rest = key.rpartition(".")
    if key in _NAMES:
        return _NAMES[key]
    words = rest.replace("_", " ")
    return f"{table} {words}" if table in ("link", "host", "device") else words


def quantity(column: str, values: Iterable[float]) -> Quantity:
    """The unit in which these values, or the largest of them, are easily read."""
    ending = _ending(column)
    name = name_of(column)
    if ending is None:
        return Quantity(name, 1.0, "")
    known = [value for value in values if value is not None and not math.isnan(value)]
    largest = max(known, default=0)
    units_of_it = dict(_UNITS)[ending]
    divisor, unit = next(((size, unit) for size, unit in units_of_it if largest >= size), units_of_it[-1])
    return Quantity(f"{name} ({unit})", divisor, unit)


def usual_quantity(column: str, values: Iterable[float]) -> Quantity:
    """The unit of values that may lie far apart: for usual ones, unless the largest has five figures in it."""
    known = sorted(value for value in values if not math.isnan(value))
    usual = known[: -(-len(known) // 2)]
    return quantity(column, [max(usual, default=0), max(known, default=0) / 10])


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: the key does not apply, or has no value."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def tell(column: str, value: Any) -> str:
    """A value in words: "25 Gbit/s", "64 MiB", "idle"."""
    if is_missing(value):
        return "unlimited" if key_of(column) == "migration.max_bandwidth" else "none"
    ending = _ending(column)
    if ending is not None and not isinstance(value, str):
        return _TELL[ending](round(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def tell_with_name(column: str, value: Any) -> str:
    """The same with the column's name before it, where the value does not say what it is."""
    if column.startswith("variant.") or column in _SPEAK_FOR_THEMSELVES:
        return tell(column, value)
    if column == "guest.workload.kind":
        return f"{value} guest"
    if column == "link.bandwidth_bit_s":
        return f"{tell(column, value)} link"
    return f"{name_of(column)} {tell(column, value)}"


def parse(column: str, text: str) -> Any:
    """A value as a user writes it ("25 Gbit/s") in the column's unit; raises ValueError."""
    ending = _ending(column)
    return _PARSE[ending](text) if ending is not None else text


def _ending(column: str) -> str | None:
    return next((ending for ending, _ in _UNITS if column.endswith(ending)), None)
