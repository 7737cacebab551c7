"""What the kernel says of a process's pages is the same, read or scanned, and is what was done to them."""

import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simmig.guest.api import PAGE_BYTES
from simmig.guest.qemu import pagemap
from simmig.guest.qemu.watch import kernel_knows

PAGES = 3 * pagemap._REGIONS  # more stretches than one scan can tell


@pytest.fixture(scope="module")
def own() -> Iterator[int]:
    descriptor = os.open("/proc/self/pagemap", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def touched(descriptor: int, numbers: Sequence[int], what: int) -> list[int]:
    """The pages of fresh memory that are said to be `what` once `numbers` are written."""
    with mmap.mmap(-1, PAGES * PAGE_BYTES) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        words = np.frombuffer(memory, dtype=np.uint8)
        for number in numbers:
            words[number * PAGE_BYTES] = 1
        found = pagemap.scan(descriptor, words.ctypes.data, PAGES, what)
        del words
    return np.flatnonzero(found).tolist()


@pytest.fixture
def scans(own: int) -> None:
    here = id(own) // PAGE_BYTES * PAGE_BYTES
    try:
        pagemap.scan(own, here, 1, pagemap.PRESENT)
    except OSError as error:
        pytest.skip(f"the kernel does not scan a page map: {error.strerror}")


@pytest.mark.usefixtures("scans")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, PAGES - 1), max_size=40))
def test_a_scan_finds_the_pages_that_are_there(own: int, numbers: set[int]) -> None:
    assert touched(own, sorted(numbers), pagemap.PRESENT) == sorted(numbers)


@pytest.mark.usefixtures("scans")
def test_a_scan_finds_more_stretches_than_it_can_tell_at_once(own: int) -> None:
    every_other = list(range(0, PAGES, 2))
    assert touched(own, every_other, pagemap.PRESENT) == every_other


@pytest.mark.skipif(not kernel_knows(), reason="the kernel has no soft-dirty pages")
def test_read_or_scanned_the_same_pages_are_soft_dirty(own: int) -> None:
    with mmap.mmap(-1, PAGES * PAGE_BYTES) as memory:
        words = np.frombuffer(memory, dtype=np.uint8).reshape(PAGES, PAGE_BYTES)
        address = words.ctypes.data
        marked = pagemap.best(own, address)
        words[:, 0] = 1
        Path("/proc/self/clear_refs").write_bytes(b"4")
        words[::3, 0] = 2
        words[: PAGES // 2, 5] = 3
        written = (np.arange(PAGES) % 3 == 0) | (np.arange(PAGES) < PAGES // 2)
        assert (pagemap.read(own, address, PAGES) == written).all()
        assert (marked(own, address, PAGES) == written).all()
        del words
