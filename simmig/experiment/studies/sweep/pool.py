"""Who does the work: processes on this machine, one thread of this process, or a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from simmig.experiment import leap
from simmig.experiment.errors import InputError
from simmig.experiment.leap.envelope import outside
from simmig.experiment.scenario.schema import Scenario
from simmig.verify.workers import worker_pool

COMPILE_FROM = 32
"""Runs: fewer take less than a minute on the cores of a laptop, at some seconds each."""
DASK_WAIT_S = 10
"""For a scheduler to answer, and for workers to be there: those of which the last has died start anew."""


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def processes(jobs: int, threads: bool = False) -> Iterator[tuple[Executor, int]]:
    """That many processes on this machine: the executor, and how many. One is, with `threads`, a mere thread."""
    if jobs == 1 and threads:
        thread = ThreadPoolExecutor(1)
        try:
            yield thread, 1
        finally:
            thread.shutdown(cancel_futures=True)
        return
    with worker_pool(jobs, "simmig.experiment.studies.sweep.work") as pool:
        yield pool, jobs


class Cluster(Executor):
    """The workers of a Dask cluster; `hosts` has an executor for one worker of each host."""

    def __init__(self, client: Any) -> None:
        self._workers: Executor = client.get_executor(pure=False)
        one_each = {address.rpartition(":")[0]: address for address in client.ncores()}
        self.hosts: list[Executor] = [
            client.get_executor(pure=False, workers=[address]) for address in one_each.values()
        ]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """To any of the workers."""
        return self._workers.submit(fn, *args, **kwargs)


@contextmanager
def dask_cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """The workers of a Dask cluster: the executor, and how many tasks run at a time."""
    try:
        from distributed import Client  # noqa: PLC0415  # optional, and slow to import
    except ImportError:
        raise InputError("--dask: there is no dask.distributed: pip install 'simmig[dask]'") from None
    try:
        client: Any = Client(address, timeout=f"{DASK_WAIT_S}s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"--dask {address}: no scheduler answers there ({error})") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=DASK_WAIT_S)
        except TimeoutError:
            raise InputError(f"--dask {address}: the cluster has no workers") from None
        yield Cluster(client), sum(client.ncores().values())


def compile_if_worthwhile(executor: Executor, scenarios: Iterable[Scenario], runs: int) -> None:
    """Have a worker on each host compile the leap over events, a minute once a version, where that saves more."""
    hosts = executor.hosts if isinstance(executor, Cluster) else [] if leap.is_ready() else [executor]
    if runs < COMPILE_FROM or not hosts:
        return
    if any(s.guest.memory_bytes >= leap.WORTHWHILE_BYTES and outside(s) is None for s in scenarios):
        for compiled in [host.submit(_compile) for host in hosts]:
            compiled.result()


def _compile() -> None:
    """In the worker, whose host may have it already."""
    if not leap.is_ready():
        leap.prepare()
