"""What follows RAM in a migration stream: a machine's own state, of which the migration knows only where it ends.

QEMU's framing: a section a device, each closed by a footer; a byte that ends them; and a description of the
sections in JSON, which a destination reads and forgets. The byte and the description are the state's *ending*. A
source that suppresses the description ends with the byte, and hangs up.
"""

from __future__ import annotations

import json
import struct
from typing import Any

END_OF_FILE, FULL, VMDESCRIPTION, FOOTER = 0x00, 0x04, 0x06, 0x7E
MAX_DESCRIPTION_BYTES = 16 << 20

_U32 = struct.Struct(">I")
_FOOTER_BYTES = 5
_DESCRIBED = struct.Struct(">BBI")  # the last byte of the sections, the type and the length of the description


def section_header(kind: int, section_id: int, name: str, version: int) -> bytes:
    """What a section that is named begins with."""
    encoded = name.encode()
    return (
        bytes([kind]) + _U32.pack(section_id) + bytes([len(encoded)]) + encoded + _U32.pack(0) + _U32.pack(version)
    )


def footer(section_id: int) -> bytes:
    """What closes a section."""
    return bytes([FOOTER]) + _U32.pack(section_id)


def ending(description: dict[str, Any]) -> bytes:
    """The end of the sections and their description."""
    text = json.dumps(description).encode()
    return _DESCRIBED.pack(END_OF_FILE, VMDESCRIPTION, len(text)) + text


def ending_from(state: bytes | bytearray) -> int | None:
    """Where the ending of a state begins; None when it is not there, or not yet.

    Sections cannot be told apart without the devices that wrote them. So the ending is where a byte 0 behind a
    footer is followed by a description whose length comes out even, and which is JSON.
    """
    if not state.endswith(b"}"):
        return None
    last_zero = state.rfind(b"\0")  # of the length: text has none
    for at in range(max(0, last_zero - 5), last_zero - 1):
        _, kind, length = _DESCRIBED.unpack_from(state, at)
        text = at + _DESCRIBED.size
        if kind == VMDESCRIPTION and text + length == len(state) <= text + MAX_DESCRIPTION_BYTES:
            return at if ends_a_section(state, at) and _is_description(state[text:]) else None
    return None


def ends_a_section(state: bytes | bytearray, at: int | None = None) -> bool:
    """Whether what there is, up to `at`, may end with a section's footer."""
    at = len(state) if at is None else at
    return at >= _FOOTER_BYTES and state[at - _FOOTER_BYTES] == FOOTER


def ends_undescribed(state: bytes | bytearray) -> bool:
    """Whether it may end with the sections' last byte and no description."""
    return state.endswith(b"\0") and ends_a_section(state, len(state) - 1)


def with_ending(state: bytes, limit_bytes: int) -> tuple[bytes, bytes]:
    """The sections of a whole state, and its ending.

    An ending that is missing, or longer than `limit_bytes`, is replaced by one that describes nothing: a
    destination must have one, and asks no more of it. Raises ValueError for what is no state.
    """
    at = ending_from(state)
    if at is None:
        if not ends_undescribed(state):
            raise ValueError(f"the machine's state, {len(state)} bytes, does not end as one")
        at = len(state) - 1
    if at + 1 == len(state) or len(state) - at > limit_bytes:
        return state[:at], ending({})
    return state[:at], state[at:]


def _is_description(text: bytes | bytearray) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
