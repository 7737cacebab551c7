"""Which points go out together, and when: about a second's worth, never more under way than the workers need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import Any

from simmig.experiment.studies.sweep.work import run_batch

BATCH_S = 1.0
"""A batch this long makes its own cost, some milliseconds, small, and an interrupted one no great loss."""
MAX_BATCH = 512
IN_FLIGHT = 3
"""Batches per worker: one under way, one ready beside it, one for while the parent looks elsewhere."""

Done = Callable[[int, int, bytes], None]
"""Takes the rows of the points from the first to before the second."""


def missing(points: int, done: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The ranges of points that are not among those done, which are in order."""
    begin = 0
    for low, high in done:
        if begin < low:
            yield begin, low
        begin = max(begin, high)
    if begin < points:
        yield begin, points


class _Cutter:
    """Cuts ranges of points into batches, as long as those that came back tell they should be."""

    def __init__(self, ranges: list[tuple[int, int]], workers: int) -> None:
        self._ranges = ranges[::-1]
        self._left = sum(end - begin for begin, end in ranges)
        self._workers = workers
        self._points = 0
        self._spent_s = 0.0

    def learn(self, points: int, spent_s: float) -> None:
        """A batch took that long."""
        self._points += points
        self._spent_s += spent_s

    def next(self) -> tuple[int, int] | None:
        """The next batch; None when there are no more."""
        if not self._ranges:
            return None
        begin, end = self._ranges.pop()
        cut = min(end, begin + self._length())
        if cut < end:
            self._ranges.append((cut, end))
        self._left -= cut - begin
        return begin, cut

    def _length(self) -> int:
        """Points in the next batch; shorter towards the end, so that all workers end together."""
        if not self._points:
            return 1
        fitting = BATCH_S * self._points / max(self._spent_s, 1e-9)
        return max(1, min(MAX_BATCH, round(fitting), self._left // (2 * self._workers)))


class WorkerDied(Exception):
    """A worker process has died, of one of these `batches`, and maybe the executor with it."""

    def __init__(self, batches: list[tuple[int, int]]) -> None:
        super().__init__(f"a worker process has died of one of {len(batches)} batches of points")
        self.batches = sorted(batches)


def run_all(executor: Executor, workers: int, job: bytes, ranges: list[tuple[int, int]], done: Done) -> None:
    """Simulate the points in these ranges, handing each batch's rows to `done` as it comes back.

    Raises WorkerDied when the executor breaks or a Dask cluster gives a batch up, having lost too many workers by
    it; what any other executor's future raises comes through.
    """
    cutter = _Cutter(ranges, workers)
    running: dict[Future[tuple[bytes, float]], tuple[int, int]] = {}
    while True:
        try:
            while len(running) < IN_FLIGHT * workers and (batch := cutter.next()) is not None:
                running[executor.submit(run_batch, job, *batch)] = batch
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                if _given_up(future):
                    raise WorkerDied([batch for other, batch in running.items() if _given_up(other)])
                begin, end = running[future]
                rows, spent_s = future.result()
                del running[future]
                cutter.learn(end - begin, spent_s)
                done(begin, end, rows)
        except BrokenExecutor:
            raise WorkerDied(list(running.values())) from None


def _given_up(future: Future[Any]) -> bool:
    """Whether Dask, which need not be installed, has lost too many workers by it."""
    return future.done() and type(future.exception()).__name__ == "KilledWorker"
