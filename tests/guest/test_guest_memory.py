from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simmig.guest.memory import CHUNK_PAGES, ODD, BlockMemory, MachineMemory, PagePayload

PAGE = 4096
PAGES = 2 * CHUNK_PAGES + 40  # a block that ends in a part of a chunk


def block(zero_from: int, first_id: int = 1) -> BlockMemory:
    return BlockMemory(np.zeros(PAGES, dtype=np.uint32), first_id, zero_from)


def word_page(word: int) -> bytes:
    return struct.pack("<I", word) * (PAGE // 4)


class SlowMemory:
    """Every page's bytes, in a dictionary."""

    def __init__(self, zero_from: int) -> None:
        self.pages = {page: word_page(page + 1 if page < zero_from else 0) for page in range(PAGES)}

    def read(self, offset: int, length: int) -> bytes:
        first, end = offset // PAGE, -(-(offset + length) // PAGE)
        data = b"".join(self.pages[page] for page in range(first, end))
        return data[offset - first * PAGE :][:length]

    def write(self, offset: int, data: bytes) -> None:
        first, end = offset // PAGE, -(-(offset + len(data)) // PAGE)
        around = bytearray(self.read(first * PAGE, (end - first) * PAGE))
        around[offset - first * PAGE : offset - first * PAGE + len(data)] = data
        for page in range(first, end):
            self.pages[page] = bytes(around[(page - first) * PAGE :][:PAGE])


page_runs = st.integers(0, PAGES - 1).flatmap(
    lambda first: st.tuples(st.just(first), st.integers(1, min(PAGES - first, 300)))
)
bytes_at = st.tuples(
    st.integers(0, PAGES * PAGE - 3 * PAGE),
    st.one_of(
        st.binary(min_size=1, max_size=40),
        st.integers(1, 3 * PAGE).map(lambda length: b"\0" * length),
        st.integers(1, 3 * PAGE).map(lambda length: b"\xff" * length),
    ),
)
words_at = st.tuples(st.integers(0, PAGES - 1), st.sampled_from([0, 1, 7, ODD - 1, ODD]))
operations = st.lists(
    st.one_of(
        st.tuples(st.just("bytes"), bytes_at),
        st.tuples(st.just("word"), words_at),
        st.tuples(st.just("clear"), page_runs),
        st.tuples(st.just("store"), page_runs),
        st.tuples(st.just("copy"), st.tuples(page_runs, st.integers(0, PAGES))),
    ),
    max_size=12,
)


def apply(memory: BlockMemory, slow: SlowMemory, operation: str, argument: object) -> None:
    assert isinstance(argument, tuple)
    if operation == "bytes":
        memory.write_bytes(*argument)
        slow.write(*argument)
    elif operation == "word":
        memory.write_bytes(argument[0] * PAGE, word_page(argument[1]))
        slow.write(argument[0] * PAGE, word_page(argument[1]))
    elif operation == "clear":
        memory.clear(*argument)
        slow.write(argument[0] * PAGE, bytes(argument[1] * PAGE))
    elif operation == "store":
        memory.store(argument[0], argument[0] + argument[1])
    else:
        (first, count), target = argument
        target = min(target, PAGES - count)
        data = slow.read(first * PAGE, count * PAGE)
        memory.write(target, memory.read(first, count))
        slow.write(target * PAGE, data)


@settings(max_examples=60)
@given(zero_from=st.sampled_from([0, CHUNK_PAGES, PAGES]), steps=operations, data=st.data())
def test_memory_is_what_bytes_would_be(
    zero_from: int, steps: list[tuple[str, object]], data: st.DataObject
) -> None:
    memory, slow = block(zero_from), SlowMemory(zero_from)
    for operation, argument in steps:
        apply(memory, slow, operation, argument)
    assert memory.read_bytes(0, PAGES * PAGE) == slow.read(0, PAGES * PAGE)
    offset = data.draw(st.integers(0, PAGES * PAGE - 1))
    length = data.draw(st.integers(1, min(PAGES * PAGE - offset, 5 * PAGE)))
    assert memory.read_bytes(offset, length) == slow.read(offset, length)
    first, count = data.draw(page_runs)
    assert memory.is_zero(first, count) == (not any(slow.read(first * PAGE, count * PAGE)))


@given(
    run=page_runs,
    start=st.integers(0, 3 * PAGE),
    length=st.integers(1, 3 * PAGE),
    scribble=st.booleans(),
)
def test_a_part_of_a_payload_is_that_part_of_its_bytes(
    run: tuple[int, int], start: int, length: int, scribble: bool
) -> None:
    first, count = run
    memory = block(CHUNK_PAGES)
    if scribble:
        memory.write_bytes(first * PAGE + 5, b"odd")
    payload = memory.read(first, count)
    assert payload.length_bytes == count * PAGE
    start = min(start, payload.length_bytes - 1)
    length = min(length, payload.length_bytes - start)
    part = payload.part(start, length)
    if start % PAGE == 0 and length % PAGE == 0:
        assert isinstance(part, PagePayload)
        part = part.to_bytes()
    assert part == payload.to_bytes()[start : start + length]


def test_a_snapshot_does_not_follow_the_memory() -> None:
    memory = block(PAGES)
    memory.write_bytes(5 * PAGE + 1, b"before")
    for first, count in ((0, 20), (0, PAGES), (300, 5)):
        before = memory.read_bytes(first * PAGE, count * PAGE)
        snapshot = memory.read(first, count)
        memory.write_bytes(first * PAGE + 10, b"after %d" % count)
        memory.write_bytes(5 * PAGE + 1, b"other %d" % count)
        assert snapshot.to_bytes() == before
        assert memory.read_bytes(first * PAGE, count * PAGE) != before


def test_pages_put_together_from_pieces_take_no_room_of_their_own() -> None:
    source, target = block(PAGES), block(0)
    data = source.read_bytes(0, PAGES * PAGE)
    for offset in range(0, PAGES * PAGE, 1024):
        target.write_bytes(offset, data[offset : offset + 1024])
    assert target.count_different(source, None) == 0
    assert not target._odd


def test_equal_pages_in_the_wrong_place_are_different() -> None:
    source, target = block(PAGES), block(0)
    target.write(0, source.read(0, PAGES))
    target.write(7, source.read(8, 1))
    assert source.count_different(target, None) == 1


def test_the_same_place_in_another_block_has_other_contents() -> None:
    memory = MachineMemory([4, 4], [4, 4])
    assert not set(memory.blocks[0].contents(0, 4)) & set(memory.blocks[1].contents(0, 4))


@given(
    page=st.integers(0, PAGES - 1),
    how=st.sampled_from(["byte", "clear", "word"]),
    zero_from=st.sampled_from([CHUNK_PAGES, PAGES]),
    excluded=st.booleans(),
)
def test_comparison_finds_any_single_page(page: int, how: str, zero_from: int, excluded: bool) -> None:
    source, target = block(zero_from), block(0)
    target.write(0, source.read(0, PAGES))
    assert source.count_different(target, None) == 0
    before = target.read_bytes(page * PAGE, PAGE)
    if how == "byte":
        target.write_bytes(page * PAGE + 4095, b"\1")
    elif how == "word":
        target.write_bytes(page * PAGE, word_page(123456))
    else:
        target.clear(page, 1)
    flags = np.zeros(PAGES, dtype=np.bool_)
    flags[page] = excluded
    changed = before != target.read_bytes(page * PAGE, PAGE)
    assert source.count_different(target, None) == target.count_different(source, None) == changed
    assert source.count_different(target, flags) == (changed and not excluded)


@pytest.mark.parametrize(
    ("left", "right", "different"), [(b"ab", b"ab", 0), (b"ab", b"ac", 1), (b"ab", b"\0\0", 1)]
)
def test_odd_pages_are_compared_by_their_bytes(left: bytes, right: bytes, different: int) -> None:
    one, other = block(0), block(0)
    one.write_bytes(3 * PAGE + 17, left)
    other.write_bytes(3 * PAGE + 17, right)
    assert one.count_different(other, None) == different
