"""Which pages of a process the kernel has marked: /proc/PID/pagemap, read or scanned.

Reading gives eight bytes for each page. Scanning (the ioctl PAGEMAP_SCAN, for soft-dirty pages since Linux 6.8)
gives the stretches that are marked and no more, several times faster where they are few
(Documentation/admin-guide/mm/pagemap.rst).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from simmig.guest.api import PAGE_BYTES

PRESENT, SOFT_DIRTY = 1 << 3, 1 << 7  # linux/fs.h: PAGE_IS_...

Flags = NDArray[np.bool_]
Marked = Callable[[int, int, int], Flags]

_SCAN = struct.Struct("12Q")  # struct pm_scan_arg
_PAGEMAP_SCAN = 3 << 30 | _SCAN.size << 16 | ord("f") << 8 | 16
_REGION_WORDS = 3  # struct page_region: from, to, what
_REGIONS = 1 << 12
_WALKED = 4  # the word that says how far it came
_READ_SOFT_DIRTY = np.uint64(1 << 55)
_PIECE_PAGES = 1 << 18


def read(pagemap: int, address: int, pages: int) -> Flags:
    """The soft-dirty ones of `pages` at `address`; `pagemap` is an open descriptor."""
    bits = np.empty(pages, dtype=np.bool_)
    for first in range(0, pages, _PIECE_PAGES):
        count = min(_PIECE_PAGES, pages - first)
        words = os.pread(pagemap, 8 * count, 8 * (address // PAGE_BYTES + first))
        bits[first : first + count] = (np.frombuffer(words, dtype=np.uint64) & _READ_SOFT_DIRTY) != 0
    return bits


def scan(pagemap: int, address: int, pages: int, what: int = SOFT_DIRTY) -> Flags:
    """The same, scanned, or the pages of another category. Raises OSError where the kernel does not know it."""
    bits = np.zeros(pages, dtype=np.bool_)
    regions = np.empty((_REGIONS, _REGION_WORDS), dtype=np.uint64)
    at, end = address, address + pages * PAGE_BYTES
    while at < end:
        argument = bytearray(
            _SCAN.pack(_SCAN.size, 0, at, end, 0, regions.ctypes.data, _REGIONS, 0, 0, what, 0, what)
        )
        found = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, argument)
        for start, stop in ((regions[:found, :2] - np.uint64(address)) // np.uint64(PAGE_BYTES)).tolist():
            bits[start:stop] = True
        walked = _SCAN.unpack(argument)[_WALKED]
        if walked <= at:
            raise OSError(errno.EIO, "a scan of the page map does not get on")
        at = walked
    return bits


def best(pagemap: int, address: int) -> Marked:
    """`scan` where the kernel has it for soft-dirty pages, tried on the page at `address`; else `read`."""
    try:
        scan(pagemap, address, 1)
    except OSError:
        return read
    return scan
