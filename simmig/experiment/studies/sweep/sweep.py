"""A sweep from its first point to the file of all results, or on from where it was left."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import simmig
from simmig.experiment.scenario.schema import Scenario
from simmig.experiment.studies.sweep.batches import WorkerDied, missing, run_all
from simmig.experiment.studies.sweep.columns import columns_of, columns_of_axes
from simmig.experiment.studies.sweep.pool import compile_if_worthwhile
from simmig.experiment.studies.sweep.spec import SweepSpec
from simmig.experiment.studies.sweep.store import Store
from simmig.experiment.studies.sweep.work import Job, error_row

Ranges = list[tuple[int, int]]
Workers = Callable[[], AbstractContextManager[tuple[Executor, int]]]
"""Starts executors: each time another, and how many batches it runs at a time."""
Tell = Callable[[int, int], None]
"""Takes how many points are done, and of how many."""


@dataclass(frozen=True)
class Finished:
    """What a sweep came to.

    Attributes:
        results: the Parquet file.
        points: rows in it.
        simulated: how many of them this call has simulated; the others were there.
    """

    results: Path
    points: int
    simulated: int


def run_sweep(
    sweep: SweepSpec,
    out: Path,
    workers: Workers,
    tell: Tell = lambda done, points: None,
) -> Finished:
    """Simulate the points that `out` does not have yet, and merge all when none is missing.

    Whatever ends this early, an interrupt or a kill, the batches that had come back stay, and the same call goes
    on from there. Raises InputError when `out` has something else.
    """
    points = sweep.plan.points
    columns = columns_of(sweep.plan, sweep.samples)
    with Store(out, provenance(sweep)) as store:
        if store.results.is_file():
            store.drop_parts()
            return Finished(store.results, points, 0)
        ranges = list(missing(points, store.done()))
        left = sum(end - begin for begin, end in ranges)
        finished = points - left
        tell(finished, points)

        def keep(begin: int, end: int, rows: bytes) -> None:
            nonlocal finished
            store.add(begin, end, rows)
            finished += end - begin
            tell(finished, points)

        job = Job(sweep.plan, columns)
        _simulate(workers, job, sweep.samples, ranges, lambda: list(missing(points, store.done())), keep)
        store.merge(columns.types())
        return Finished(store.results, points, left)


def _simulate(
    workers: Workers,
    job: Job,
    samples: Sequence[Scenario],
    ranges: Ranges,
    left: Callable[[], Ranges],
    keep: Callable[[int, int, bytes], None],
) -> None:
    """Simulate these ranges, and what is `left` when a worker died; the points that it may have died of alone."""
    packed = job.packed()
    while ranges:
        try:
            with workers() as (executor, count):
                compile_if_worthwhile(executor, samples, sum(end - begin for begin, end in ranges))
                run_all(executor, count, packed, ranges, keep)
            return
        except WorkerDied as died:
            _one_by_one(workers, job, packed, died.batches, keep)
        ranges = left()


def _one_by_one(
    workers: Workers, job: Job, packed: bytes, ranges: Ranges, keep: Callable[[int, int, bytes], None]
) -> None:
    """Simulate these points with nothing else under way, so that it is known of what a worker died."""
    points = [point for begin, end in reversed(ranges) for point in reversed(range(begin, end))]
    while points:
        try:
            with workers() as (executor, _):
                while points:
                    run_all(executor, 1, packed, [(points[-1], points[-1] + 1)], keep)
                    points.pop()
        except WorkerDied as died:
            if died.batches:  # else it died between two points
                point = points.pop()
                keep(point, point + 1, error_row(job, point, "the worker process that simulated it died"))


def provenance(sweep: SweepSpec) -> dict[str, Any]:
    """Where results come from: enough to make them again."""
    return {
        "sweep": sweep.text,
        "scenario": sweep.scenario_text,
        "versions": {
            "simmig": simmig.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "models": sweep.sha256(),
        "points": sweep.plan.points,
        "seed": sweep.samples[0].seed,
        "axes": columns_of_axes(sweep.plan, sweep.samples),
    }
