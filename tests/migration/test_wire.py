"""Control messages: golden bytes, round trips, and what a hostile peer may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simmig.migration import wire
from simmig.migration.wire import Message, Type, WireError

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (Message(Type.READY).encode(), "00000000 00000002 00000001 00000000"),
        (Message(Type.QEMU_FILE, b"\x01\x02\x03").encode(), "00000003 00000003 00000001 00000000 010203"),
        (
            wire.encode_blocks([wire.RemoteBlock(0x7F0000000000, 0x10000000, 0x40000, 0xABC)]),
            "00007f0000000000 0000000010000000 0000000000040000 00000abc 00000000",
        ),
        (
            wire.encode_compress(wire.Compress(0, 2, 0x10000000, 0xE000)),
            "00000000 00000002 0000000010000000 000000000000e000",
        ),
        (
            wire.encode_registers([wire.Register(0x10100000, 1, 3)]),
            "0000000010100000 00000001 00000000 0000000000000003",
        ),
        (wire.encode_results([wire.RegisterResult(0xAB9, 0x7F86)]), "00000ab9 00000000 0000000000007f86"),
        (wire.encode_private_data(wire.FLAG_PIN_ALL), "00000001 00000001"),
    ],
)
def test_golden_bytes(encoded: bytes, expected: str) -> None:
    assert encoded == bytes.fromhex(expected)


@given(st.sampled_from(Type), st.binary(max_size=200), st.integers(0, wire.MAX_COMMANDS))
def test_message_round_trip(kind: Type, data: bytes, repeat: int) -> None:
    message = Message(kind, data, repeat)
    assert wire.decode(message.encode()) == message


@given(st.lists(st.builds(wire.RemoteBlock, u64, u64, u64, u32), max_size=5))
def test_blocks_round_trip(blocks: list[wire.RemoteBlock]) -> None:
    assert wire.decode_blocks(wire.encode_blocks(blocks)) == blocks


@given(st.lists(st.builds(wire.Register, u64, u32, u64), max_size=5))
def test_registers_round_trip(commands: list[wire.Register]) -> None:
    message = Message(Type.REGISTER_REQUEST, wire.encode_registers(commands), len(commands))
    assert wire.decode_registers(message) == commands


@given(st.binary(max_size=600))
def test_decoding_garbage_gives_a_message_or_a_wire_error(data: bytes) -> None:
    try:
        message = wire.decode(data)
    except WireError:
        return
    assert message.encode()[:12] == data[:12]
    assert message.data == data[16:]


@pytest.mark.parametrize(
    ("received", "complaint"),
    [
        (b"\0" * 15, "shorter than its header"),
        (wire.HEADER.pack(5, 3, 1, 0) + b"1234", "says 5 bytes of data, 4 arrived"),
        (wire.HEADER.pack(0, 12, 1, 0), "unknown control message type 12"),
        (wire.HEADER.pack(0, 7, 4097, 0), "at most 4096"),
    ],
)
def test_malformed_messages_are_refused(received: bytes, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        wire.decode(received)


def test_commands_must_match_the_repeat_count() -> None:
    data = wire.encode_registers([wire.Register(0, 0)])
    with pytest.raises(WireError, match="repeats 2 times but holds 1"):
        wire.decode_registers(Message(Type.REGISTER_REQUEST, data, 2))
    with pytest.raises(WireError, match="no multiple"):
        wire.decode_registers(Message(Type.REGISTER_REQUEST, data[:-1], 1))


def test_a_message_longer_than_the_buffer_is_refused() -> None:
    Message(Type.QEMU_FILE, bytes(wire.MAX_DATA_BYTES)).encode()
    with pytest.raises(WireError, match="exceeds the control buffer"):
        Message(Type.QEMU_FILE, bytes(wire.MAX_DATA_BYTES + 1)).encode()


@pytest.mark.parametrize(
    ("data", "complaint"), [(b"\0\0\0\1", "no migration capabilities"), (b"\0\0\0\2" * 2, "version 2")]
)
def test_private_data_of_another_world_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        wire.decode_private_data(data)


def test_private_data_padded_by_the_connection_manager_is_read() -> None:
    assert wire.decode_private_data(bytes.fromhex("0000000100000001") + bytes(48)) == wire.FLAG_PIN_ALL
