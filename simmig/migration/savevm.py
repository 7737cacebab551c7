"""The framing of the migration stream: QEMU's sections, byte for byte.

Magic, version, the machine's configuration; RAM as a START section that lists the blocks, PART sections and an
END; then the machine's own state, which only its maker understands (`guest/machine_state.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Protocol

from simmig.guest import machine_state
from simmig.guest.api import PAGE_BYTES, Guest, RamBlock
from simmig.guest.machine_state import END_OF_FILE, FULL, footer
from simmig.migration.config import MigrationError

MAGIC = 0x5145564D
VERSION = 3
START, PART, END, SUBSECTION, CONFIGURATION, COMMAND = 0x01, 0x02, 0x03, 0x05, 0x07, 0x08
RAM_ID = 2
"""The RAM section's, of this source. It is the source's choice: a destination learns it."""
RAM_NAME, RAM_VERSION = "ram", 4

FLAG_ZERO, FLAG_MEM_SIZE, FLAG_PAGE, FLAG_EOS, FLAG_HOOK = 0x02, 0x04, 0x08, 0x10, 0x80
_FLAGS = 0xFFF  # offsets and sizes are page-aligned, so flags live in their low bits
_FOREIGN_FLAGS = {0x20: "continued pages", 0x40: "xbzrle", 0x100: "compress", 0x200: "multifd"}

RUN = struct.Struct(">IQI")
"""Pages in the stream (sockets only): block, first page within it, count, behind a FLAG_PAGE or FLAG_ZERO word."""

MAX_STATE_BYTES = 1 << 30
MAX_BLOCKS = 4096
_MAX_NAME_BYTES = 256
_U32, _U64 = struct.Struct(">I"), struct.Struct(">Q")
_COMMAND = struct.Struct(">HH")
_RETURN_PATH = "return-path: migrate_set_capability return-path off"
_POSTCOPY = "postcopy-ram: migrate_set_capability postcopy-ram off"
_REFUSED_COMMANDS = {1: _RETURN_PATH, 2: _RETURN_PATH, 9: "x-colo", 10: _POSTCOPY} | dict.fromkeys(
    range(3, 9), _POSTCOPY
)
_SWITCHOVER_START = 11  # since QEMU 8.2: nothing follows from it here
_TARGET_PAGE_BITS, _CAPABILITIES, _UUID = (
    f"configuration/{name}" for name in ("target-page-bits", "capabilities", "uuid")
)
_PAGE_BITS = PAGE_BYTES.bit_length() - 1


def stream_header(machine_name: str) -> bytes:
    """Magic, version and the machine."""
    name = machine_name.encode()
    return struct.pack(">II", MAGIC, VERSION) + bytes([CONFIGURATION]) + _U32.pack(len(name)) + name


def ram_start(blocks: Sequence[RamBlock]) -> bytes:
    """The header of the RAM section and the list of blocks."""
    total = sum(block.length_bytes for block in blocks)
    header = machine_state.section_header(START, RAM_ID, RAM_NAME, RAM_VERSION)
    rows = [header, _U64.pack(total | FLAG_MEM_SIZE)]
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


class Reader(Protocol):
    """Where the loader's bytes and pages come from: a stream opened for reading."""

    blocks: Sequence[RamBlock]
    """Set by the loader: this guest's blocks in the order of the source's; empty before the source listed them."""

    async def acknowledge(self) -> None:
        """Tell the sender that everything so far is here and good."""

    async def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""

    async def read_some(self) -> bytes:
        """What comes next, as much as is there; b"" when the sender has hung up and all has been read."""

    async def load_hook(self) -> None:
        """Serve the sender's registration mode."""

    async def load_pages(self, first_page: int, count: int) -> None:
        """Pages that come in the stream."""


class Loader:
    """Reads a migration stream into a guest. Raises MigrationError for whatever the format does not allow."""

    def __init__(self, stream: Reader, guest: Guest) -> None:
        self._stream = stream
        self._guest = guest
        self._machine_name = ""
        self._ram_id: int | None = None
        self.state_bytes = 0
        """Of the machine's state, its ending left out."""

    async def load(self) -> None:
        """Everything up to the end of the stream; the guest then has its memory and its device state."""
        magic, version = struct.unpack(">II", await self._stream.read(8))
        if magic != MAGIC or version != VERSION:
            raise MigrationError(f"not a migration stream (magic {magic:#x}, version {version})")
        kind = await self._u8()
        if kind == CONFIGURATION:
            self._machine_name = await self._name(await self._u32())
            kind = await self._u8()
        while kind == SUBSECTION:
            await self._configure(await self._name(await self._u8()))
            kind = await self._u8()
        while kind != END:
            await self._section(kind)
            kind = await self._u8()
        await self._section(kind)
        await self._load_state()
        await self._stream.acknowledge()

    async def _configure(self, subsection: str) -> None:
        """What the source's machine is besides its name."""
        await self._u32()  # version
        if subsection == _TARGET_PAGE_BITS:
            bits = await self._u32()
            if bits != _PAGE_BITS:
                raise MigrationError(
                    f"the source's pages have {1 << bits & (1 << 64) - 1} bytes, here {PAGE_BYTES}"
                )
        elif subsection == _CAPABILITIES:
            names = [
                await self._name(await self._u8()) for _ in range(await self._u32(limit=64, what="capabilities"))
            ]
            if "x-ignore-shared" in names:
                raise MigrationError(
                    "the source sends no shared memory (migrate_set_capability x-ignore-shared off): not supported"
                )
        elif subsection == _UUID:
            await self._stream.read(16)
        else:
            raise MigrationError(f"the source's configuration has an unknown part {subsection!r}")

    async def _section(self, kind: int) -> None:
        """A section up to RAM's END, or a command."""
        if kind == COMMAND:
            await self._command()
            return
        if kind == END_OF_FILE:
            raise MigrationError("the stream ended before its RAM did")
        section_id = await self._u32()
        if kind in (START, FULL):
            await self._named_section(kind, section_id)
        elif kind in (PART, END) and section_id == self._ram_id and self._stream.blocks:
            await self._load_ram()
        else:
            raise MigrationError(f"section of type {kind:#x} with id {section_id} out of place")
        if await self._stream.read(5) != footer(section_id):
            raise MigrationError(f"section {section_id} is not closed by its footer")

    async def _command(self) -> None:
        command, length = _COMMAND.unpack(await self._stream.read(_COMMAND.size))
        if command != _SWITCHOVER_START:
            what = _REFUSED_COMMANDS.get(command, f"command {command}")
            raise MigrationError(f"the source uses what is not supported here, {what}")
        await self._stream.read(length)

    async def _named_section(self, kind: int, section_id: int) -> None:
        name = await self._name(await self._u8())
        _, version = struct.unpack(">II", await self._stream.read(8))  # the first is the instance
        if kind != START or name != RAM_NAME or self._ram_id is not None:
            raise MigrationError(f"the source sends {name!r} (section {section_id}) while RAM goes: not supported")
        if version != RAM_VERSION:
            raise MigrationError(f"the source's RAM section has version {version}, this is version {RAM_VERSION}")
        self._ram_id = section_id
        await self._load_ram()

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
                foreign = " and ".join(name for bit, name in _FOREIGN_FLAGS.items() if flags & bit)
                raise MigrationError(f"unknown RAM flags {flags:#x}" + (f" ({foreign})" if foreign else ""))

    async def _load_blocks(self, total: int) -> None:
        listed: list[tuple[str, int]] = []
        while total > 0:
            name = await self._name(await self._u8())
            size = _U64.unpack(await self._stream.read(8))[0]
            if not size or size % PAGE_BYTES or size > total or len(listed) == MAX_BLOCKS:
                raise MigrationError(
                    f"the list of RAM blocks is none: {name!r} has {size} bytes, {total} are left"
                )
            listed.append((name, size))
            total -= size
        try:
            self._stream.blocks = self._guest.admit(self._machine_name, listed)
        except ValueError as error:
            raise MigrationError(str(error)) from error

    async def _load_run(self, flags: int) -> None:
        index, page, count = RUN.unpack(await self._stream.read(RUN.size))
        if index >= len(self._stream.blocks) or not count or page + count > self._stream.blocks[index].pages:
            raise MigrationError(f"pages {page}+{count} lie outside of RAM block {index}")
        first = self._stream.blocks[index].first_page + page
        if flags == FLAG_ZERO:
            self._guest.zero(first, count)
        else:
            await self._stream.load_pages(first, count)

    async def _load_state(self) -> None:
        """What follows RAM, to its end. The source may let go of its guest once told that the devices are here."""
        state = bytearray()
        told = False
        while (end := machine_state.ending_from(state)) is None:
            piece = await self._stream.read_some()
            if not piece and machine_state.ends_undescribed(state):
                end = len(state) - 1
                break
            if not piece:
                raise MigrationError(f"the source hung up within its machine's state, after {len(state)} bytes")
            state += piece
            if len(state) > MAX_STATE_BYTES:
                raise MigrationError(f"the machine's state has more than {MAX_STATE_BYTES} bytes and no end")
            try:
                loaded = await self._guest.load_device_state(state)
            except ValueError as error:
                raise MigrationError(f"the device state cannot be loaded: {error}") from error
            if loaded and not told:
                told = True
                await self._stream.acknowledge()
        if not told:
            raise MigrationError("the machine's state ended before its devices were loaded")
        self.state_bytes = end

    async def _name(self, length: int) -> str:
        if length > _MAX_NAME_BYTES:
            raise MigrationError(f"a name of {length} bytes, at most {_MAX_NAME_BYTES} are legal")
        return (await self._stream.read(length)).decode("utf-8", "replace")

    async def _u8(self) -> int:
        return (await self._stream.read(1))[0]

    async def _u32(self, limit: int | None = None, what: str = "") -> int:
        value = int(_U32.unpack(await self._stream.read(4))[0])
        if limit is not None and value > limit:
            raise MigrationError(f"{what} {value} exceeds {limit}")
        return value
