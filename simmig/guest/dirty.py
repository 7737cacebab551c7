"""The dirty log: which pages were written since it was last asked."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_MERGE_PAGES = 1 << 20  # merged at once: a megabyte of temporaries

Flags = NDArray[np.bool_]


def spread_marks(flags: Flags, unit_pages: int) -> None:
    """Turn on all flags of each unit, counted from the first flag, that has one on; the last unit may be short."""
    whole = len(flags) // unit_pages * unit_pages
    units = flags[:whole].reshape(-1, unit_pages)
    units[units.any(axis=1)] = True
    flags[whole:] |= flags[whole:].any()


class DirtyLog:
    """One flag a page. It remembers between which pages it was ever marked and looks no further."""

    __slots__ = ("_end", "_first", "_flags")

    def __init__(self, pages: int) -> None:
        self._flags: Flags = np.zeros(pages, dtype=np.bool_)
        self._first = pages
        self._end = 0

    def widen(self, first: int, end: int) -> None:
        """Announce that pages between these two may be marked."""
        self._first = min(self._first, first)
        self._end = max(self._end, end)

    def mark(self, pages: NDArray[np.int64] | slice) -> None:
        """Mark pages, all of them announced."""
        self._flags[pages] = True

    def forget(self, pages: Flags) -> None:
        """Unmark the pages flagged there."""
        marked = self._flags[self._first : self._end]
        np.greater(marked, pages[self._first : self._end], out=marked)  # the one and not the other

    def spread(self, blocks: Iterable[tuple[int, int]], unit_pages: int) -> None:
        """Mark all of each unit that has a mark. Units count from the start of each block (first page, pages)."""
        first, end = self._first, self._end
        for block, pages in blocks:
            low = block + max(0, first - block) // unit_pages * unit_pages
            high = min(block + pages, block + -(-(end - block) // unit_pages) * unit_pages)
            if low >= high:
                continue
            self.widen(low, high)
            spread_marks(self._flags[low:high], unit_pages)

    def merge(self, bitmap: Flags, first: int) -> int:
        """Move the marks of the pages from `first` on into `bitmap`; returns how many bits turned on."""
        turned_on = 0
        end = min(self._end, first + len(bitmap))
        for low in range(max(self._first, first), end, _MERGE_PAGES):
            high = min(low + _MERGE_PAGES, end)
            marked = self._flags[low:high]
            merged = bitmap[low - first : high - first]
            turned_on += int(np.count_nonzero(marked > merged))
            merged |= marked
            marked[:] = False
        return turned_on
