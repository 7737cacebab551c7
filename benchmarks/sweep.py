"""Sweeps against the bare simulations in them: overhead, speed-up of two workers over one, memory.

    python benchmarks/sweep.py [--points N]

Every point is an 8 GiB guest that goes through five rounds or more. The same points are simulated in a loop in one
process, by a sweep with one worker process, and by one with two, all in one run, so that only ratios count; worker
processes are started before the clock is. Targets: a speed-up of 1.8 or more, an overhead of 10 % at most, and
peak memory that does not grow with the number of points (of a guest so small that points are many).

Then a policy of one's own against the built-in one that answers the same: sweeps of 1,000 points of an idle 8 GiB
guest with dynamic registration. Target: twice the time at most.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, wait
from pathlib import Path

import pyarrow.parquet as pq

from simmig.experiment import leap
from simmig.experiment.studies.sweep.pool import processes
from simmig.experiment.studies.sweep.spec import SweepSpec, load_sweep
from simmig.experiment.studies.sweep.sweep import run_sweep
from simmig.experiment.studies.sweep.work import simulate

ROUNDS = 5
BUSY = """
seed = 1
guest = { memory = "8 GiB", workload = { kind = "uniform", working_set = "64 MiB", rate = "400 MiB/s" } }
link.model = "qemu-docs-40g"
host.model = "qemu-docs-2013"
migration = { pin_all = true, downtime_limit = "3 ms", max_rounds = 6 }
"""
IDLE = """
guest.memory = "8 GiB"
link.model = "qemu-docs-40g"
host.model = "qemu-docs-2013"
"""
OWN = """
from simmig.migration.policies import Point


class Own:
    def drain(self, point, sender):
        return 0 if point is Point.SLICE_END else None
"""
OWN_POINTS = 1_000
TINY = """
guest.memory = "4 MiB"
link = { bandwidth = "10 Gbit/s", latency = "2 us" }
"""
SIZES = (500, 2_000)


def make(directory: Path, scenario: str, points: int) -> SweepSpec:
    """A sweep over that many seeds."""
    directory.mkdir(exist_ok=True)
    (directory / "base.toml").write_text(scenario)
    (directory / "own.py").write_text(OWN)
    path = directory / "sweep.toml"
    path.write_text(f'scenario = "base.toml"\naxes.seed = {{ from = 1, to = {points} }}\n')
    return load_sweep(path)


def warm_up(at_least_s: float) -> None:
    """Load what is compiled, and keep this worker from taking another's turn to do so."""
    began_s = time.perf_counter()
    leap.prepare()
    time.sleep(max(0.0, at_least_s - (time.perf_counter() - began_s)))


@contextlib.contextmanager
def started(workers: int) -> Iterator[tuple[Executor, int]]:
    """Worker processes that have imported and loaded everything; one is a process of its own, too."""
    with processes(workers, threads=False) as (executor, _):
        wait([executor.submit(warm_up, 4.0) for _ in range(workers)])
        yield executor, workers


def seconds(sweep: SweepSpec, workers: int, out: Path, rounds: int = ROUNDS) -> float:
    """How long the sweep takes from its first point to the file of results."""
    with started(workers) as ready:
        began_s = time.perf_counter()
        finished = run_sweep(sweep, out, lambda: contextlib.nullcontext(ready))
        spent_s = time.perf_counter() - began_s
    table = pq.read_table(finished.results, columns=["rounds", "error"])
    if table["error"].null_count != sweep.plan.points or min(table["rounds"].to_pylist()) < rounds:
        raise RuntimeError("points failed, or went through too few rounds")
    return spent_s


def bare_seconds(sweep: SweepSpec) -> float:
    """How long the same simulations take in a loop, their scenarios made before."""
    scenarios = [sweep.plan.scenario(point) for point in range(sweep.plan.points)]
    simulate(scenarios[0])
    began_s = time.perf_counter()
    for scenario in scenarios:
        simulate(scenario)
    return time.perf_counter() - began_s


def peak_bytes(points: int) -> None:
    """Print the most memory that this process, and the larger of two workers, ever had."""
    with tempfile.TemporaryDirectory() as work, started(2) as ready:
        run_sweep(make(Path(work), TINY, points), Path(work) / "out", lambda: contextlib.nullcontext(ready))
        usages = [ready[0].submit(resource.getrusage, resource.RUSAGE_SELF) for _ in range(8)]
        worker = max(usage.result().ru_maxrss for usage in usages)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10, worker << 10)


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak:
        peak_bytes(asked.peak)
        return
    with tempfile.TemporaryDirectory() as work:
        sweep = make(Path(work), BUSY, asked.points)
        leap.prepare()
        bare_s = bare_seconds(sweep)
        one_s = seconds(sweep, 1, Path(work) / "one")
        two_s = seconds(sweep, 2, Path(work) / "two")
        built_in = make(Path(work) / "built-in", IDLE, OWN_POINTS)
        own = make(Path(work) / "own", f'{IDLE}policy.name = "own.py:Own"\n', OWN_POINTS)
        built_in_s = seconds(built_in, 2, Path(work) / "by built-in", rounds=2)
        own_s = seconds(own, 2, Path(work) / "by own", rounds=2)
    print(f"points: {asked.points}")
    print(f"points per second: {asked.points / bare_s:.2f} bare, {asked.points / two_s:.2f} by two workers")
    print(f"overhead of one worker over the bare simulations: {100 * (one_s / bare_s - 1):.1f} %")
    print(f"speed-up of two workers over one: {one_s / two_s:.2f}")
    ratio = own_s / built_in_s
    print(f"{OWN_POINTS} points: {built_in_s:.1f} s, with a policy of one's own {ratio:.2f} times that")
    for points in SIZES:
        command = [sys.executable, __file__, "--peak", str(points)]
        parent, worker = map(int, subprocess.run(command, capture_output=True, check=True).stdout.split())
        print(f"{points} small points: parent {parent >> 20} MiB, a worker {worker >> 20} MiB at most")


if __name__ == "__main__":
    main()
