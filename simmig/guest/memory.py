"""Guest memory as page contents: four bytes that stand for a page, and nothing for what is untouched.

A page whose 1024 little-endian words are all the same is kept as that word, its content id: 0 is the zero page,
the ids a machine starts with number its pages, every write of the guest makes an id of its own. So equal ids mean
equal bytes, and memory put in the wrong place is seen as surely as memory not put at all. Any other page ("odd":
somebody wrote bytes of their own into it) keeps its bytes beside. What nobody has written since the machine began
is not stored but computed, chunk by chunk, which is why an idle terabyte costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simmig.guest.api import PAGE_BYTES

CHUNK_PAGES = 256
"""Pages whose contents are computed or stored together: 1 MiB, as the migration's chunks."""

ODD = 0xFFFFFFFF
"""Stands for a page that is not one word over and over: its bytes are kept apart."""

_WORDS = PAGE_BYTES // 4
_COMPARE_PAGES = 1 << 16  # a quarter megabyte of ids at a time: no temporaries to speak of
_FILL_CHUNKS = 1 << 12  # 4 MiB of ids at a time
_RAMP_PAGES = 16 * CHUNK_PAGES  # initial contents computed at once: chunks are mostly read in order
_ZEROS = np.zeros(CHUNK_PAGES, dtype=np.uint32)

Ids = NDArray[np.uint32]


class PagePayload:
    """Whole pages as they were when they were read: what a device carries instead of their bytes.

    `ids` are the content ids, one a page, never written to again; `odd` the bytes of odd pages by their index.
    """

    __slots__ = ("ids", "length_bytes", "odd")

    def __init__(self, ids: Ids, pages: int, odd: dict[int, bytes] | None = None) -> None:
        self.ids = ids
        self.length_bytes = pages * PAGE_BYTES
        self.odd = odd

    def to_bytes(self) -> bytes:
        """The pages' bytes."""
        odd = self.odd
        if not odd:
            return np.repeat(self.ids.astype("<u4"), _WORDS).tobytes()
        return b"".join(
            odd.get(page) or int(word).to_bytes(4, "little") * _WORDS for page, word in enumerate(self.ids)
        )

    def part(self, start: int, length: int) -> PagePayload | bytes:
        """A stretch of it, offset and length in bytes: bytes unless it is made of whole pages."""
        first = start // PAGE_BYTES
        end = -(-(start + length) // PAGE_BYTES)
        odd = {page - first: data for page, data in self.odd.items() if first <= page < end} if self.odd else None
        pages = PagePayload(self.ids[first:end], end - first, odd)
        if start % PAGE_BYTES == 0 and length % PAGE_BYTES == 0:
            return pages
        skip = start - first * PAGE_BYTES
        return pages.to_bytes()[skip : skip + length]


class BlockMemory:
    """The contents of one RAM block. `ids` is its window of the machine's array, all zero (untouched) at first.

    Page p begins with content id `first_id + p` below page `zero_from`, as a zero page from there on.
    """

    __slots__ = ("_odd", "_ramp", "_ramp_first", "_stored", "first_id", "ids", "pages", "zero_from")

    def __init__(self, ids: Ids, first_id: int, zero_from: int) -> None:
        self.ids = ids
        self.pages = len(ids)
        self.first_id = first_id
        self.zero_from = zero_from
        self._stored = bytearray(-(-self.pages // CHUNK_PAGES))  # 1: the chunk's contents are in `ids`
        self._ramp = _ZEROS
        self._ramp_first = -_RAMP_PAGES  # none yet
        self._odd: dict[int, bytes] = {}  # counts only where `ids` says ODD

    def contents(self, first: int, count: int) -> Ids:
        """The content ids of these pages: a window of the memory itself where all is stored, else computed."""
        end = first + count
        if self._stored.find(0, first // CHUNK_PAGES, -(-end // CHUNK_PAGES)) < 0:
            return self.ids[first:end]
        result = np.zeros(count, dtype=np.uint32)
        last = -(-end // CHUNK_PAGES)
        chunk = first // CHUNK_PAGES
        while chunk < last:  # from one run of chunks, stored or not, to the next
            stored = self._stored[chunk]
            stop = self._stored.find(1 - stored, chunk, last)
            stop = last if stop < 0 else stop
            low = max(first, chunk * CHUNK_PAGES)
            high = min(end, stop * CHUNK_PAGES)
            if stored:
                result[low - first : high - first] = self.ids[low:high]
            elif low < self.zero_from:
                high = min(high, self.zero_from)
                result[low - first : high - first] = np.arange(
                    self.first_id + low, self.first_id + high, dtype=np.uint32
                )
            chunk = stop
        return result

    def _initial(self, first: int, end: int) -> Ids:
        """What these pages of one chunk began with."""
        if first >= self.zero_from:
            return _ZEROS[: end - first]
        start = first - self._ramp_first
        if not 0 <= start < _RAMP_PAGES:
            self._ramp_first = first - first % _RAMP_PAGES
            start = first - self._ramp_first
            first_id = self.first_id + self._ramp_first
            self._ramp = np.arange(first_id, first_id + _RAMP_PAGES, dtype=np.uint32)
        return self._ramp[start : start + end - first]

    def read(self, first: int, count: int) -> PagePayload:
        """A snapshot of these pages."""
        chunk = first // CHUNK_PAGES
        end = first + count
        if end > (chunk + 1) * CHUNK_PAGES:
            ids = self.contents(first, count).copy()
        elif self._stored[chunk]:
            ids = self.ids[first:end].copy()
        else:
            return PagePayload(self._initial(first, end), count)
        odd = {page - first: self._odd[page] for page in self._odd_pages(first, count)} if self._odd else None
        return PagePayload(ids, count, odd)

    def write(self, first: int, payload: PagePayload) -> None:
        """Put whole pages there."""
        ids = payload.ids
        end = first + len(ids)
        chunk = first // CHUNK_PAGES
        if end > (chunk + 1) * CHUNK_PAGES:
            self.store(first, end)
        elif not self._stored[chunk]:
            if end - first < CHUNK_PAGES:
                self.store(first, end)
            self._stored[chunk] = 1
        self.ids[first:end] = ids
        if self._odd:
            self._forget_odd(first, end)
        if payload.odd:
            self._odd.update((first + page, data) for page, data in payload.odd.items())

    def read_bytes(self, offset: int, length: int) -> bytes:
        """Any stretch of the block, as bytes."""
        first = offset // PAGE_BYTES
        count = -(-(offset + length) // PAGE_BYTES) - first
        skip = offset - first * PAGE_BYTES
        return self.read(first, count).to_bytes()[skip : skip + length]

    def write_bytes(self, offset: int, data: bytes) -> None:
        """Put bytes anywhere. Pages that are one word over and over afterwards become their content id again."""
        first = offset // PAGE_BYTES
        end = -(-(offset + len(data)) // PAGE_BYTES)
        head = offset - first * PAGE_BYTES
        tail = end * PAGE_BYTES - offset - len(data)
        if head or tail:
            around = self.read_bytes(first * PAGE_BYTES, (end - first) * PAGE_BYTES)
            data = around[:head] + data + around[len(around) - tail :]
        words = np.frombuffer(data, dtype="<u4").reshape(end - first, _WORDS)
        plain = (words == words[:, :1]).all(axis=1) & (words[:, 0] != ODD)
        ids = np.where(plain, words[:, 0], np.uint32(ODD)).astype(np.uint32)
        odd = {int(page): words[page].tobytes() for page in np.flatnonzero(~plain)}
        self.write(first, PagePayload(ids, end - first, odd))

    def clear(self, first: int, count: int) -> None:
        """Make these pages zero pages."""
        if not self._is_untouched_zero(first, first + count):
            self.store(first, first + count)
            self.ids[first : first + count] = 0

    def is_zero(self, first: int, count: int) -> bool:
        """Whether all of these pages are zero pages."""
        chunk = first // CHUNK_PAGES
        if first + count <= (chunk + 1) * CHUNK_PAGES and not self._stored[chunk]:
            return first >= self.zero_from
        return not self.contents(first, count).any()

    def store(self, first: int, end: int) -> None:
        """Have the contents of every chunk that these pages touch in `ids`, so that it can be written."""
        last = -(-end // CHUNK_PAGES)
        chunk = self._stored.find(0, first // CHUNK_PAGES, last)
        while chunk >= 0:
            stop = self._stored.find(1, chunk, last)
            stop = min(last if stop < 0 else stop, chunk + _FILL_CHUNKS)
            low = chunk * CHUNK_PAGES
            high = min(stop * CHUNK_PAGES, self.zero_from)
            if low < high:
                self.ids[low:high] = np.arange(self.first_id + low, self.first_id + high, dtype=np.uint32)
            self._stored[chunk:stop] = b"\x01" * (stop - chunk)
            chunk = self._stored.find(0, stop, last)

    def _is_untouched_zero(self, first: int, end: int) -> bool:
        untouched = self._stored.find(1, first // CHUNK_PAGES, -(-end // CHUNK_PAGES)) < 0
        return first >= self.zero_from and untouched

    def _odd_pages(self, first: int, count: int) -> list[int]:
        return sorted(page for page in self._odd if first <= page < first + count and self.ids[page] == ODD)

    def _forget_odd(self, first: int, end: int) -> None:
        span = range(first, end)
        for page in [page for page in self._odd if page in span] if len(self._odd) < len(span) else span:
            self._odd.pop(page, None)

    def count_different(self, other: BlockMemory, excluded: NDArray[np.bool_] | None) -> int:
        """Compare with another block of that length, page by page, leaving out the pages flagged in `excluded`."""
        different = 0
        for first in range(0, self.pages, _COMPARE_PAGES):
            count = min(_COMPARE_PAGES, self.pages - first)
            unequal = self.contents(first, count) != other.contents(first, count)
            for page in self._odd_pages(first, count) if self._odd else ():
                # Two odd pages have one id and still may differ.
                unequal[page - first] |= other.ids[page] != ODD or self._odd[page] != other._odd[page]
            if excluded is not None:
                unequal &= ~excluded[first : first + count]
            different += int(np.count_nonzero(unequal))
        return different


class MachineMemory:
    """All RAM blocks of a machine, laid end to end in the machine's own order."""

    __slots__ = ("blocks", "firsts", "ids", "pages")

    def __init__(self, block_pages: Sequence[int], zero_from: Sequence[int]) -> None:
        self.pages = sum(block_pages)
        self.ids: Ids = np.zeros(self.pages, dtype=np.uint32)
        self.blocks: list[BlockMemory] = []
        self.firsts: list[int] = []
        first = 0
        for pages, zero_page in zip(block_pages, zero_from, strict=True):
            self.firsts.append(first)
            self.blocks.append(BlockMemory(self.ids[first : first + pages], first + 1, zero_page))
            first += pages

    def store(self, first: int, end: int) -> None:
        """Have the contents of these pages in `ids`, so that they can be written there."""
        for block_first, block in zip(self.firsts, self.blocks, strict=True):
            low = max(first - block_first, 0)
            high = min(end - block_first, block.pages)
            if low < high:
                block.store(low, high)
