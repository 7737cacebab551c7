"""A machine as both hosts know it: its RAM blocks, what it writes, and what its device state looks like."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from simmig.guest import machine_state
from simmig.guest.api import PAGE_BYTES, RamBlock
from simmig.guest.memory import CHUNK_PAGES
from simmig.guest.workload import Idle, Workload

MACHINE_NAME = "simmig"
MAX_PAGES = 1 << 31
"""8 TiB: with more pages the 32-bit content ids left for the guest's writes would soon repeat."""

_COUNTERS = struct.Struct(">QQ")
_CHECKSUM = struct.Struct(">I")
MIN_DEVICE_STATE_BYTES = _COUNTERS.size + _CHECKSUM.size
"""Two counters and a checksum."""

_DEVICE_ID, _DEVICE_NAME, _DEVICE_VERSION = 3, "simmig-device", 1
_DEVICE = machine_state.section_header(machine_state.FULL, _DEVICE_ID, _DEVICE_NAME, _DEVICE_VERSION)
_LENGTH = struct.Struct(">I")


class Progress(NamedTuple):
    """Where a stopped guest is: how long it has run, and how often it was told to write a page."""

    guest_ns: int = 0
    told_writes: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """What a guest is made of, the same on both hosts.

    `blocks` are (name, bytes) pairs. The last `zero_fraction` of each block, rounded to whole MiB, begins as zero
    pages, all the rest as pages unlike each other. The workload counts pages through the blocks in this order.
    The dirty log tells of pages of `dirty_log_page_bytes`, counted from each block's start: where one was written
    to, all of it counts as dirty. Raises ValueError for what no machine can be.
    """

    blocks: tuple[tuple[str, int], ...]
    zero_fraction: float = 0.0
    workload: Workload = field(default_factory=Idle)
    device_state_bytes: int = 2 << 20
    dirty_log_page_bytes: int = PAGE_BYTES

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
        if self.dirty_log_page_bytes < PAGE_BYTES or self.dirty_log_page_bytes % PAGE_BYTES:
            raise ValueError(f"a dirty log of {self.dirty_log_page_bytes} B tells of no whole pages")
        if self.workload.span.stop > self.pages:
            raise ValueError(f"the workload writes page {self.workload.span.stop - 1} of {self.pages}")
        if self.device_state_bytes < MIN_DEVICE_STATE_BYTES:
            raise ValueError(
                f"device state must have {MIN_DEVICE_STATE_BYTES} B at least, has {self.device_state_bytes} B"
            )

    @property
    def log_page_pages(self) -> int:
        """Pages in one of the dirty log's."""
        return self.dirty_log_page_bytes // PAGE_BYTES

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
        """The state of a machine at that point: one section and its description.

        The section holds its length and `device_state_bytes`, the last four of them a CRC-32.
        """
        words = np.arange(-(-self.device_state_bytes // 4), dtype="<u4").tobytes()
        body = (_COUNTERS.pack(*progress) + words)[: self.device_state_bytes - _CHECKSUM.size]
        return self._state_begins + body + _CHECKSUM.pack(zlib.crc32(body)) + self._state_ends

    def decode_state(self, state: bytes | bytearray) -> Progress | None:
        """The point in a state that `encode_state` made, once all of its section has come.

        ValueError when it cannot become such a state any more.
        """
        begins, ends = self._state_begins, self._state_ends
        end = len(begins) + self.device_state_bytes
        if not begins.startswith(bytes(state[: len(begins)])) or not ends.startswith(bytes(state[end:])):
            raise ValueError(f"this is no device state of {self.device_state_bytes} B of {_DEVICE_NAME!r}")
        if len(state) < end + len(machine_state.footer(_DEVICE_ID)):
            return None
        body, checksum = state[len(begins) : end - _CHECKSUM.size], state[end - _CHECKSUM.size : end]
        if _CHECKSUM.pack(zlib.crc32(body)) != checksum:
            raise ValueError("device state fails its checksum")
        return Progress(*_COUNTERS.unpack_from(body))

    @property
    def _state_begins(self) -> bytes:
        return _DEVICE + _LENGTH.pack(self.device_state_bytes)

    @property
    def _state_ends(self) -> bytes:
        device = {
            "name": _DEVICE_NAME,
            "instance_id": 0,
            "version": _DEVICE_VERSION,
            "size": self.device_state_bytes,
        }
        return machine_state.footer(_DEVICE_ID) + machine_state.ending({"devices": [device]})

    def state_sizes(self) -> tuple[int, int]:
        """How many bytes of a state are its section, and how many its ending."""
        ends_bytes, footer_bytes = len(self._state_ends), len(machine_state.footer(_DEVICE_ID))
        return len(self._state_begins) + self.device_state_bytes + footer_bytes, ends_bytes - footer_bytes

    def admit(
        self, own: Sequence[RamBlock], machine_name: str, blocks: Sequence[tuple[str, int]]
    ) -> list[RamBlock]:
        """`own`, in the order of the source's `blocks` (name, bytes).

        Raises ValueError when these are other blocks, or the machine is not simmig's own.
        """
        if machine_name != MACHINE_NAME:
            raise ValueError(
                f"the source's machine is {machine_name!r}, a scenario's guest is {MACHINE_NAME!r}: to take over "
                "any machine, let `simmig receive --save DIR` listen"
            )
        return arrange(own, blocks)


def arrange(own: Sequence[RamBlock], blocks: Sequence[tuple[str, int]]) -> list[RamBlock]:
    """`own` in the order of the source's `blocks` (name, bytes); ValueError names all that do not match."""
    left = {block.name: block for block in own}
    arranged, wrong = [], []
    for name, length_bytes in blocks:
        block = left.pop(name, None)
        if block is None:
            wrong.append(f"{name!r} is unknown here, or named twice")
        elif block.length_bytes != length_bytes:
            wrong.append(f"{name!r} has {length_bytes} bytes there and {block.length_bytes} here")
        else:
            arranged.append(block)
    wrong += [f"{name!r} is here alone" for name in left]
    if wrong:
        raise ValueError(f"the RAM blocks of both sides do not match: {'; '.join(wrong)}")
    return arranged
