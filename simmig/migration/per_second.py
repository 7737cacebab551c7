"""Amounts and rates, in whole numbers: bytes, nanoseconds, bytes a second. Rounded down."""

from __future__ import annotations

SECOND_NS = 1_000_000_000


def rate_of(amount_bytes: int, duration_ns: int) -> int:
    """How many bytes a second that is."""
    return amount_bytes * SECOND_NS // duration_ns


def amount_in(duration_ns: int, bytes_s: int) -> int:
    """How many bytes that rate brings in that time."""
    return bytes_s * duration_ns // SECOND_NS
