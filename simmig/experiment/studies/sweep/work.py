"""What a worker does: simulate a batch of points and send their rows back as bytes."""

from __future__ import annotations

import functools
import pickle
import time
from dataclasses import dataclass

import msgspec

from simmig.experiment import leap
from simmig.experiment.errors import InputError
from simmig.experiment.result import Result
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.schema import Scenario
from simmig.experiment.studies.sweep.columns import Columns
from simmig.experiment.studies.sweep.plan import Plan
from simmig.experiment.studies.sweep.pool import COMPILE_FROM


@dataclass(frozen=True)
class Job:
    """What every batch of a sweep needs to know."""

    plan: Plan
    columns: Columns

    def packed(self) -> bytes:
        """As bytes, which a worker reads once."""
        return pickle.dumps(self, protocol=5)


def run_batch(job: bytes, begin: int, end: int) -> tuple[bytes, float]:
    """Simulate the points from `begin` to before `end`.

    Returns their rows, in MessagePack, and how many seconds they took. Whatever a point raises is its row's error.
    """
    read = _read(job)
    if read.plan.points >= COMPILE_FROM and leap.is_ready():
        leap.prepare()  # for small guests, too: loading it takes a second, and each run a hundredth of the time
    began_s = time.perf_counter()
    rows = [_row(read, point) for point in range(begin, end)]
    return msgspec.msgpack.encode(rows), time.perf_counter() - began_s


@functools.lru_cache(maxsize=4)
def _read(job: bytes) -> Job:
    read = pickle.loads(job)
    assert isinstance(read, Job)
    return read


def simulate(scenario: Scenario) -> Result:
    """One point: figures are asked for, no trace."""
    return run(scenario, traced=False)


def error_row(job: Job, point: int, error: str) -> bytes:
    """What a batch of this one point would be if it had that error."""
    try:
        scenario = job.plan.scenario(point)
    except InputError:
        scenario = None
    return msgspec.msgpack.encode([job.columns.row(point, job.plan, scenario, None, error)])


def _row(job: Job, point: int) -> list[object]:
    scenario = result = error = None
    try:
        scenario = job.plan.scenario(point)
        result = simulate(scenario)
    except InputError as caught:
        error = str(caught)
    except Exception as caught:  # the rest of the sweep goes on without this point
        error = f"{type(caught).__name__}: {caught}"
    return job.columns.row(point, job.plan, scenario, result, error)
