"""The stream's framing: sizes as QEMU sends them, and a loader that no stream can upset."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simmig.guest import machine_state
from simmig.guest.api import PAGE_BYTES, Guest, RamBlock
from simmig.guest.machine import arrange
from simmig.migration import savevm
from simmig.migration.config import MigrationError
from simmig.migration.savevm import Loader
from simmig.migration.stream import Stream, StreamError

SIZES = {"pc.ram": 4, "pc.bios": 2}
BLOCKS = [RamBlock("pc.ram", 0, 4 * PAGE_BYTES, 0, 0), RamBlock("pc.bios", 0, 2 * PAGE_BYTES, 1 << 20, 4)]


class Bytes(Stream):
    """A stream over bytes in memory, handing out what it is told to at a time."""

    def __init__(self, data: bytes, at_a_time: int = 3) -> None:
        super().__init__("rb")
        self._data = data
        self._at_a_time = at_a_time
        self.blocks: Sequence[RamBlock] = ()
        self.hooks = 0
        self.loaded: list[tuple[int, int]] = []
        self.acknowledged = 0

    async def get_buffer(self, size: int) -> bytes:
        piece = self._data[: min(size, self._at_a_time)]
        self._data = self._data[len(piece) :]
        return piece

    async def put_buffer(self, data: bytes) -> int:
        raise NotImplementedError

    async def close(self) -> None:
        pass

    async def load_hook(self) -> None:
        self.hooks += 1

    async def load_pages(self, first_page: int, count: int) -> None:
        self.loaded.append((first_page, count))

    async def acknowledge(self) -> None:
        self.acknowledged += 1


class Machine:
    """Just enough of a guest: its state is one section of a device that holds what ends in a full stop."""

    blocks = BLOCKS

    def __init__(self) -> None:
        self.zeroed: list[tuple[int, int]] = []
        self.state = b""
        self.machine_name = ""

    def admit(self, machine_name: str, blocks: Sequence[tuple[str, int]]) -> Sequence[RamBlock]:
        self.machine_name = machine_name
        return arrange(BLOCKS, blocks)

    def zero(self, first_page: int, count: int) -> None:
        self.zeroed.append((first_page, count))

    async def load_device_state(self, state: bytes | bytearray) -> bool:
        if DEVICE + b"bad" in state:
            raise ValueError("wrong checksum")
        self.state = bytes(state)
        return DEVICE in state


DEVICE = machine_state.section_header(machine_state.FULL, 7, "timer", 2)
ENDING = machine_state.ending({"devices": [{"name": "timer"}]})


def state(body: bytes = b"state", ending: bytes = ENDING) -> bytes:
    return DEVICE + body + machine_state.footer(7) + ending


def ram(blocks: Sequence[RamBlock] = BLOCKS, ram_id: int = savevm.RAM_ID) -> bytes:
    """RAM from START to END, in a section of that id."""
    sections = [
        savevm.ram_start(blocks) + savevm.flag(savevm.FLAG_HOOK),
        savevm.ram_section(savevm.PART)
        + (savevm.flag(savevm.FLAG_PAGE) + savevm.RUN.pack(0, 1, 2))
        + (savevm.flag(savevm.FLAG_ZERO) + savevm.RUN.pack(1, 0, 2)),
        savevm.ram_section(savevm.END),
    ]
    closed = savevm.flag(savevm.FLAG_EOS) + machine_state.footer(ram_id)
    return b"".join(section[:1] + struct.pack(">I", ram_id) + section[5:] + closed for section in sections)


HEADER = savevm.stream_header("simmig")


def whole(body: bytes = b"state", blocks: Sequence[RamBlock] = BLOCKS) -> bytes:
    return HEADER + ram(blocks) + state(body)


def command(number: int, data: bytes) -> bytes:
    return bytes([savevm.COMMAND]) + struct.pack(">HH", number, len(data)) + data


def subsection(name: str, data: bytes) -> bytes:
    full = f"configuration/{name}".encode()
    return bytes([savevm.SUBSECTION, len(full)]) + full + struct.pack(">I", 1) + data


def load(data: bytes, at_a_time: int = 3) -> tuple[Bytes, Machine]:
    stream, machine = Bytes(data, at_a_time), Machine()
    asyncio.run(Loader(stream, as_guest(machine)).load())
    return stream, machine


def as_guest(machine: Machine) -> Guest:
    guest: Guest = machine  # type: ignore[assignment]
    return guest


@given(st.integers(1, 50))
def test_a_stream_is_read_whole_whatever_the_short_counts(at_a_time: int) -> None:
    stream, machine = load(whole(), at_a_time)
    assert stream.hooks == 1
    assert stream.loaded == [(1, 2)]
    assert machine.zeroed == [(4, 2)]
    assert machine.state == state()
    assert machine.machine_name == "simmig"
    assert stream.acknowledged == 2
    assert stream.tell() == len(whole())


@given(st.integers(0, len(whole()) - 1).filter(lambda length: length != len(whole()) - len(ENDING) + 1))
def test_a_truncated_stream_is_an_error_and_stays_one(length: int) -> None:
    stream, machine = Bytes(whole()[:length]), Machine()
    with pytest.raises((StreamError, MigrationError)) as raised:
        asyncio.run(Loader(stream, as_guest(machine)).load())
    assert "hung up" in str(raised.value) or getattr(raised.value, "errno", None) == errno.EIO
    with pytest.raises(StreamError):
        asyncio.run(stream.read(1))


@given(st.integers(0, len(whole()) - 1), st.integers(1, 255))
def test_a_damaged_stream_loads_or_is_refused(position: int, flip: int) -> None:
    data = bytearray(whole())
    data[position] ^= flip
    with contextlib.suppress(MigrationError, StreamError):
        load(bytes(data), 4096)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\0" * 8, "not a migration stream"),
        (whole(b"bad"), "wrong checksum"),
        (whole(blocks=BLOCKS[:1]), "do not match"),
        (whole(blocks=[BLOCKS[0], BLOCKS[0], BLOCKS[1]]), "named twice"),
        (HEADER + savevm.ram_section(savevm.PART), "out of place"),
        (HEADER + ram()[: -len(savevm.ram_section(savevm.END)) - 13] + b"\0", "ended before its RAM"),
        (HEADER + ram() + ENDING, "hung up within"),
        (HEADER + ram() + machine_state.footer(7) + ENDING, "before its devices"),
        (HEADER + ram() + state(ending=b"\0\x06\0\0\0\x05{'}'}"), "hung up within"),
        (HEADER + ram() + state(ending=b"\0\x06\xff\xff\xff\xff{}"), "hung up within"),
        (HEADER + state(), "'timer' .* while RAM goes"),
        (HEADER + command(1, b"") + ram() + state(), "return-path"),
        (HEADER + command(3, bytes(16)) + ram() + state(), "postcopy-ram"),
        (HEADER + command(77, b"") + ram() + state(), "command 77"),
        (HEADER + subsection("capabilities", b"\0\0\0\x01\x0fx-ignore-shared"), "x-ignore-shared off"),
        (HEADER + subsection("capabilities", b"\xff\xff\xff\xff"), "exceeds"),
        (HEADER + subsection("target-page-bits", b"\0\0\0\x10"), "65536 bytes"),
        (HEADER + subsection("news", b""), "unknown part 'configuration/news'"),
        (HEADER + savevm.ram_start(BLOCKS) + savevm.flag(0x40), "xbzrle"),
        (HEADER + savevm.ram_start(BLOCKS) + savevm.flag(savevm.FLAG_MEM_SIZE), "unknown RAM flags"),
        (
            HEADER + savevm.ram_start(BLOCKS).replace(b"\x20\0", b"\x30\0"),
            "is none: 'pc.bios' has 12288 bytes, 8192",
        ),
        (HEADER + savevm.ram_start(BLOCKS).replace(b"\x20\0", b"\x20\1"), "is none: 'pc.bios' has 8193 bytes"),
        (savevm.stream_header("x" * 257), "257 bytes"),
    ],
)
def test_what_does_not_belong_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(MigrationError, match=complaint):
        load(data)


@pytest.mark.parametrize("ram_id", [1, 2, 77])
@pytest.mark.parametrize("at_a_time", [1, 5, 4096])
def test_what_a_stock_qemu_sends_is_understood(ram_id: int, at_a_time: int) -> None:
    """Ids are the source's choice; the configuration may have parts; since 10.0 a command comes before END."""
    before_end, end = (whole := ram(ram_id=ram_id))[:-18], whole[-18:]
    assert end == bytes([savevm.END]) + struct.pack(">IQBI", ram_id, savevm.FLAG_EOS, machine_state.FOOTER, ram_id)
    parts = subsection("uuid", bytes(16)) + subsection("capabilities", b"\0\0\0\x01\x05x-one")
    data = savevm.stream_header("pc") + parts + before_end + command(11, b"") + end + state()
    stream, machine = load(data, at_a_time)
    assert machine.machine_name == "pc"
    assert machine.state == state()
    assert stream.tell() == len(data)


def test_a_state_that_is_not_described_ends_where_the_source_hangs_up() -> None:
    _, machine = load(HEADER + ram() + state(ending=b"\0"))
    assert machine.state == state(ending=b"\0")


def test_a_state_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(savevm, "MAX_STATE_BYTES", 100_000)

    class Endless(Bytes):
        async def get_buffer(self, size: int) -> bytes:
            return await super().get_buffer(size) or b"x" * min(size, 4096)

    stream = Endless(HEADER + ram(), 4096)
    with pytest.raises(MigrationError, match="more than 100000 bytes and no end"):
        asyncio.run(Loader(stream, as_guest(Machine())).load())


@pytest.mark.parametrize("run", [(2, 0, 1), (0, 4, 1), (0, 0, 5), (1, 1, 2), (0, 0, 0), (0, 2**64 - 1, 1)])
def test_pages_outside_of_their_block_are_refused(run: tuple[int, int, int]) -> None:
    data = HEADER + savevm.ram_start(BLOCKS)
    data += savevm.flag(savevm.FLAG_ZERO) + savevm.RUN.pack(*run)
    with pytest.raises(MigrationError, match="outside of RAM block"):
        load(data)


def test_the_setup_is_as_long_as_stock_qemus() -> None:
    """A recorded QEMU 7.2 (machine pc-i440fx-7.2) sent 191 bytes for these six blocks."""
    names = ["pc.ram", "/rom@etc/acpi/tables", "pc.bios", "pc.rom", "/rom@etc/table-loader", "/rom@etc/acpi/rsdp"]
    blocks = [RamBlock(name, 0, PAGE_BYTES, 0, i) for i, name in enumerate(names)]
    setup = savevm.stream_header("pc-i440fx-7.2") + savevm.ram_start(blocks) + savevm.flag(savevm.FLAG_HOOK)
    assert len(setup) == 191
    header = savevm.ram_section(savevm.PART) + savevm.flag(savevm.FLAG_HOOK)
    assert (len(header), len(machine_state.footer(savevm.RAM_ID)), len(savevm.flag(savevm.FLAG_EOS))) == (13, 5, 8)


@pytest.mark.parametrize("mode", ["", "r", "w", "rw", "rb+", "wb ", "RB"])
def test_any_other_mode_fails_before_anything_is_allocated(mode: str) -> None:
    class Careless(Bytes):
        def __init__(self) -> None:
            Stream.__init__(self, mode)
            raise AssertionError("allocated")

    with pytest.raises(ValueError, match="opens as 'rb' or 'wb'"):
        Careless()
