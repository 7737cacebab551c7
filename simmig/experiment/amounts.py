"""Numbers as a person reads them: sizes, times and rates with three figures and a unit."""

from __future__ import annotations

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_RATES = ("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s")
_TIMES = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns"))


def _three_figures(value: float) -> str:
    """At least three significant figures, no exponent, no trailing zeros after the point: 1024, 12.3, 0.5."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_bytes(length_bytes: int) -> str:
    """A size: 1536 is "1.5 KiB"."""
    value, unit = float(length_bytes), 0
    while value >= 1024 and unit < len(_BINARY) - 1:
        value, unit = value / 1024, unit + 1
    return f"{_three_figures(value)} {_BINARY[unit]}"


def format_time(duration_ns: int) -> str:
    """A duration: 1_500_000 is "1.5 ms"."""
    scale, unit = next(((scale, unit) for scale, unit in _TIMES if duration_ns >= scale), _TIMES[-1])
    return f"{_three_figures(duration_ns / scale)} {unit}"


def format_rate(rate_bit_s: float) -> str:
    """A bandwidth: 26e9 is "26 Gbit/s"."""
    value, unit = float(rate_bit_s), 0
    while value >= 1000 and unit < len(_RATES) - 1:
        value, unit = value / 1000, unit + 1
    return f"{_three_figures(value)} {_RATES[unit]}"


def format_byte_rate(rate_bytes_s: float) -> str:
    """A rate of memory: 209715200 is "200 MiB/s"."""
    return f"{format_bytes(round(rate_bytes_s))}/s"
