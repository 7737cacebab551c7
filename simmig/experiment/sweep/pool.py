"""Who does the work: processes on this machine, one thread of this process, or a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from simmig.experiment.errors import InputError
from simmig.experiment.sweep.work import prepare_process


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def processes(jobs: int, threads: bool = True) -> Iterator[tuple[Executor, int]]:
    """That many processes on this machine: the executor, and how many. One is, with `threads`, a mere thread."""
    if jobs == 1 and threads:
        thread = ThreadPoolExecutor(1)
        try:
            yield thread, 1
        finally:
            thread.shutdown(cancel_futures=True)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["simmig.experiment.sweep.work"])
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=prepare_process)
    try:
        yield pool, jobs
    except BaseException:
        _abandon(pool)
        raise
    pool.shutdown()


def _abandon(pool: ProcessPoolExecutor) -> None:
    """End the workers in the middle of their work: nobody is going to ask for it."""
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()


@contextmanager
def dask_cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """The workers of a Dask cluster: the executor, and how many tasks run at a time."""
    try:
        from distributed import Client  # noqa: PLC0415  # optional, and slow to import
    except ImportError:
        raise InputError("--dask: there is no dask.distributed: pip install 'simmig[dask]'") from None
    try:
        client: Any = Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"--dask {address}: no scheduler answers there ({error})") from None
    with client:
        workers = sum(client.ncores().values())
        if not workers:
            raise InputError(f"--dask {address}: the cluster has no workers")
        yield client.get_executor(pure=False), workers
