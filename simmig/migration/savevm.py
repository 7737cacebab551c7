"""The framing of the migration stream: QEMU's sections, byte for byte where a RAM section is concerned.

The device state is one section of our own; a stock QEMU would not know the device, but everything before it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Protocol

from simmig.guest.api import Guest, RamBlock
from simmig.migration.config import MigrationError

MAGIC = 0x5145564D
VERSION = 3
EOF, START, PART, END, FULL, CONFIGURATION, FOOTER = 0x00, 0x01, 0x02, 0x03, 0x04, 0x07, 0x7E
RAM_ID, DEVICE_ID = 2, 3
RAM_NAME, RAM_VERSION = b"ram", 4
DEVICE_NAME, DEVICE_VERSION = b"simmig-device", 1
MACHINE = b"simmig"

FLAG_ZERO, FLAG_MEM_SIZE, FLAG_PAGE, FLAG_EOS, FLAG_HOOK = 0x02, 0x04, 0x08, 0x10, 0x80
_FLAGS = 0xFFF  # offsets and sizes are page-aligned, so flags live in their low bits

RUN = struct.Struct(">IQI")
"""Pages in the stream (sockets only): block, first page within it, count, behind a FLAG_PAGE or FLAG_ZERO word."""

MAX_DEVICE_STATE_BYTES = 1 << 30
_U32, _U64 = struct.Struct(">I"), struct.Struct(">Q")


def stream_header() -> bytes:
    """Magic, version and the machine."""
    return struct.pack(">II", MAGIC, VERSION) + bytes([CONFIGURATION]) + _U32.pack(len(MACHINE)) + MACHINE


def ram_start(blocks: Sequence[RamBlock]) -> bytes:
    """The header of the RAM section and the list of blocks."""
    total = sum(block.length_bytes for block in blocks)
    rows = [_section(START, RAM_ID, RAM_NAME, RAM_VERSION), _U64.pack(total | FLAG_MEM_SIZE)]
    for block in blocks:
        name = block.name.encode()
        rows.append(bytes([len(name)]) + name + _U64.pack(block.length_bytes))
    return b"".join(rows)


def ram_section(kind: int) -> bytes:
    """The header of a further RAM section: PART, or END for the last."""
    return bytes([kind]) + _U32.pack(RAM_ID)


def flag(value: int) -> bytes:
    """A word of a RAM section that holds a flag alone."""
    return _U64.pack(value)


def footer(section_id: int) -> bytes:
    """What closes a section."""
    return bytes([FOOTER]) + _U32.pack(section_id)


def device_section(state: bytes) -> bytes:
    """The device state as one full section."""
    header = _section(FULL, DEVICE_ID, DEVICE_NAME, DEVICE_VERSION)
    return header + _U32.pack(len(state)) + state + footer(DEVICE_ID)


def end_of_file() -> bytes:
    """The last byte. A destination that has read it may run the guest."""
    return bytes([EOF])


def _section(kind: int, section_id: int, name: bytes, version: int) -> bytes:
    return bytes([kind]) + _U32.pack(section_id) + bytes([len(name)]) + name + struct.pack(">II", 0, version)


class Reader(Protocol):
    """Where the loader's bytes and pages come from: a stream opened for reading."""

    blocks: Sequence[RamBlock]
    """Set by the loader: this guest's blocks in the order of the source's; empty before the source listed them."""

    async def acknowledge(self) -> None:
        """Tell the sender that everything so far is here and good."""

    async def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""

    async def load_hook(self) -> None:
        """Serve the sender's registration mode."""

    async def load_pages(self, first_page: int, count: int) -> None:
        """Pages that come in the stream."""


class Loader:
    """Reads a migration stream into a guest. Raises MigrationError for whatever the format does not allow."""

    def __init__(self, stream: Reader, guest: Guest) -> None:
        self._stream = stream
        self._guest = guest
        self.device_state: bytes | None = None

    async def load(self) -> None:
        """Everything up to the end of the stream; the guest then has its memory and its device state."""
        magic, version = struct.unpack(">II", await self._stream.read(8))
        if magic != MAGIC or version != VERSION:
            raise MigrationError(f"not a migration stream (magic {magic:#x}, version {version})")
        while (kind := (await self._stream.read(1))[0]) != EOF:
            if kind == CONFIGURATION:
                await self._stream.read(await self._u32(limit=256, what="machine name length"))
                continue
            section_id = await self._u32()
            if kind in (START, FULL):
                await self._named_section(kind, section_id)
            elif kind in (PART, END) and section_id == RAM_ID and self._stream.blocks:
                await self._load_ram()
            else:
                raise MigrationError(f"section of type {kind:#x} with id {section_id} out of place")
            tail = await self._stream.read(5)
            if tail != footer(section_id):
                raise MigrationError(f"section {section_id} is not closed by its footer")
        if self.device_state is None:
            raise MigrationError("the stream ended without a device state")
        await self._stream.acknowledge()

    async def _named_section(self, kind: int, section_id: int) -> None:
        length = (await self._stream.read(1))[0]
        name = await self._stream.read(length)
        await self._stream.read(8)  # instance and version
        if kind == START and name == RAM_NAME and section_id == RAM_ID and not self._stream.blocks:
            await self._load_ram()
        elif kind == FULL and name == DEVICE_NAME and section_id == DEVICE_ID and self.device_state is None:
            size = await self._u32(limit=MAX_DEVICE_STATE_BYTES, what="device state length")
            self.device_state = await self._stream.read(size)
            try:
                await self._guest.load_device_state(self.device_state)
            except ValueError as error:
                raise MigrationError(f"the device state cannot be loaded: {error}") from error
            await self._stream.acknowledge()
        else:
            raise MigrationError(f"unknown section {name!r} (id {section_id})")

    async def _load_ram(self) -> None:
        while True:
            word = _U64.unpack(await self._stream.read(8))[0]
            flags = word & _FLAGS
            if flags == FLAG_EOS:
                return
            if flags == FLAG_MEM_SIZE and not self._stream.blocks:
                await self._load_blocks(word & ~_FLAGS)
            elif not self._stream.blocks:
                raise MigrationError("RAM before the list of its blocks")
            elif flags == FLAG_HOOK:
                await self._stream.load_hook()
            elif flags in (FLAG_PAGE, FLAG_ZERO):
                await self._load_run(flags)
            else:
                raise MigrationError(f"unknown RAM flags {flags:#x}")

    async def _load_blocks(self, total: int) -> None:
        own = {block.name: block for block in self._guest.blocks}
        blocks: list[RamBlock] = []
        while total > 0:
            length = (await self._stream.read(1))[0]
            name = (await self._stream.read(length)).decode("utf-8", "replace")
            size = _U64.unpack(await self._stream.read(8))[0]
            block = own.pop(name, None)
            if block is None:
                raise MigrationError(f"the source has a RAM block {name!r} that is unknown here, or named twice")
            if block.length_bytes != size:
                raise MigrationError(f"RAM block {name!r} has {size} bytes there and {block.length_bytes} here")
            blocks.append(block)
            total -= size
        if total or own:
            raise MigrationError("the RAM blocks of both sides do not match")
        self._stream.blocks = blocks

    async def _load_run(self, flags: int) -> None:
        index, page, count = RUN.unpack(await self._stream.read(RUN.size))
        if index >= len(self._stream.blocks) or not count or page + count > self._stream.blocks[index].pages:
            raise MigrationError(f"pages {page}+{count} lie outside of RAM block {index}")
        first = self._stream.blocks[index].first_page + page
        if flags == FLAG_ZERO:
            self._guest.zero(first, count)
        else:
            await self._stream.load_pages(first, count)

    async def _u32(self, limit: int | None = None, what: str = "") -> int:
        value = int(_U32.unpack(await self._stream.read(4))[0])
        if limit is not None and value > limit:
            raise MigrationError(f"{what} {value} exceeds {limit}")
        return value
