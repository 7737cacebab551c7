"""How far the source may walk over the bitmap before it has to do something else."""

from __future__ import annotations

from collections.abc import Callable

from simmig.migration.config import CHUNK_PAGES
from simmig.migration.convergence import Convergence
from simmig.verbs.runtime import Runtime

CHECK_PAGES = 64

Pace = Callable[[int], int]
"""From the pages saved so far in this stretch to how many may follow in one run; 0 ends the stretch."""


class TimedSlice:
    """QEMU's slice: it looks at the clock after its first page and then every 64 pages.

    As long as a whole chunk cannot use the slice up, going by what a page has taken so far, the looks on the way
    are left out. Whoever sends something between pages asks again whether it is still `early`.
    """

    def __init__(self, runtime: Runtime, convergence: Convergence, slice_ns: int) -> None:
        self._runtime = runtime
        self._convergence = convergence
        self._began_ns = runtime.now_ns()
        self._slice_ns = slice_ns

    def __call__(self, saved_pages: int) -> int:
        """How many pages may follow."""
        if self._convergence.exhausted:
            return 0
        if not saved_pages:
            return 1
        if self.early(saved_pages):
            return CHUNK_PAGES
        to_look = (1 - saved_pages) % CHECK_PAGES
        if to_look:
            return to_look
        return 0 if self._runtime.now_ns() - self._began_ns > self._slice_ns else CHECK_PAGES

    def early(self, saved_pages: int) -> bool:
        """Whether the slice has room for a whole chunk."""
        elapsed_ns = self._runtime.now_ns() - self._began_ns
        return elapsed_ns + elapsed_ns * CHUNK_PAGES // saved_pages <= self._slice_ns
