"""The runtime on an asyncio loop: real time, and waiting for descriptors."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

from simmig.verbs.runtime import Source, Work

_NS = 1_000_000_000


class Watchable(Protocol):
    """A source that wakes its waiters itself."""

    @property
    def ready(self) -> bool:
        """Whether waiting for it would return at once."""

    def add_waiter(self, wake: Callable[[], None]) -> None:
        """Call `wake` as soon as it is ready."""

    def remove_waiter(self, wake: Callable[[], None]) -> None:
        """No longer."""


class Waiters:
    """The waiters of a source that is ready once and for all."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[Callable[[], None]] = []

    def add_waiter(self, wake: Callable[[], None]) -> None:
        """Call `wake` as soon as the source is ready."""
        self._waiters.append(wake)

    def remove_waiter(self, wake: Callable[[], None]) -> None:
        """No longer."""
        self._waiters.remove(wake)

    def wake_waiters(self) -> None:
        """The source is ready."""
        for wake in list(self._waiters):
            wake()


class RdmaSignal(Waiters):
    """A flag set once and for all. `set` may be called from a signal handler of the loop."""

    __slots__ = ("is_set",)

    def __init__(self) -> None:
        super().__init__()
        self.is_set = False

    @property
    def ready(self) -> bool:
        """Whether it is set."""
        return self.is_set

    def set(self) -> None:
        """Raise the flag and wake every waiter; again is a no-op."""
        if not self.is_set:
            self.is_set = True
            self.wake_waiters()


class RdmaTask:
    """A coroutine run by the loop."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._task.done()

    def cancel(self) -> None:
        """End it at its next wait."""
        self._task.cancel()

    async def join(self) -> Any:
        """Wait for its end; returns its value or raises what it raised (asyncio.CancelledError if cancelled)."""
        return await self._task


class RdmaRuntime:
    """Implements `simmig.verbs.runtime.Runtime` on the running asyncio loop.

    Times count from `origin_ns` of CLOCK_MONOTONIC, so that the two ends of a migration on one host, even in two
    processes, share one time axis; by default from now.
    """

    def __init__(self, origin_ns: int | None = None) -> None:
        self.origin_ns = time.monotonic_ns() if origin_ns is None else origin_ns
        self._poller = select.poll()

    def now_ns(self) -> int:
        """Time since the origin."""
        return time.monotonic_ns() - self.origin_ns

    @contextmanager
    def halted(self) -> Iterator[None]:
        """Let the clock stand still, for work that a measurement is to leave out."""
        began_ns = time.monotonic_ns()
        try:
            yield
        finally:
            self.origin_ns += time.monotonic_ns() - began_ns

    async def sleep(self, duration_ns: int) -> None:
        """Wait for that long."""
        if duration_ns < 0:
            raise ValueError(f"cannot sleep for {duration_ns} ns")
        await asyncio.sleep(duration_ns / _NS)

    @property
    def lags(self) -> bool:
        """Always: what others did meanwhile is seen by letting them run."""
        return True

    async def checkpoint(self) -> None:
        """Let the loop's other tasks run."""
        await asyncio.sleep(0)

    async def wait(self, *sources: Source, deadline_ns: int | None = None) -> bool:
        """Wait until one of the sources is ready: True; or until the deadline has passed: False."""
        descriptors: list[int] = []
        watched: list[Watchable] = []
        for source in sources:
            descriptor = getattr(source, "fd", None)
            if isinstance(descriptor, int):
                descriptors.append(descriptor)
            else:
                watched.append(cast(Watchable, source))
        if any(each.ready for each in watched) or self._readable(descriptors):
            return True
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[bool] = loop.create_future()

        def wake(ready: bool = True) -> None:
            if not woken.done():
                woken.set_result(ready)

        timer = None
        if deadline_ns is not None:
            left_ns = deadline_ns - self.now_ns()
            if left_ns <= 0:
                await asyncio.sleep(0)
                return any(each.ready for each in watched) or self._readable(descriptors)
            timer = loop.call_later(left_ns / _NS, wake, False)
        try:
            for descriptor in descriptors:
                loop.add_reader(descriptor, wake)
            for each in watched:
                each.add_waiter(wake)
            return await woken
        finally:
            for descriptor in descriptors:
                loop.remove_reader(descriptor)
            for each in watched:
                each.remove_waiter(wake)
            if timer is not None:
                timer.cancel()

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> RdmaTask:
        """Run a coroutine beside the caller."""
        return RdmaTask(asyncio.get_running_loop().create_task(coroutine, name=name))

    def signal(self) -> RdmaSignal:
        """A new signal, not set."""
        return RdmaSignal()

    def work(self, kind: Work, count: int) -> None:
        """Nothing: real work takes its time by itself."""

    def _readable(self, descriptors: list[int]) -> bool:
        for descriptor in descriptors:
            self._poller.register(descriptor, select.POLLIN)
            ready = self._poller.poll(0)
            self._poller.unregister(descriptor)
            if ready:
                return True
        return False
