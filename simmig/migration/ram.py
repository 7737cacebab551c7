"""RAM blocks, chunks and the dirty bitmap as the source walks it.

Page numbers count through all blocks laid end to end; chunk 0 of a block starts at the block's start.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simmig.guest.api import RamBlock
from simmig.migration.config import CHUNK_PAGES

WINDOW_PAGES = 256 * CHUNK_PAGES
"""Pages whose runs are worked out at a time: enough to spread numpy's overhead, too few to hold memory."""


class BlockIndex:
    """Finds the block that a page lies in."""

    def __init__(self, blocks: Sequence[RamBlock]) -> None:
        self._first_pages = [block.first_page for block in blocks]
        self.pages = sum(block.pages for block in blocks)

    def block_of(self, page: int) -> int:
        """Index of the block that holds `page`."""
        return bisect_right(self._first_pages, page) - 1


class DirtyBitmap:
    """The pages still to be sent, walked in page order, round and round.

    A run is a stretch of dirty pages within one chunk. `take` hands out runs and clears their bits; `bits` may
    otherwise change only in a bitmap sync, after which `rescan` must be called.
    """

    def __init__(self, blocks: Sequence[RamBlock]) -> None:
        self._index = BlockIndex(blocks)
        self._blocks = blocks
        self.bits: NDArray[np.bool_] = np.ones(self._index.pages, dtype=np.bool_)
        self.dirty_pages = self._index.pages
        self._cursor = 0  # first page of the next window
        self._runs: list[tuple[int, int]] = []  # runs of the current window, last first
        self._position = 0  # page behind the last one handed out

    def rescan(self) -> None:
        """The bits changed: count them again and go on from the page behind the last one handed out."""
        self.dirty_pages = int(np.count_nonzero(self.bits))
        self._runs = []
        self._cursor = self._position

    def take(self, limit_pages: int) -> tuple[int, int] | None:
        """The next run, at most `limit_pages` long, as (first page, count); None when no page is dirty."""
        if not self._runs and not self._next_window():
            return None
        first, count = self._runs.pop()
        if count > limit_pages:
            self._runs.append((first + limit_pages, count - limit_pages))
            count = limit_pages
        self._position = first + count
        self.bits[first : first + count] = False
        self.dirty_pages -= count
        return first, count

    def put_back(self, first_page: int, count: int) -> None:
        """The end of the run taken last is to be taken again."""
        self._runs.append((first_page, count))
        self._position = first_page
        self.bits[first_page : first_page + count] = True
        self.dirty_pages += count

    def upcoming_chunks(self, page: int, limit: int) -> list[tuple[int, int]]:
        """Chunks with dirty pages behind `page`'s chunk, in walking order up to the end of RAM: (block, chunk)."""
        found: list[tuple[int, int]] = []
        block = self._index.block_of(page)
        chunk = (page - self._blocks[block].first_page) // CHUNK_PAGES + 1
        while len(found) < limit and block < len(self._blocks):
            ram = self._blocks[block]
            first = ram.first_page + chunk * CHUNK_PAGES
            end = ram.first_page + ram.pages
            while first < end and len(found) < limit:
                if self.bits[first : min(first + CHUNK_PAGES, end)].any():
                    found.append((block, (first - ram.first_page) // CHUNK_PAGES))
                first += CHUNK_PAGES
            block, chunk = block + 1, 0
        return found

    def _next_window(self) -> bool:
        if not self.dirty_pages:
            return False
        while True:  # some page is dirty: one full walk finds it
            if self._cursor >= self._index.pages:
                self._cursor = 0
            block = self._blocks[self._index.block_of(self._cursor)]
            first = self._cursor
            end = min(first + WINDOW_PAGES, block.first_page + block.pages)
            self._cursor = end
            window = self.bits[first:end]
            if window.any():
                self._runs = _runs(window, first, (first - block.first_page) % CHUNK_PAGES)
                return True


class HeldRun:
    """Pages held back, so that what follows them in the same chunk goes with them: what becomes one write."""

    __slots__ = ("block_end", "block_first", "chunk", "chunk_end", "chunk_first", "count", "first")

    def __init__(self) -> None:
        self.block_first = self.block_end = self.chunk = self.chunk_first = self.chunk_end = 0
        self.first = self.count = 0

    def merge(self, first_page: int, count: int) -> bool:
        """Add a run of one chunk of the block that was entered; False when what is held has to go first."""
        if not self.count:
            self.chunk = (first_page - self.block_first) // CHUNK_PAGES
            self.chunk_first = self.block_first + self.chunk * CHUNK_PAGES
            self.chunk_end = min(self.chunk_first + CHUNK_PAGES, self.block_end)
            self.first = first_page
        elif first_page != self.first + self.count or first_page == self.chunk_end:
            return False
        self.count += count
        return True

    def is_left_by(self, first_page: int) -> bool:
        """Whether going on with that page leaves the chunk."""
        return not self.chunk_first <= first_page < self.chunk_end


def runs_of(flags: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Stretches of flags that are set, as (first, count)."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return tuple((first, end - first) for first, end in edges.reshape(-1, 2).tolist())


def _runs(window: NDArray[np.bool_], first: int, phase: int) -> list[tuple[int, int]]:
    """Runs of set bits cut at chunk ends, last first. `phase`: pages between the last chunk start and `first`."""
    starts = window.copy()
    starts[1:] &= ~window[:-1]
    ends = window.copy()
    ends[:-1] &= ~window[1:]
    to_chunk = -phase % CHUNK_PAGES
    starts[to_chunk::CHUNK_PAGES] |= window[to_chunk::CHUNK_PAGES]
    to_end = CHUNK_PAGES - 1 - phase
    ends[to_end::CHUNK_PAGES] |= window[to_end::CHUNK_PAGES]
    start = np.flatnonzero(starts)[::-1]
    count = np.flatnonzero(ends)[::-1] - start + 1
    return list(zip((start + first).tolist(), count.tolist(), strict=True))
