"""The stream's framing: sizes as QEMU sends them, and a loader that no stream can upset."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simmig.guest.api import PAGE_BYTES, Guest, RamBlock
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
    """Just enough of a guest."""

    blocks = BLOCKS

    def __init__(self) -> None:
        self.zeroed: list[tuple[int, int]] = []
        self.state: bytes | None = None

    def zero(self, first_page: int, count: int) -> None:
        self.zeroed.append((first_page, count))

    async def load_device_state(self, state: bytes) -> None:
        if state.startswith(b"bad"):
            raise ValueError("wrong checksum")
        self.state = state


def whole(state: bytes = b"state", blocks: Sequence[RamBlock] = BLOCKS) -> bytes:
    return b"".join(
        [
            savevm.stream_header(),
            savevm.ram_start(blocks),
            savevm.flag(savevm.FLAG_HOOK),
            savevm.flag(savevm.FLAG_EOS),
            savevm.footer(savevm.RAM_ID),
            savevm.ram_section(savevm.PART),
            savevm.flag(savevm.FLAG_PAGE) + savevm.RUN.pack(0, 1, 2),
            savevm.flag(savevm.FLAG_ZERO) + savevm.RUN.pack(1, 0, 2),
            savevm.flag(savevm.FLAG_EOS),
            savevm.footer(savevm.RAM_ID),
            savevm.device_section(state),
            savevm.end_of_file(),
        ]
    )


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
    assert machine.state == b"state"
    assert stream.acknowledged == 2
    assert stream.tell() == len(whole())


@given(st.integers(0, len(whole()) - 1))
def test_a_truncated_stream_is_an_error_and_stays_one(length: int) -> None:
    stream, machine = Bytes(whole()[:length]), Machine()
    with pytest.raises(StreamError) as raised:
        asyncio.run(Loader(stream, as_guest(machine)).load())
    assert raised.value.errno == errno.EIO
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
        (savevm.stream_header() + savevm.ram_section(savevm.PART), "out of place"),
        (savevm.stream_header() + savevm.end_of_file(), "without a device state"),
    ],
)
def test_what_does_not_belong_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(MigrationError, match=complaint):
        load(data)


@pytest.mark.parametrize("run", [(2, 0, 1), (0, 4, 1), (0, 0, 5), (1, 1, 2), (0, 0, 0), (0, 2**64 - 1, 1)])
def test_pages_outside_of_their_block_are_refused(run: tuple[int, int, int]) -> None:
    data = savevm.stream_header() + savevm.ram_start(BLOCKS)
    data += savevm.flag(savevm.FLAG_ZERO) + savevm.RUN.pack(*run)
    with pytest.raises(MigrationError, match="outside of RAM block"):
        load(data)


def test_the_setup_is_as_long_as_stock_qemus() -> None:
    """A recorded QEMU 7.2 (machine pc-i440fx-7.2) sent 191 bytes for these six blocks."""
    names = ["pc.ram", "/rom@etc/acpi/tables", "pc.bios", "pc.rom", "/rom@etc/table-loader", "/rom@etc/acpi/rsdp"]
    blocks = [RamBlock(name, 0, PAGE_BYTES, 0, i) for i, name in enumerate(names)]
    setup = savevm.stream_header() + savevm.ram_start(blocks) + savevm.flag(savevm.FLAG_HOOK)
    assert len(setup) == 191 - len("pc-i440fx-7.2") + len(savevm.MACHINE)
    header = savevm.ram_section(savevm.PART) + savevm.flag(savevm.FLAG_HOOK)
    assert (len(header), len(savevm.footer(savevm.RAM_ID)), len(savevm.flag(savevm.FLAG_EOS))) == (13, 5, 8)


@pytest.mark.parametrize("mode", ["", "r", "w", "rw", "rb+", "wb ", "RB"])
def test_any_other_mode_fails_before_anything_is_allocated(mode: str) -> None:
    class Careless(Bytes):
        def __init__(self) -> None:
            Stream.__init__(self, mode)
            raise AssertionError("allocated")

    with pytest.raises(ValueError, match="opens as 'rb' or 'wb'"):
        Careless()
