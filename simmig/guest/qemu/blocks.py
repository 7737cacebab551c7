"""Where a QEMU's RAM blocks are in its process.

The monitor's `info ramblock` names them; a newer QEMU (seen in 10.0) also tells their addresses. Of an older one
the address is found where QEMU keeps it itself, and believed only when all that the monitor told of the block
stands beside it and the address is that of a mapping of just this length.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from simmig.guest.qemu.errors import QemuError
from simmig.guest.qemu.process import Mapping, Process

_LINE = re.compile(
    r"^\s*(?P<name>\S.*?)\s+(?P<page>\d+ \w+)\s+0x(?P<offset>\w+)\s+0x(?P<used>\w+)\s+0x(?P<total>\w+)"
    r"(?:\s+0x(?P<address>\w+))?"
)
_SIZES = struct.Struct(
    "<3Q"
)  # in QEMU's own record: offset, used length, total length; the address a little before
_NAME_WITHIN = 64  # bytes behind the lengths
_ADDRESS_BEFORE = (16, 8)


@dataclass(frozen=True, slots=True)
class Listed:
    """A block as the monitor lists it; `address` is 0 where it does not say."""

    name: str
    page: str
    offset_bytes: int
    used_bytes: int
    total_bytes: int
    address: int = 0


@dataclass(frozen=True, slots=True)
class Located:
    """A block and the mapping of QEMU's that it lies in."""

    listed: Listed
    address: int
    mapping: Mapping


def parse(text: str) -> list[Listed]:
    """The blocks of `info ramblock` that have a name: only these ever migrate."""
    found = []
    for match in filter(None, map(_LINE.match, text.splitlines())):
        offset, used, total = (int(match[key], 16) for key in ("offset", "used", "total"))
        found.append(Listed(match["name"], match["page"], offset, used, total, int(match["address"] or "0", 16)))
    return found


def locate(process: Process, listed: Sequence[Listed]) -> list[Located]:
    """Where the blocks are; raises QemuError for one that cannot be found."""
    mappings = process.mappings()
    located = []
    for block in listed:
        address = block.address or _search(process, mappings, block)
        mapping = next((m for m in mappings if m.start <= address and address + block.used_bytes <= m.end), None)
        if not address or mapping is None:
            raise QemuError(f"RAM block {block.name!r} cannot be found in QEMU's process")
        located.append(Located(block, address, mapping))
    return located


def _search(process: Process, mappings: Sequence[Mapping], block: Listed) -> int:
    """The address in QEMU's own record of the block; 0 when there is none."""
    sizes = _SIZES.pack(block.offset_bytes, block.used_bytes, block.total_bytes)
    starts = {mapping.start for mapping in mappings if mapping.end - mapping.start == block.total_bytes}
    for heap in (mapping for mapping in mappings if mapping.path == "[heap]"):
        data = process.read(heap.start, heap.end - heap.start)
        at = data.find(sizes)
        while at >= 0:
            end = at + _SIZES.size
            if data.find(block.name.encode() + b"\0", end, end + _NAME_WITHIN + len(block.name)) >= 0:
                for before in _ADDRESS_BEFORE:
                    address = int.from_bytes(data[at - before : at - before + 8], "little")
                    if address in starts:
                        return address
            at = data.find(sizes, at + 1)
    return 0
