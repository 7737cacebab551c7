"""Quantities with units: "8 GiB", "40 Gbit/s", "2 us" to the integers that the rest of simmig computes with.

Only this file knows pint. The registry holds the few units that a scenario may use and no others: pint's own takes
bits for dimensionless, so that a rate in radians would pass for a bandwidth, and is slow to build.
"""

from __future__ import annotations

import difflib
import functools
import re
from decimal import Decimal
from typing import Literal

import pint

from simmig.experiment.errors import cut, shown

_PREFIXES = {
    "n": "1e-9", "u": "1e-6", "µ": "1e-6", "μ": "1e-6", "m": "1e-3",
    "k": "1e3", "M": "1e6", "G": "1e9", "T": "1e12",
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
_UNITS = {"bit": "[information]", "B": "8 * bit", "s": "[time]", "min": "60 * s"}
_QUANTITY = re.compile(r"\s*([+-]?(?:\d{1,24}\.?\d{0,24}|\.\d{1,24})(?:[eE][+-]?\d{1,2})?)\s*(.*?)\s*", re.DOTALL)
_UNIT = re.compile(r"[A-Za-zµμ]+(/[A-Za-z]+)?")

Kind = Literal["size", "rate", "time"]

_DIMENSIONS = {"size": "[information]", "rate": "[information] / [time]", "time": "[time]"}
_EXAMPLES = {"size": '"8 GiB"', "rate": '"40 Gbit/s" or "200 MiB/s"', "time": '"50 ms"'}
_MULTIPLES = ("", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti")
_SPELLINGS = {
    "size": [f"{prefix}B" for prefix in _MULTIPLES],
    "rate": [f"{prefix}{unit}/s" for unit in ("bit", "B") for prefix in _MULTIPLES],
    "time": ["ns", "us", "ms", "s", "min"],
}


class QuantityError(ValueError):
    """A text that is not the quantity asked for; the message says what would be."""


def size_bytes(text: object) -> int:
    """Whole bytes of a size such as "8 GiB" or "512 kB".

    Raises QuantityError for anything else: no unit, a unit of something else, negative, a fraction of a byte.
    """
    return _whole(_parse(text, "size") / 8, text, "bytes")


def rate_bit_s(text: object) -> int:
    """Whole bits per second of a rate such as "40 Gbit/s" or "200 MiB/s". Raises QuantityError."""
    return _whole(_parse(text, "rate"), text, "bits per second")


def rate_bytes_s(text: object) -> int:
    """Whole bytes per second of a rate, rounded to the nearest. Raises QuantityError."""
    return round(_parse(text, "rate") / 8)


def rate_limit_bytes_s(text: object) -> int | None:
    """The same of a limit: at least 1, None for zero, which stands for no limit. Raises QuantityError."""
    rate = _parse(text, "rate") / 8
    return max(1, round(rate)) if rate else None


def time_ns(text: object) -> int:
    """Whole nanoseconds of a time such as "50 ms". Raises QuantityError."""
    return _whole(_parse(text, "time") * 10**9, text, "nanoseconds")


def cost_ns(text: object) -> float:
    """Nanoseconds of a host's cost per unit of work ("0.2 ns" a byte): the one place where a fraction is meant."""
    return float(_parse(text, "time") * 10**9)


def share(value: object) -> object:
    """The number that a text such as "0.1 %" stands for; what is none as it is. Raises QuantityError."""
    if not isinstance(value, str):
        return value
    match = _QUANTITY.fullmatch(value)
    if match is None or match.group(2) != "%":
        raise QuantityError(f'"{cut(value)}" is no share; a share is written like 0.001 or "0.1 %"')
    return float(Decimal(match.group(1)) / 100)


@functools.cache
def _registry() -> pint.UnitRegistry[Decimal]:
    registry: pint.UnitRegistry[Decimal] = pint.UnitRegistry(None, non_int_type=Decimal)
    registry.load_definitions([f"{name}- = {value}" for name, value in _PREFIXES.items()])
    registry.load_definitions([f"{name} = {value}" for name, value in _UNITS.items()])
    return registry


@functools.cache
def _factor(unit: str, kind: Kind) -> Decimal:
    """How many bits, bits per second or seconds one `unit` is."""
    registry = _registry()
    try:
        if _UNIT.fullmatch(unit) is None:  # pint would take "B**2 * s" as well
            raise pint.UndefinedUnitError(unit)
        one = registry.Quantity(Decimal(1), registry.parse_units(unit))
    except pint.UndefinedUnitError as error:
        near = difflib.get_close_matches(unit, _SPELLINGS[kind], n=1, cutoff=0.5)
        hint = f'did you mean "{near[0]}"?' if near else f"a {kind} is written like {_EXAMPLES[kind]}"
        raise QuantityError(f'unknown unit "{cut(unit)}"; {hint}') from error
    if not one.check(_DIMENSIONS[kind]):
        raise QuantityError(f'"{cut(unit)}" is no unit of {kind}; a {kind} is written like {_EXAMPLES[kind]}')
    return Decimal(one.to_root_units().magnitude)


def _parse(text: object, kind: Kind) -> Decimal:
    like = f"a {kind} is written like {_EXAMPLES[kind]}"
    if not isinstance(text, str):
        raise QuantityError(f"{shown(text)} has no unit; {like}")
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise QuantityError(f'"{cut(text)}" is not a number with a unit; {like}')
    number, unit = match.groups()
    if not unit:
        raise QuantityError(f'"{cut(text)}" has no unit; {like}')
    value = Decimal(number) * _factor(unit, kind)
    if value < 0:
        raise QuantityError(f'"{text}" is negative; {like}')
    return value


def _whole(value: Decimal, text: object, of: str) -> int:
    if value != value.to_integral_value():
        raise QuantityError(f'"{text}" is not a whole number of {of}')
    return int(value)
