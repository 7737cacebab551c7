"""One axis of a sweep: from what the file says to the values that its key takes, one after the other.

    "link.bandwidth" = ["10 Gbit/s", "40 Gbit/s"]                                           # these
    "guest.workload.rate" = { from = "50 MiB/s", to = "1600 MiB/s", count = 6, spacing = "log" }
    "migration.downtime_limit" = { from = "5 ms", to = "500 ms", count = 20, spacing = "log-random", seed = 1 }
    seed = { from = 1, to = 10 }                                                            # every whole number

A spacing is linear, log, random (drawn evenly) or log-random (drawn evenly in the logarithm).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from simmig.experiment import units
from simmig.experiment.errors import InputError, shown
from simmig.experiment.scenario.explain import nearest
from simmig.guest.api import PAGE_BYTES

MAX_VALUES = 100_000
"""Of one axis: more is a slip of the pen."""

_KEYS = ("from", "to", "count", "spacing", "seed")
_SPACINGS = ("linear", "log", "random", "log-random")
_KINDS: tuple[tuple[Callable[[object], int], str], ...] = (
    (units.size_bytes, "B"),
    (units.rate_bit_s, "bit/s"),
    (units.time_ns, "ns"),
)
"""What a range may go over, and the unit in which its values are whole."""


def values_of(spec: Any, place: str) -> list[Any]:
    """The values of an axis: a list as it stands, or a range; raises InputError naming `place`."""
    if isinstance(spec, Mapping) and "from" in spec:
        return _range(spec, place)
    if not isinstance(spec, list):
        raise InputError(
            f"{place}: {shown(spec)} is neither a list of values nor a range like {{ from, to, count }}"
        )
    if not spec:
        raise InputError(f"{place}: an empty list leaves no point; take the axis out, or give it a value")
    if len(spec) > MAX_VALUES:
        raise InputError(f"{place}: {len(spec)} values; an axis has {MAX_VALUES} at most")
    return list(spec)


def is_range(spec: Any) -> bool:
    """Whether it is a range, not a value that happens to be a table."""
    return isinstance(spec, Mapping) and "from" in spec


def _range(spec: Mapping[str, Any], place: str) -> list[Any]:
    for key in spec:
        if key not in _KEYS:
            raise InputError(f"{place}.{key}: unknown key of a range; {nearest(key, _KEYS)}")
    if "to" not in spec:
        raise InputError(f"{place}.to: missing: a range goes from a value to another")
    spacing = spec.get("spacing", "linear")
    if spacing not in _SPACINGS:
        raise InputError(f"{place}.spacing: {shown(spacing)} is unknown; {nearest(str(spacing), _SPACINGS)}")
    if "seed" in spec and "random" not in spacing:
        raise InputError(f"{place}.seed: a range with {spacing} spacing draws nothing")
    low, high, finish = _ends(spec, place)
    count = _count(spec, low, high, spacing, place)
    if "log" in spacing and low <= 0:
        raise InputError(f"{place}.from: a range with {spacing} spacing begins above zero")
    values = [finish(value) for value in _spread(low, high, count, spacing, _seed(spec, place))]
    if "random" not in spacing and len(set(values)) < len(values):
        raise InputError(f"{place}.count: {count} are too many: some of the values would be the same")
    return values


def _seed(spec: Mapping[str, Any], place: str) -> int:
    seed = spec.get("seed", 1)
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise InputError(f"{place}.seed: {shown(seed)} is no whole number from 0 on")
    return seed


def _count(spec: Mapping[str, Any], low: float, high: float, spacing: str, place: str) -> int:
    count = spec.get("count")
    if count is None and type(spec["from"]) is int and type(spec["to"]) is int and spacing == "linear":
        count = int(high - low) + 1
    if count is None:
        raise InputError(f"{place}.count: missing: how many values?")
    if type(count) is not int or not 1 <= count <= MAX_VALUES:
        raise InputError(f"{place}.count: {shown(count)} is no whole number from 1 to {MAX_VALUES}")
    return count


def _ends(spec: Mapping[str, Any], place: str) -> tuple[float, float, Callable[[float], Any]]:
    """Both ends as numbers, and how a number between them becomes a value again."""
    ends = spec["from"], spec["to"]
    if all(type(end) is int for end in ends):
        return _ordered(float(ends[0]), float(ends[1]), round, place)
    if all(type(end) in (int, float) and math.isfinite(end) for end in ends):
        return _ordered(float(ends[0]), float(ends[1]), float, place)
    errors: list[str] = []
    for parse, unit in _KINDS:
        try:
            low, high = (parse(end) for end in ends)
        except units.QuantityError as error:
            errors.append(str(error))
            continue
        step = PAGE_BYTES if unit == "B" and low % PAGE_BYTES == high % PAGE_BYTES == 0 else 1
        return _ordered(float(low), float(high), functools.partial(_quantity, step, unit), place)
    raise InputError(
        f"{place}: from {shown(ends[0])} to {shown(ends[1])} are not two numbers, sizes, rates or times "
        f"({errors[0]})"
    )


def _quantity(step: int, unit: str, value: float) -> str:
    """A whole number of steps, with its unit."""
    return f"{round(value / step) * step} {unit}"


def _ordered(
    low: float, high: float, finish: Callable[[float], Any], place: str
) -> tuple[float, float, Callable[[float], Any]]:
    if high < low:
        raise InputError(f"{place}: a range goes from the smaller value to the larger")
    return low, high, finish


def _spread(low: float, high: float, count: int, spacing: str, seed: int) -> list[float]:
    if "log" in spacing:
        low, high = math.log(low), math.log(high)
    if "random" in spacing:
        inner = np.random.Generator(np.random.PCG64(seed)).random(count) * (high - low) + low
    else:
        inner = np.linspace(low, high, count)
    return [math.exp(value) if "log" in spacing else float(value) for value in inner]
