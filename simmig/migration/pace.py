"""How far the source may walk over the bitmap before it has to do something else."""

from __future__ import annotations

from typing import Literal

from simmig.migration.config import CHUNK_PAGES

CHECK_PAGES = 64


class Pace:
    """QEMU's slice: it looks at the rate limit before every page, at the clock after its first and then every 64.

    As long as a whole chunk cannot use the slice up, going by what a page has taken so far, the looks at the clock
    on the way are left out. Whoever sends something between pages asks again whether the run `goes_on`.
    A slice as long as its round, or longer, is not `timed`: only the rate limit interrupts it.
    """

    __slots__ = ("began_ns", "slice_ns", "timed")

    def __init__(self, slice_ns: int | Literal["round"] | None) -> None:
        self.timed = isinstance(slice_ns, int)
        self.slice_ns = slice_ns if isinstance(slice_ns, int) else 0
        self.began_ns = 0

    def slice_began(self, now_ns: int) -> None:
        """A slice begins."""
        self.began_ns = now_ns

    def pages(self, now_ns: int, saved_pages: int, allowed_pages: int) -> int:
        """How many pages may follow in one run, where the rate limit allows so many; 0 ends the slice."""
        if not self.timed:
            return min(allowed_pages, CHUNK_PAGES)
        if not (allowed_pages and saved_pages):
            return min(allowed_pages, 1)
        if self.goes_on(now_ns, saved_pages):
            return min(allowed_pages, CHUNK_PAGES)
        to_look = (1 - saved_pages) % CHECK_PAGES
        if not to_look and now_ns - self.began_ns <= self.slice_ns:
            to_look = CHECK_PAGES
        return min(allowed_pages, to_look)

    def goes_on(self, now_ns: int, saved_pages: int) -> bool:
        """Whether the slice has room for a whole chunk, going by what a page has taken so far."""
        elapsed_ns = now_ns - self.began_ns
        return not self.timed or elapsed_ns + elapsed_ns * CHUNK_PAGES // saved_pages <= self.slice_ns
