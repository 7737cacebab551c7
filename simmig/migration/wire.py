"""QEMU's RDMA control messages, version 1, byte for byte.

Every message is a header of four big-endian u32 (length of the data, type, repeat, padding) and its data.
Decoding trusts nothing: what does not fit raises WireError.
"""

from __future__ import annotations

import enum
import struct

import msgspec

from simmig.migration.config import MigrationError

BUFFER_BYTES = 512 << 10  # a control buffer, header included
HEADER = struct.Struct(">IIII")
MAX_DATA_BYTES = BUFFER_BYTES - HEADER.size
MAX_COMMANDS = 4096

_BLOCK = struct.Struct(">QQQII")
_COMPRESS = struct.Struct(">IIQQ")
_REGISTER = struct.Struct(">QIIQ")
_RESULT = struct.Struct(">IIQ")
_PRIVATE_DATA = struct.Struct(">II")

VERSION = 1
FLAG_PIN_ALL = 1
FLAG_OWN_CONTROL_QP = 1 << 8
"""Not QEMU's: this connection carries RAM writes only, control and device state follow on a second one."""
FLAG_SIMMIG = 1 << 9
"""Not QEMU's, which leaves it out: this end answers each command of a message, and gives an account afterwards."""


class WireError(MigrationError):
    """A message, or a field of one, that the protocol does not allow."""


class Type(enum.IntEnum):
    """Message types."""

    NONE = 0
    ERROR = 1
    READY = 2
    QEMU_FILE = 3
    RAM_BLOCKS_REQUEST = 4
    RAM_BLOCKS_RESULT = 5
    COMPRESS = 6
    REGISTER_REQUEST = 7
    REGISTER_RESULT = 8
    REGISTER_FINISHED = 9
    UNREGISTER_REQUEST = 10
    UNREGISTER_FINISHED = 11


_TYPES = tuple(Type)
NAMES = tuple(kind.name for kind in Type)
"""By type: an enum's own ways to value and name are slow."""


class Message(msgspec.Struct, frozen=True):
    """A control message; `repeat` counts the commands in its data."""

    type: Type
    data: bytes = b""
    repeat: int = 1

    def encode(self) -> bytes:
        """Header and data; raises WireError when the buffer cannot hold them."""
        if len(self.data) > MAX_DATA_BYTES:
            raise WireError(f"{self.type.name} with {len(self.data)} bytes of data exceeds the control buffer")
        return HEADER.pack(len(self.data), self.type, self.repeat, 0) + self.data


def decode(received: bytes) -> Message:
    """The message in a receive buffer, cut to the bytes that the completion counted."""
    if len(received) < HEADER.size:
        raise WireError(f"control message of {len(received)} bytes is shorter than its header")
    length, kind, repeat, _ = HEADER.unpack_from(received)
    if length != len(received) - HEADER.size:
        raise WireError(f"control header says {length} bytes of data, {len(received) - HEADER.size} arrived")
    if kind > Type.UNREGISTER_FINISHED:
        raise WireError(f"unknown control message type {kind}")
    if repeat > MAX_COMMANDS:
        raise WireError(f"{NAMES[kind]} with {repeat} commands, at most {MAX_COMMANDS} are legal")
    return Message(_TYPES[kind], received[HEADER.size :], repeat)


class RemoteBlock(msgspec.Struct, frozen=True):
    """A RAM block as the destination describes it."""

    host_address: int
    offset: int
    length: int
    rkey: int = 0


class Compress(msgspec.Struct, frozen=True):
    """A run of pages that all hold `value` (only 0 is ever sent)."""

    value: int
    block: int
    offset: int
    length: int


class Register(msgspec.Struct, frozen=True):
    """Register (or unregister) the chunk at `address`, and `extra_chunks` more behind it in the same region."""

    address: int
    block: int
    extra_chunks: int = 0


class RegisterResult(msgspec.Struct, frozen=True):
    """The key of a registered chunk."""

    rkey: int
    host_address: int


def encode_blocks(blocks: list[RemoteBlock]) -> bytes:
    """RAM BLOCKS RESULT."""
    return b"".join(_BLOCK.pack(b.host_address, b.offset, b.length, b.rkey, 0) for b in blocks)


def decode_blocks(data: bytes) -> list[RemoteBlock]:
    """RAM BLOCKS RESULT."""
    return [RemoteBlock(*row[:4]) for row in _rows(_BLOCK, data, "RAM BLOCKS RESULT")]


def encode_compress(command: Compress) -> bytes:
    """COMPRESS."""
    return _COMPRESS.pack(command.value, command.block, command.offset, command.length)


def decode_compress(data: bytes) -> Compress:
    """COMPRESS: exactly one command."""
    rows = _rows(_COMPRESS, data, "COMPRESS")
    if len(rows) != 1:
        raise WireError(f"COMPRESS with {len(rows)} commands, exactly one is legal")
    return Compress(*rows[0])


def encode_registers(commands: list[Register]) -> bytes:
    """REGISTER REQUEST, UNREGISTER REQUEST."""
    return b"".join(_REGISTER.pack(c.address, c.block, 0, c.extra_chunks) for c in commands)


def decode_registers(message: Message) -> list[Register]:
    """REGISTER REQUEST, UNREGISTER REQUEST: as many commands as the header repeats."""
    rows = _rows(_REGISTER, message.data, NAMES[message.type])
    if len(rows) != message.repeat:
        raise WireError(f"{message.type.name} repeats {message.repeat} times but holds {len(rows)} commands")
    return [Register(address, block, extra) for address, block, _, extra in rows]


def encode_results(results: list[RegisterResult]) -> bytes:
    """REGISTER RESULT."""
    return b"".join(_RESULT.pack(r.rkey, 0, r.host_address) for r in results)


def decode_results(data: bytes) -> list[RegisterResult]:
    """REGISTER RESULT."""
    return [RegisterResult(rkey, host) for rkey, _, host in _rows(_RESULT, data, "REGISTER RESULT")]


def encode_private_data(flags: int) -> bytes:
    """What both ends put into the connection request and its answer."""
    return _PRIVATE_DATA.pack(VERSION, flags)


def decode_private_data(data: bytes) -> int:
    """The peer's flags; raises WireError for another version. Connection managers pad with zeros."""
    if len(data) < _PRIVATE_DATA.size:
        raise WireError("the peer sent no migration capabilities with the connection")
    version, flags = _PRIVATE_DATA.unpack_from(data)
    if version != VERSION:
        raise WireError(f"the peer speaks version {version} of the protocol, this is version {VERSION}")
    return int(flags)


def is_simmig(private_data: bytes) -> bool:
    """Whether the peer, of which that is the private data, says that it is no stock QEMU."""
    return len(private_data) >= _PRIVATE_DATA.size and bool(decode_private_data(private_data) & FLAG_SIMMIG)


def _rows(row: struct.Struct, data: bytes, what: str) -> list[tuple[int, ...]]:
    if len(data) % row.size:
        raise WireError(f"{what}: {len(data)} bytes are no multiple of {row.size}")
    return list(row.iter_unpack(data))
