"""How far the source may walk over the bitmap before it has to do something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from simmig.migration.config import CHUNK_PAGES
from simmig.migration.convergence import Convergence
from simmig.migration.rate_limit import RateLimit
from simmig.verbs.runtime import Runtime

CHECK_PAGES = 64


def is_early(elapsed_ns: int, saved_pages: int, slice_ns: int) -> bool:
    """Whether a slice has room for a whole chunk, going by what a page has taken so far."""
    return elapsed_ns + elapsed_ns * CHUNK_PAGES // saved_pages <= slice_ns


def until_look(elapsed_ns: int, saved_pages: int, slice_ns: int) -> int:
    """How many pages may follow until the next look at the clock, late in a slice; 0 when it is over."""
    to_look = (1 - saved_pages) % CHECK_PAGES
    if to_look:
        return to_look
    return 0 if elapsed_ns > slice_ns else CHECK_PAGES


def pages_now(allowed_pages: int, saved_pages: int, elapsed_ns: int, slice_ns: int) -> int:
    """How many pages may follow in a slice, where the rate limit allows so many."""
    if not (allowed_pages and saved_pages):
        return min(allowed_pages, 1)
    if is_early(elapsed_ns, saved_pages, slice_ns):
        return min(allowed_pages, CHUNK_PAGES)
    return min(allowed_pages, until_look(elapsed_ns, saved_pages, slice_ns))


class Pace(Protocol):
    """How one stretch of the walk is paced."""

    def __call__(self, saved_pages: int) -> int:
        """From the pages saved so far in this stretch to how many may follow in one run; 0 ends the stretch."""
        ...

    def goes_on(self, saved_pages: int) -> bool:
        """Whether a run granted before something was sent may still go on beyond its first page."""
        ...


class Unpaced:
    """Nothing ends it but the last page: the guest stands still."""

    def __call__(self, saved_pages: int) -> int:
        """A chunk at a time."""
        return CHUNK_PAGES

    def goes_on(self, saved_pages: int) -> bool:
        """Always."""
        return True


class LongSlice:
    """A slice that no clock ends: only the rate limit interrupts it, and estimates are made on the way."""

    def __init__(
        self, runtime: Runtime, convergence: Convergence, rate: RateLimit, estimate: Callable[[], None]
    ) -> None:
        self._runtime = runtime
        self._convergence = convergence
        self._rate = rate
        self._estimate = estimate

    def __call__(self, saved_pages: int) -> int:
        """As many as the rate limit allows."""
        now_ns = self._runtime.now_ns()
        if self._convergence.due(now_ns):
            self._estimate()
        return 0 if self._rate.is_over(now_ns) else min(CHUNK_PAGES, self._rate.pages_left(saved_pages))

    def goes_on(self, saved_pages: int) -> bool:
        """Unless what was sent uses the window up."""
        return self._rate.pages_left(saved_pages) > 0


class TimedSlice:
    """QEMU's slice: it looks at the rate limit before every page, at the clock after its first and then every 64.

    As long as a whole chunk cannot use the slice up, going by what a page has taken so far, the looks at the clock
    on the way are left out. Whoever sends something between pages asks again whether the run `goes_on`.
    """

    def __init__(self, runtime: Runtime, rate: RateLimit, slice_ns: int) -> None:
        self._runtime = runtime
        self._rate = rate
        self._began_ns = runtime.now_ns()
        self._slice_ns = slice_ns

    def __call__(self, saved_pages: int) -> int:
        """How many pages may follow."""
        elapsed_ns = self._runtime.now_ns() - self._began_ns
        return pages_now(self._rate.pages_left(saved_pages), saved_pages, elapsed_ns, self._slice_ns)

    def goes_on(self, saved_pages: int) -> bool:
        """Whether neither the slice nor the rate limit can end within a chunk."""
        elapsed_ns = self._runtime.now_ns() - self._began_ns
        early = is_early(elapsed_ns, saved_pages, self._slice_ns)
        return early and self._rate.pages_left(saved_pages) > 0
