"""Ranges: what values they hold, and what is no range."""

from __future__ import annotations

from typing import Any

import pytest

from simmig.experiment.errors import InputError
from simmig.experiment.studies.sweep.axis import values_of


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        ([1, "2 s", {"kind": "idle"}], [1, "2 s", {"kind": "idle"}]),
        ({"from": 3, "to": 6}, [3, 4, 5, 6]),
        ({"from": 0, "to": 10, "count": 3}, [0, 5, 10]),
        ({"from": 0.0, "to": 1, "count": 3}, [0.0, 0.5, 1.0]),
        ({"from": "1 Gbit/s", "to": "100 Gbit/s", "count": 3, "spacing": "log"}, [10**9, 10**10, 10**11]),
        ({"from": "1 ms", "to": "1 s", "count": 4, "spacing": "log"}, [10**6, 10**7, 10**8, 10**9]),
        ({"from": "4 KiB", "to": "1 MiB", "count": 2}, [4096, 1 << 20]),
        ({"from": "1 MiB", "to": "64 MiB", "count": 4, "spacing": "log"}, [1 << 20, 4 << 20, 16 << 20, 64 << 20]),
    ],
)
def test_values(spec: Any, values: list[Any]) -> None:
    found = values_of(spec, "axes.x")
    numbers = [int(value.split()[0]) if isinstance(value, str) and value != "2 s" else value for value in found]
    assert numbers == values


def test_sizes_between_whole_pages_are_whole_pages() -> None:
    values = values_of({"from": "1 MiB", "to": "2 MiB", "count": 7}, "x")
    assert all(int(value.removesuffix(" B")) % 4096 == 0 for value in values)


@pytest.mark.parametrize("spacing", ["random", "log-random"])
def test_draws_are_within_and_by_seed(spacing: str) -> None:
    spec = {"from": "1 ms", "to": "1 s", "count": 50, "spacing": spacing, "seed": 5}
    values = [int(value.removesuffix(" ns")) for value in values_of(spec, "x")]
    assert all(10**6 <= value <= 10**9 for value in values)
    assert values == [int(value.removesuffix(" ns")) for value in values_of(spec, "x")]
    assert values != [int(value.removesuffix(" ns")) for value in values_of(spec | {"seed": 6}, "x")]
    assert (sum(value < 10**8 for value in values) > 25) == (spacing == "log-random")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ([], "axes.x: an empty list"),
        ("8 GiB", "neither a list"),
        ({"from": 1}, "axes.x.to: missing"),
        ({"from": 1, "to": 2, "cuont": 3}, "axes.x.cuont: unknown key of a range; did you mean 'count'?"),
        ({"from": 1, "to": 9, "count": 3, "spacing": "lgo"}, "did you mean 'log'?"),
        ({"from": "1 ms", "to": "2 ms"}, "count: missing"),
        ({"from": 1, "to": 3, "count": 9}, "some of the values would be the same"),
        ({"from": 2, "to": 1, "count": 2}, "from the smaller value to the larger"),
        ({"from": 0, "to": 8, "count": 2, "spacing": "log"}, "begins above zero"),
        ({"from": "1 ms", "to": "2 MiB", "count": 2}, "not two numbers, sizes, rates or times"),
        ({"from": 1, "to": 2, "count": 0}, "no whole number from 1"),
        ({"from": 1, "to": 2, "count": 2, "seed": 1}, "draws nothing"),
    ],
)
def test_what_is_no_axis(spec: Any, told: str) -> None:
    with pytest.raises(InputError, match=r"axes\.x") as caught:
        values_of(spec, "axes.x")
    assert told in str(caught.value)
