from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import count, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simmig.guest.workload import BATCH_WRITES, Hotspot, Idle, Looped, Mixture, Recorded, Sweep, Uniform, Workload

PAGE = 4096
MIB = 1 << 20


def pages_written(workload: Workload, first: int, end: int) -> list[int]:
    """Pages of writes `first` to `end`, put together from batches."""
    pages = [workload.batch(index) for index in range(first // BATCH_WRITES, -(-end // BATCH_WRITES))]
    skip = first // BATCH_WRITES * BATCH_WRITES
    return [int(page) for page in np.concatenate(pages)[first - skip : end - skip]]


def raw_draws(seed: int) -> Iterator[int]:
    source = np.random.PCG64(seed)
    while True:
        yield int(source.random_raw())


@given(rate=st.integers(0, 10**12), time_ns=st.integers(0, 10**15))
def test_steady_write_count_is_the_exact_floor(rate: int, time_ns: int) -> None:
    expected = Fraction(rate * time_ns, PAGE * 10**9)
    assert Sweep(MIB, rate).writes_by(time_ns) == expected.numerator // expected.denominator


def test_idle_writes_nothing() -> None:
    assert Idle().writes_by(10**18) == 0
    assert not Idle().span


@given(pages=st.integers(1, 5000), index=st.integers(0, 10**6))
def test_sweep_walks_round_and_round(pages: int, index: int) -> None:
    batch = Sweep(pages * PAGE, 1).batch(index)
    first = index * BATCH_WRITES
    assert [int(page) for page in batch] == [write % pages for write in range(first, first + BATCH_WRITES)]


@given(pages=st.integers(1, 1 << 28), seed=st.integers(0, 2**64))
def test_uniform_scales_one_draw_a_write(pages: int, seed: int) -> None:
    # Read one by one and in Python integers: entering the stream at a batch must not be seen.
    expected = [(draw >> 32) * pages >> 32 for draw in islice(raw_draws(seed), 2 * BATCH_WRITES)]
    assert pages_written(Uniform(pages * PAGE, 1, seed), 0, 2 * BATCH_WRITES) == expected


def test_uniform_draws_are_the_same_for_ever() -> None:
    assert pages_written(Uniform(1000 * PAGE, 1, 7), 0, 6) == GOLDEN_UNIFORM


def test_uniform_hits_every_page_alike() -> None:
    hits = np.bincount(np.concatenate([Uniform(100 * PAGE, 1, 3).batch(i) for i in range(100)]), minlength=100)
    expected = 100 * BATCH_WRITES / 100
    # Chi-square with 99 degrees of freedom: 99.99 % of all seeds lie below 160.
    assert float(((hits - expected) ** 2).sum() / expected) < 160


@given(
    hot=st.integers(1, 100),
    cold=st.integers(1, 10**6),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_hotspot_splits_one_draw_a_write(hot: int, cold: int, fraction: float, seed: int) -> None:
    workload = Hotspot((hot + cold) * PAGE, 1, hot * PAGE, fraction, seed)
    expected = []
    for draw in islice(raw_draws(seed), BATCH_WRITES):
        if draw % 2**32 < int(fraction * 2**32):
            expected.append((draw >> 32) * hot >> 32)
        else:
            expected.append(hot + ((draw >> 32) * cold >> 32))
    assert pages_written(workload, 0, BATCH_WRITES) == expected


@given(hot=st.integers(1, 100), cold=st.integers(1, 10**6), share=st.integers(0, 64), seed=st.integers(0, 2**32))
def test_a_mixture_of_two_sets_is_a_hotspot(hot: int, cold: int, share: int, seed: int) -> None:
    mixture = Mixture(((hot * PAGE, share * 10**6), (cold * PAGE, (64 - share) * 10**6)), seed)
    hotspot = Hotspot((hot + cold) * PAGE, 64 * 10**6, hot * PAGE, share / 64, seed)
    assert mixture.span == hotspot.span
    assert pages_written(mixture, 0, 2 * BATCH_WRITES) == pages_written(hotspot, 0, 2 * BATCH_WRITES)
    assert [mixture.writes_by(t) for t in (0, 10**6, 10**12)] == [hotspot.writes_by(t) for t in (0, 10**6, 10**12)]


def test_hotspot_hits_its_hot_set_as_often_as_asked() -> None:
    workload = Hotspot(1000 * PAGE, 1, 10 * PAGE, 0.9, 5)
    pages = np.concatenate([workload.batch(index) for index in range(50)])
    assert (pages < 10).mean() == pytest.approx(0.9, abs=0.005)
    assert set(np.unique(pages)) == set(range(1000))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sweep(0, 1),
        lambda: Sweep(PAGE + 1, 1),
        lambda: Sweep(PAGE, -1),
        lambda: Uniform(-PAGE, 1, 0),
        lambda: Hotspot(PAGE, 1, PAGE, 0.5, 0),
        lambda: Hotspot(2 * PAGE, 1, PAGE, 1.5, 0),
        lambda: Hotspot(2 * PAGE, 1, 0, 0.5, 0),
        lambda: Mixture((), 0),
        lambda: Mixture(((PAGE, 1), (0, 1)), 0),
        lambda: Mixture(((PAGE, -1),), 0),
        lambda: Recorded([(0, 0, 1)]),
        lambda: Recorded([(5, 0, 1), (4, 0, 1)]),
        lambda: Recorded([(5, -1, 1)]),
        lambda: Recorded([(5, 0, -1)]),
    ],
)
def test_what_cannot_be_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"must|hot"):
        make()


Rows = list[tuple[int, int, int]]

rows_strategy = st.lists(
    st.tuples(st.integers(1, 50), st.integers(0, 30), st.integers(0, 6)), min_size=1, max_size=8
).map(lambda steps: [(sum(s[0] // 10 for s in steps[: i + 1]) + 1, s[1], s[2]) for i, s in enumerate(steps)])
"""Rows in order of time; several may share one."""


def replay(rows: Rows) -> Iterator[tuple[int, int]]:
    """(time, page) of every write, one by one: the n writes of an interval fall due at its n-th parts."""
    start = 0
    pages: list[int] = []
    length = 0
    for time in sorted({row[0] for row in rows}):
        pages = [row[1] + page for row in rows if row[0] == time for page in range(row[2])]
        length = time - start
        yield from ((start + -(-(i + 1) * length // len(pages)), page) for i, page in enumerate(pages))
        start = time
    for again in count():
        if not pages:
            return
        begin = start + again * length
        yield from ((begin + -(-(i + 1) * length // len(pages)), page) for i, page in enumerate(pages))


@given(rows=rows_strategy)
def test_recorded_replays_its_rows_and_repeats_the_last_interval(rows: Rows) -> None:
    workload = Recorded(rows)
    end = 4 * rows[-1][0] + 20
    writes = []
    for time, page in replay(rows):
        if time > end:
            break
        writes.append((time, page))
    for time in range(end + 1):
        assert workload.writes_by(time) == sum(due <= time for due, _ in writes)
    if writes:
        assert pages_written(workload, 0, len(writes)) == [page for _, page in writes]
        assert all(page in workload.span for _, page in writes)


def test_recorded_far_beyond_its_end() -> None:
    workload = Recorded([(10, 0, 3), (20, 5, 2), (20, 9, 1)])
    assert workload.writes_by(10**12) == 3 + 3 * (10**12 - 10) // 10
    assert pages_written(workload, 10 * BATCH_WRITES, 10 * BATCH_WRITES + 5) == [
        (5, 6, 9)[write % 3] for write in range(10 * BATCH_WRITES, 10 * BATCH_WRITES + 5)
    ]


GOLDEN_UNIFORM = [625, 897, 775, 225, 300, 873]


def test_a_looped_recording_does_the_same_again_and_again() -> None:
    rows = [(10, 5, 2), (10, 9, 1), (20, 0, 0), (30, 1, 3)]
    once, looped = Recorded(rows), Looped(rows)
    assert [looped.writes_by(ns) for ns in range(31)] == [once.writes_by(ns) for ns in range(31)]
    assert [looped.writes_by(90 + ns) for ns in range(31)] == [18 + once.writes_by(ns) for ns in range(31)]
    assert looped.batch(0)[:12].tolist() == [5, 6, 9, 1, 2, 3] * 2
    assert looped.batch(1)[0] == [5, 6, 9, 1, 2, 3][BATCH_WRITES % 6]
    assert looped.span == once.span


def test_a_looped_recording_of_nothing_writes_nothing() -> None:
    assert Looped([(10, 0, 0)]).writes_by(1 << 40) == 0
    assert Looped([]).writes_by(1 << 40) == 0
