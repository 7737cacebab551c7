"""The source's RAM: walking the bitmap, merging, registering, posting, as `migration.ram` and `ram_writer`."""

from __future__ import annotations

from typing import Any

import numpy as np

from simmig.experiment.leap import meter, record
from simmig.experiment.leap.control import answered, send_message, send_request, wait
from simmig.experiment.leap.guest import is_zero
from simmig.experiment.leap.lane import REGISTER_REQUEST, REGISTER_RESULT, has_room, now_of
from simmig.experiment.leap.peer import COMPRESS, key_of
from simmig.experiment.leap.state import (
    DATA_PAGES,
    NONE,
    POLLED,
    ROOM,
    SENDS,
    WRITE,
    ZERO_PAGES,
    Memory,
    compiled,
)
from simmig.experiment.leap.wire import post
from simmig.migration.config import CHUNK_PAGES
from simmig.migration.control import PATIENCE_NS
from simmig.migration.lane import KIND_WRITE
from simmig.migration.ram import WINDOW_PAGES
from simmig.migration.ram_writer import BLOCK_SHIFT, CHUNK_SHIFT

_PAGE_BYTES = 4096
_COMPRESS_BYTES, _REGISTER_BYTES = 24, 24
_ALL = np.uint64(0x0101010101010101)
_NO = np.uint64(0)


@compiled
def block_of(m: Memory, page: int) -> int:
    """The block that a page lies in."""
    block = 0
    while page >= m.block_end[block]:
        block += 1
    return block


@compiled
def take(s: Any, m: Memory, limit: int) -> int:
    """The next run of dirty pages in one chunk, no longer than `limit`: its length, its first page in `position`.

    0 when no page is dirty. Runs also end where windows do that the event model works out at a time.
    """
    while True:
        page = s.scan_at
        end = s.window_end
        while page < end:
            if page & 7 == 0 and m.page_words[page >> 3] == _NO:
                page += 8
            elif m.pages[page]:
                break
            else:
                page += 1
        if page < end:
            break
        if not s.dirty:
            s.scan_at = end
            return 0
        if s.cursor >= s.page_count:
            s.cursor = 0
        s.scan_at = s.cursor
        s.window_end = s.cursor = min(s.cursor + WINDOW_PAGES, m.block_end[block_of(m, s.cursor)])
    block = s.block if s.held.block_first <= page < s.held.block_end else block_of(m, page)
    into = (page - m.block_first[block]) % CHUNK_PAGES
    end = min(end, page - into + CHUNK_PAGES, page + limit)
    if page < s.cut_at:
        end = min(end, s.cut_at)
    after = page
    while after < end:
        if after & 7 == 0 and after + 8 <= end and m.page_words[after >> 3] == _ALL:
            m.page_words[after >> 3] = _NO
            after += 8
        elif m.pages[after]:
            m.pages[after] = 0
            after += 1
        else:
            break
    s.scan_at = s.position = after
    s.dirty -= after - page
    return after - page


@compiled
def put_back(s: Any, m: Memory, first: int, count: int) -> None:
    """The end of the run taken last is to be taken again, by itself."""
    s.scan_at = s.position = first
    s.cut_at = first + count
    for page in range(first, first + count):
        m.pages[page] = 1
    s.dirty += count


@compiled
def merge(s: Any, m: Memory, first: int, count: int) -> bool:
    """Add a run of one chunk to the run held back; False when it has to be flushed first."""
    held = s.held
    if not (held.count or held.block_first <= first < held.block_end):
        s.block = block_of(m, first)
        held.block_first = m.block_first[s.block]
        held.block_end = m.block_end[s.block]
    return held.merge(first, count)


@compiled
def _send_zero(s: Any) -> None:
    count = s.held.count
    s.held.count = 0
    t = now_of(s, 0)
    record.wide(s, record.SAVED_ZERO, t, s.held.first, count, s.writes, 0, 0)
    meter.pages_saved(s, ZERO_PAGES, t, count)
    send_message(s, COMPRESS, _COMPRESS_BYTES, count)


@compiled
def _pages_of(m: Memory, block: int, chunk: int) -> int:
    """How many pages a block's chunk has."""
    return min(CHUNK_PAGES, m.block_end[block] - m.block_first[block] - chunk * CHUNK_PAGES)


@compiled
def _gather(s: Any, m: Memory) -> None:
    """Add the next chunks with dirty pages that are neither registered nor zero to the batch."""
    block = s.block
    chunk = s.held.chunk + 1
    found = 0
    while found < s.registration_batch - 1 and block < len(m.block_first):
        first = m.block_first[block] + chunk * CHUNK_PAGES
        if first >= m.block_end[block]:
            block, chunk = block + 1, 0
            continue
        count = _pages_of(m, block, chunk)
        if m.pages[first : first + count].any():
            found += 1
            index = m.block_chunk[block] + chunk
            if not m.known[index] and not is_zero(s, m, first, count):
                m.order[s.registered + s.batch_count] = index
                s.batch[s.batch_count] = count
                s.batch_block[s.batch_count], s.batch_chunk[s.batch_count] = block, chunk
                s.batch_count += 1
        chunk += 1


@compiled
def _register(s: Any, m: Memory) -> None:
    """Have the chunk registered on both ends, with up to a batch's worth of those coming next."""
    m.order[s.registered] = m.block_chunk[s.block] + s.held.chunk
    s.batch[0] = s.held.chunk_end - s.held.chunk_first
    s.batch_block[0], s.batch_chunk[0] = s.block, s.held.chunk
    s.batch_count = 1
    if s.registration_batch > 1:
        _gather(s, m)
    wanted = s.batch_count
    send_request(s, REGISTER_REQUEST, _REGISTER_BYTES * wanted, wanted, PATIENCE_NS)
    answered(s, REGISTER_RESULT, PATIENCE_NS)
    for i in range(wanted):
        s.debt[0] += s.register[0] + s.batch[i] * s.register_page[0]
        chunk = m.order[s.registered + i]
        m.known[chunk] = 1
        m.place[chunk] = s.registered + i
        block, length = s.batch_block[i], s.batch[i] * _PAGE_BYTES
        key = key_of(s, s.registered + i)
        record.wide(s, record.REGISTERED, now_of(s, 0), block, s.batch_chunk[i], length, key, 0)
    s.registered += wanted


@compiled
def flush(s: Any, m: Memory) -> bool:
    """Write the run held back, whatever it takes; whether there was one."""
    held = s.held
    if not held.count:
        return False
    chunk = m.block_chunk[s.block] + held.chunk
    if s.polled[0] < m.last[chunk]:
        wait(s, 0, SENDS, POLLED, m.last[chunk], NONE)
    if not (s.pin_all or m.known[chunk]):
        if is_zero(s, m, held.first, held.count):
            _send_zero(s)
            return True
        _register(s, m)
    s.debt[0] += s.write[0]
    if not has_room(s, 0):
        wait(s, 0, SENDS, ROOM, 0, NONE)
    length = held.count * _PAGE_BYTES
    wr_id = KIND_WRITE | s.block << BLOCK_SHIFT | held.chunk << CHUNK_SHIFT
    post(s, 0, WRITE, length, 0, 0, 0, wr_id)
    m.last[chunk] = s.posted[0]
    t = now_of(s, 0)
    if s.traced:
        offset = (held.first - held.block_first) * _PAGE_BYTES
        key = key_of(s, s.block if s.pin_all else m.place[chunk])
        record.one_of(s, record.SAVED_DATA, t, held.first, held.count)
        record.wide(s, record.WRITE_POSTED, t, wr_id, length, s.block, offset, key)
    meter.pages_saved(s, DATA_PAGES, t, held.count)
    meter.write_posted(s, t, length)
    held.count = 0
    return True
