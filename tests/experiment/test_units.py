"""Quantities: what is accepted, what it is worth, and what a person is told about the rest."""

import pytest

from simmig.experiment import units
from simmig.experiment.units import QuantityError


@pytest.mark.parametrize(
    ("text", "length_bytes"),
    [
        ("8 GiB", 8 << 30),
        ("8GiB", 8 << 30),
        (" 1.5 MiB ", 3 << 19),
        ("512 kB", 512_000),
        ("0 B", 0),
        ("2 TiB", 2 << 40),
        ("8 bit", 1),
        (".5 KiB", 512),
        ("1e3 B", 1000),
    ],
)
def test_sizes(text: str, length_bytes: int) -> None:
    assert units.size_bytes(text) == length_bytes


@pytest.mark.parametrize(
    ("text", "rate_bit_s"),
    [("40 Gbit/s", 40_000_000_000), ("200 MiB/s", 200 * 8 << 20), ("1 B/s", 8), ("0.1 Mbit/s", 100_000)],
)
def test_rates(text: str, rate_bit_s: int) -> None:
    assert units.rate_bit_s(text) == rate_bit_s


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("2 us", 2000),
        ("2 µs", 2000),
        ("2 μs", 2000),
        ("50 ms", 50_000_000),
        ("0.3 s", 300_000_000),
        ("2 min", 12 * 10**10),
    ],
)
def test_times(text: str, time_ns: int) -> None:
    assert units.time_ns(text) == time_ns


@pytest.mark.parametrize(("text", "share"), [("0.1 %", 0.001), ("100%", 1.0), ("0 %", 0.0), (0.25, 0.25), (1, 1)])
def test_shares(text: object, share: float) -> None:
    assert units.share(text) == share


@pytest.mark.parametrize("text", ["0.1", "0.1 %%", "%", "1 ms", ""])
def test_a_text_that_is_no_share(text: str) -> None:
    with pytest.raises(QuantityError, match=r'is no share; a share is written like 0.001 or "0.1 %"'):
        units.share(text)


def test_decimals_are_exact() -> None:
    assert units.time_ns("0.000000001 s") == 1
    assert units.time_ns("1.1 us") == 1100


def test_only_a_cost_may_be_a_fraction() -> None:
    assert units.cost_ns("0.2 ns") == 0.2
    with pytest.raises(QuantityError, match="not a whole number of nanoseconds"):
        units.time_ns("0.2 ns")


def test_byte_rates_round() -> None:
    assert units.rate_bytes_s("9 bit/s") == 1


@pytest.mark.parametrize(
    ("parse", "text", "told"),
    [
        (units.size_bytes, "8", '"8" has no unit; a size is written like "8 GiB"'),
        (units.size_bytes, 8, '8 has no unit; a size is written like "8 GiB"'),
        (units.size_bytes, True, "True has no unit"),
        (units.size_bytes, None, "None has no unit"),
        (units.size_bytes, "8 Gib", 'unknown unit "Gib"; did you mean "GiB"?'),
        (units.size_bytes, "8 KB", 'did you mean "KiB"?'),
        (units.size_bytes, "8 s", '"s" is no unit of size'),
        (units.size_bytes, "8 Gbit/s", '"Gbit/s" is no unit of size'),
        (units.size_bytes, "-8 GiB", '"-8 GiB" is negative'),
        (units.size_bytes, "0.3 B", "not a whole number of bytes"),
        (units.size_bytes, "1 mB", "not a whole number of bytes"),
        (units.size_bytes, "", "is not a number with a unit"),
        (units.size_bytes, "GiB", "is not a number with a unit"),
        (units.size_bytes, "nan GiB", "is not a number with a unit"),
        (units.size_bytes, "1 GiB + 3", 'unknown unit "GiB + 3"'),
        (units.size_bytes, "8 B**2", 'unknown unit "B**2"'),
        (units.size_bytes, "1e999 B", "unknown unit"),
        (units.size_bytes, "1\nGiB\n2", "unknown unit"),
        (
            units.rate_bit_s,
            "40 GiB",
            '"GiB" is no unit of rate; a rate is written like "40 Gbit/s" or "200 MiB/s"',
        ),
        (units.rate_bit_s, "40 Gbps", 'did you mean "Gbit/s"?'),
        (units.time_ns, "5 msec", 'did you mean "ms"?'),
        (units.time_ns, "5 parsec", 'unknown unit "parsec"'),
    ],
)
def test_everything_else_is_told(parse, text: object, told: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(QuantityError) as caught:
        parse(text)
    assert told in str(caught.value)
