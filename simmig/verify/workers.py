"""Worker processes that end with their parent, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from typing import Any

from simmig.verbs.sim.interrupt import held


class _Pool(ProcessPoolExecutor):
    """One that an interrupt finds with every worker it has begun: the others could not be ended."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """To a worker, which may have to be started."""
        with held():
            return super().submit(fn, *args, **kwargs)


@contextmanager
def worker_pool(jobs: int, preload: str) -> Iterator[ProcessPoolExecutor]:
    """That many processes, with the module `preload` loaded. When the block raises they are ended at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    if threading.current_thread() is threading.main_thread():
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: interrupts are for this process alone
        forkserver.ensure_running()
        signal.signal(signal.SIGINT, handler)
    pool = _Pool(jobs, mp_context=context, initializer=prepare_worker)
    try:
        yield pool
    except BaseException:
        abandon(pool)
        raise
    pool.shutdown()


def abandon(pool: ProcessPoolExecutor) -> None:
    """End the workers in the middle of their work: nobody is going to ask for it."""
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.kill()


def prepare_worker() -> None:
    """A worker process leaves interrupts to its parent, and does not outlive it: killed, that cannot tell it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
