"""Batches: every missing point once, and never many under way."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simmig.experiment.studies.sweep import batches
from simmig.experiment.studies.sweep.batches import missing, run_all


@given(st.sets(st.integers(0, 60)), st.integers(0, 60))
def test_missing_is_what_is_not_done(done: set[int], points: int) -> None:
    ranges = [(point, point + 1) for point in sorted(done) if point < points]
    left = [point for begin, end in missing(points, ranges) for point in range(begin, end)]
    assert left == sorted(set(range(points)) - done)


class Counting(ThreadPoolExecutor):
    """Knows how many futures it ever had at once, from their submission until somebody read their result."""

    def __init__(self) -> None:
        super().__init__(2)
        self.open = self.most = 0

    def submit(self, *arguments: Any, **named: Any) -> Future[Any]:
        self.open += 1
        self.most = max(self.most, self.open)
        return super().submit(*arguments, **named)


@pytest.mark.parametrize("seconds_a_point", [0.0, 0.1, 10.0])
def test_few_batches_are_under_way_however_many_points(
    monkeypatch: pytest.MonkeyPatch, seconds_a_point: float
) -> None:
    def run_batch(_job: bytes, begin: int, end: int) -> tuple[bytes, float]:
        return b"", seconds_a_point * (end - begin)

    monkeypatch.setattr(batches, "run_batch", run_batch)
    seen: list[int] = []
    sizes: list[int] = []
    with Counting() as executor:

        def done(begin: int, end: int, _rows: bytes) -> None:
            executor.open -= 1
            seen.extend(range(begin, end))
            sizes.append(end - begin)

        run_all(executor, 2, b"", [(0, 700), (900, 3000)], done)
    assert sorted(seen) == [*range(700), *range(900, 3000)]
    assert executor.most <= 2 * batches.IN_FLIGHT
    assert max(sizes) <= max(1, round(batches.BATCH_S / max(seconds_a_point, batches.BATCH_S / batches.MAX_BATCH)))
