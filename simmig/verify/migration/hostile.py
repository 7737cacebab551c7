"""What makes a control message illegal, decided from the protocol's text alone and not by the code under check.

Only what the receiver can and must notice counts: a type out of place, a header that lies about its data, a
command outside of its RAM block; of the stream, what its beginning and its end are made of. A wrong key or address
of the peer's own memory is the peer's loss.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_BUFFER_BYTES = 512 << 10
_CHUNK_BYTES = 1 << 20
_PAGE_BYTES = 4096
_MOST_COMMANDS = 4096
_QEMU_FILE, _RAM_BLOCKS_RESULT, _COMPRESS, _REGISTER, _RESULT, _UNREGISTER = 3, 5, 6, 7, 8, 10
_REGISTRATION = {4, 6, 7, 9, 10}  # what a source may say in registration mode
_ROW_BYTES = {_RAM_BLOCKS_RESULT: 32, _REGISTER: 24, _RESULT: 16, _UNREGISTER: 24}


def illegal(meant: bytes, sent: bytes, blocks: Sequence[tuple[int, int]]) -> str:
    """Why the receiver must not take `sent`, where `meant` was due; empty when it may.

    `blocks` are the destination's RAM blocks in the source's order: offset and length in bytes.
    """
    if sent == meant:
        return ""
    if not 16 <= len(sent) <= _BUFFER_BYTES:
        return f"it has {len(sent)} bytes"
    length, kind, repeat, _ = struct.unpack_from(">4I", sent)
    due = struct.unpack_from(">I", meant, 4)[0]
    if length != len(sent) - 16 or repeat > _MOST_COMMANDS:
        return f"its header says {length} bytes of data, it has {len(sent) - 16}; it repeats {repeat} times"
    if kind != due and not {kind, due} <= _REGISTRATION:
        return f"it has type {kind} where {due} was due"
    if kind == due == _QEMU_FILE:
        return _illegal_stream(meant[16:], sent[16:])
    return _illegal_data(kind, repeat, sent[16:], blocks)


def _illegal_stream(meant: bytes, sent: bytes) -> str:
    """A piece of the stream altered where nothing else can have been meant."""
    if meant.startswith(b"QEVM"):
        instance = meant.index(b"\x03ram") + 4  # nobody asks for it, nor for what a hook's flags are besides
        if sent[:instance] != meant[:instance] or sent[instance + 4 : -8] != meant[instance + 4 : -8]:
            return "the stream does not begin as one, or lists other RAM blocks"
    device = meant.find(b"\x04", 0, 6)
    ours = device >= 0 and meant[device + 6 : device + 19] == b"simmig-device"
    if ours and sent[: device + 31] != meant[: device + 31]:
        return "the device's section does not begin as one"
    if meant.startswith(b"\0\x06") and sent != meant:
        return "the sections end otherwise, or are described otherwise"
    return ""


def _illegal_data(kind: int, repeat: int, data: bytes, blocks: Sequence[tuple[int, int]]) -> str:
    if kind == _COMPRESS:
        return _illegal_compress(data, blocks)
    if kind in _ROW_BYTES and len(data) % _ROW_BYTES[kind]:
        return f"{len(data)} bytes of data are no whole rows"
    return _illegal_commands(repeat, data, blocks) if kind in (_REGISTER, _UNREGISTER) else ""


def _illegal_commands(repeat: int, data: bytes, blocks: Sequence[tuple[int, int]]) -> str:
    commands = list(struct.iter_unpack(">QIIQ", data))
    if len(commands) != repeat:
        return f"it repeats {repeat} times and holds {len(commands)} commands"
    for address, block, _, extra in commands:
        if block >= len(blocks):
            return f"it names RAM block {block} of {len(blocks)}"
        offset, length = blocks[block]
        if not 0 <= address - offset < length:
            return f"it names address {address:#x}, outside of RAM block {block}"
        if (address - offset) // _CHUNK_BYTES + extra >= -(-length // _CHUNK_BYTES):
            return f"it names {extra} more chunks, beyond the end of RAM block {block}"
    return ""


def _illegal_compress(data: bytes, blocks: Sequence[tuple[int, int]]) -> str:
    if len(data) != 24:
        return f"a COMPRESS of {len(data)} bytes"
    value, block, offset, length = struct.unpack(">IIQQ", data)
    if value:
        return f"a COMPRESS of pages full of {value}"
    if block >= len(blocks):
        return f"it names RAM block {block} of {len(blocks)}"
    first = offset - blocks[block][0]
    if first < 0 or first % _PAGE_BYTES or length % _PAGE_BYTES or not length:
        return f"a COMPRESS of {length} bytes at {offset:#x}, not whole pages of RAM block {block}"
    return f"a COMPRESS beyond the end of RAM block {block}" if first + length > blocks[block][1] else ""
