"""The walk over the dirty bitmap, held against a page-by-page one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simmig.guest.api import PAGE_BYTES, RamBlock
from simmig.migration import ram
from simmig.migration.config import CHUNK_PAGES


def blocks_of(sizes: list[int]) -> list[RamBlock]:
    blocks, first = [], 0
    for index, pages in enumerate(sizes):
        blocks.append(RamBlock(f"b{index}", 0, pages * PAGE_BYTES, first * PAGE_BYTES, first))
        first += pages
    return blocks


def chunk_of(blocks: list[RamBlock], page: int) -> tuple[int, int]:
    for index, block in enumerate(blocks):
        if block.first_page <= page < block.first_page + block.pages:
            return index, (page - block.first_page) // CHUNK_PAGES
    raise AssertionError(page)


sizes = st.lists(st.integers(1, 3 * CHUNK_PAGES), min_size=1, max_size=4)


@given(sizes, st.data())
def test_every_dirty_page_is_taken_once_in_order_and_runs_stay_in_their_chunk(
    pages: list[int], data: st.DataObject
) -> None:
    blocks = blocks_of(pages)
    bitmap = ram.DirtyBitmap(blocks)
    seed = data.draw(st.integers(0, 2**32))
    density = data.draw(st.sampled_from([0.01, 0.5, 0.99, 1.0]))
    dirty = np.random.default_rng(seed).random(sum(pages)) < density
    bitmap.bits[:] = dirty
    bitmap.rescan()
    taken: list[int] = []
    while (run := bitmap.take(data.draw(st.integers(1, CHUNK_PAGES)))) is not None:
        first, count = run
        assert chunk_of(blocks, first) == chunk_of(blocks, first + count - 1)
        taken.extend(range(first, first + count))
        assert bitmap.dirty_pages == int(dirty.sum()) - len(taken)
    assert taken == np.flatnonzero(dirty).tolist()
    assert not bitmap.bits.any()


def test_after_a_sync_the_walk_goes_on_behind_the_last_run_and_wraps() -> None:
    bitmap = ram.DirtyBitmap(blocks_of([2 * CHUNK_PAGES]))
    assert bitmap.take(10) == (0, 10)
    bitmap.bits[:] = False
    bitmap.bits[[3, 100, 300]] = True
    bitmap.rescan()
    assert [bitmap.take(CHUNK_PAGES) for _ in range(4)] == [(100, 1), (300, 1), (3, 1), None]


def test_runs_are_maximal_within_a_chunk() -> None:
    bitmap = ram.DirtyBitmap(blocks_of([CHUNK_PAGES + 5, 7]))
    runs = []
    while (run := bitmap.take(CHUNK_PAGES)) is not None:
        runs.append(run)
    assert runs == [(0, CHUNK_PAGES), (CHUNK_PAGES, 5), (CHUNK_PAGES + 5, 7)]


@given(sizes, st.data())
def test_upcoming_chunks_are_those_a_page_by_page_look_finds(pages: list[int], data: st.DataObject) -> None:
    blocks = blocks_of(pages)
    bitmap = ram.DirtyBitmap(blocks)
    bitmap.bits[:] = np.random.default_rng(data.draw(st.integers(0, 99))).random(sum(pages)) < 0.003
    page = data.draw(st.integers(0, sum(pages) - 1))
    limit = data.draw(st.integers(1, 6))
    seen: list[tuple[int, int]] = []
    for dirty in np.flatnonzero(bitmap.bits).tolist():
        chunk = chunk_of(blocks, dirty)
        if chunk > chunk_of(blocks, page) and chunk not in seen:
            seen.append(chunk)
    assert bitmap.upcoming_chunks(page, limit) == seen[:limit]
