"""A machine as both hosts know it: its RAM blocks, what it writes, and what its device state looks like."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from simmig.guest.api import PAGE_BYTES
from simmig.guest.memory import CHUNK_PAGES
from simmig.guest.workload import Idle, Workload

MAX_PAGES = 1 << 31
"""8 TiB: with more pages the 32-bit content ids left for the guest's writes would soon repeat."""

_COUNTERS = struct.Struct(">QQ")
_CHECKSUM = struct.Struct(">I")
MIN_DEVICE_STATE_BYTES = _COUNTERS.size + _CHECKSUM.size
"""Two counters and a checksum."""


class Progress(NamedTuple):
    """Where a stopped guest is: how long it has run, and how often it was told to write a page."""

    guest_ns: int = 0
    told_writes: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """What a guest is made of, the same on both hosts.

    `blocks` are (name, bytes) pairs. The last `zero_fraction` of each block, rounded to whole MiB, begins as zero
    pages, all the rest as pages unlike each other. The workload counts pages through the blocks in this order.
    Raises ValueError for what no machine can be.
    """

    blocks: tuple[tuple[str, int], ...]
    zero_fraction: float = 0.0
    workload: Workload = field(default_factory=Idle)
    device_state_bytes: int = 2 << 20

    def __post_init__(self) -> None:
        names = [name for name, _ in self.blocks]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a machine needs RAM blocks of different names, has {names}")
        for name, length_bytes in self.blocks:
            if length_bytes <= 0 or length_bytes % PAGE_BYTES:
                raise ValueError(
                    f"RAM block {name!r}: {length_bytes} B is not a positive multiple of {PAGE_BYTES} B"
                )
        if self.pages > MAX_PAGES:
            raise ValueError(f"memory of {self.pages} pages is more than {MAX_PAGES}")
        if not 0.0 <= self.zero_fraction <= 1.0:
            raise ValueError(f"zero fraction must lie between 0 and 1, is {self.zero_fraction}")
        if self.workload.span.stop > self.pages:
            raise ValueError(f"the workload writes page {self.workload.span.stop - 1} of {self.pages}")
        if self.device_state_bytes < MIN_DEVICE_STATE_BYTES:
            raise ValueError(
                f"device state must have {MIN_DEVICE_STATE_BYTES} B at least, has {self.device_state_bytes} B"
            )

    @property
    def pages(self) -> int:
        """Pages in all blocks."""
        return sum(length_bytes for _, length_bytes in self.blocks) // PAGE_BYTES

    def zero_from(self, pages: int) -> int:
        """The page of a block that long from which on it begins as zero pages."""
        chunks = -(-pages // CHUNK_PAGES)
        zero_chunks = int(chunks * self.zero_fraction + 0.5)
        return min(pages, (chunks - zero_chunks) * CHUNK_PAGES)

    def encode_state(self, progress: Progress) -> bytes:
        """The state of a machine at that point: `device_state_bytes` long, its last four bytes a CRC-32."""
        words = np.arange(-(-self.device_state_bytes // 4), dtype="<u4").tobytes()
        body = (_COUNTERS.pack(*progress) + words)[: self.device_state_bytes - _CHECKSUM.size]
        return body + _CHECKSUM.pack(zlib.crc32(body))

    def decode_state(self, state: bytes) -> Progress:
        """The point in a state that `encode_state` made; ValueError when it is not whole."""
        if len(state) != self.device_state_bytes:
            raise ValueError(f"device state has {len(state)} B instead of {self.device_state_bytes}")
        body, checksum = state[: -_CHECKSUM.size], state[-_CHECKSUM.size :]
        if _CHECKSUM.pack(zlib.crc32(body)) != checksum:
            raise ValueError("device state fails its checksum")
        return Progress(*_COUNTERS.unpack_from(body))
