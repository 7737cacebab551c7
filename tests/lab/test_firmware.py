"""The test guest counts, writes at its rate, and notices one page that was lost or torn."""

import asyncio
import mmap
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simmig.lab import firmware
from simmig.lab.vm import BINARY, MACHINE, Vm, counted

pytestmark = pytest.mark.skipif(shutil.which(BINARY) is None, reason=f"{BINARY} is not installed")
MIB = 1 << 20
PAGE = 4096


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vm-") as path:  # pytest's own are too long for a socket's name
        yield Path(path)


@pytest.mark.parametrize(("ram_mib", "machine"), [(32, MACHINE), (256, MACHINE), (64, "q35")])
def test_it_counts_and_finds_its_memory_good(directory: Path, ram_mib: int, machine: str) -> None:
    async def body() -> None:
        image = firmware.image(64 * MIB)
        async with Vm(directory, image, ram_mib * MIB, machine=machine, shared=True) as vm:
            said = await vm.says(12)
            assert said.numbers[:12] == tuple(range(12))
            assert said.bad == ()
            await vm.execute("stop")
            memory = vm.memory.read_bytes()
            pages = [memory[at : at + PAGE] for at in range(MIB, len(memory), PAGE)]
            assert all(any(page) for page in pages[:-256])
            assert _torn(pages) <= 1
            assert not any(map(any, pages[-256:]))  # the last MiB

    asyncio.run(body())


def _torn(pages: list[bytes]) -> int:
    """How many pages were being written when the guest was stopped."""
    return sum(page != page[:4] * (PAGE // 4) for page in pages)


@pytest.mark.parametrize("harm", ["old", "torn", "first word", "last word", "lost zero page"])
def test_one_bad_page_is_noticed(directory: Path, harm: str) -> None:
    async def body() -> None:
        image = firmware.image(2 * MIB, working_set_bytes=4 * MIB)
        async with Vm(directory, image, 32 * MIB, shared=True) as vm:
            await vm.says(3)
            await vm.execute("stop")
            page = 31 * MIB + 5 * PAGE if harm == "lost zero page" else MIB + 300 * PAGE
            with open(vm.memory, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
                old = memory[page : page + PAGE]
                if harm in {"old", "torn"}:
                    await vm.execute("cont")
                    await vm.until(lambda: memory[page : page + 4] != old[:4], "a new round")
                    await vm.execute("stop")
                at, count = {
                    "old": (0, PAGE),
                    "torn": (PAGE // 2, PAGE // 2),
                    "first word": (0, 1),
                    "last word": (PAGE - 1, 1),
                    "lost zero page": (77, 1),
                }[harm]
                new = old[at : at + count] if harm in {"old", "torn"} else bytes([old[at] ^ 1])
                memory[page + at : page + at + count] = new
            assert counted(vm.serial).bad == ()
            await vm.execute("cont")
            await vm.until(lambda: counted(vm.serial).bad, "BAD")
            assert set(counted(vm.serial).bad) == {page}

    asyncio.run(body())


@pytest.mark.parametrize("rate", [0, 4 * MIB])
def test_it_writes_at_its_rate(directory: Path, rate: int) -> None:
    async def body() -> None:
        async with Vm(directory, firmware.image(rate), 32 * MIB, shared=True) as vm:
            await vm.says(1)
            await vm.execute("stop")
            before, said = vm.memory.read_bytes(), len(counted(vm.serial).numbers)
            await vm.execute("cont")
            await vm.says(10)
            await vm.execute("stop")
            after, seconds = vm.memory.read_bytes(), (len(counted(vm.serial).numbers) - said) / firmware.NUMBERS_S
            written = sum(before[at : at + PAGE] != after[at : at + PAGE] for at in range(MIB, len(after), PAGE))
            assert rate * (seconds - 0.2) * 0.9 <= written * PAGE <= rate * (seconds + 0.2)

    asyncio.run(body())


def test_it_goes_on_in_another_qemu_with_the_next_number(directory: Path) -> None:
    async def body() -> None:
        image = firmware.image(8 * MIB)
        for name in ("a", "b"):
            (directory / name).mkdir()
        async with (
            Vm(directory / "a", image, 32 * MIB) as source,
            Vm(directory / "b", image, 32 * MIB, incoming="defer") as destination,
        ):
            await source.says(2)
            await destination.execute("migrate-incoming", uri=f"unix:{directory}/wire")
            assert (await source.migrate(f"unix:{directory}/wire"))["status"] == "completed"
            await destination.says(15)
            said = counted(source.serial, destination.serial)
            assert said.steps == {1}
            assert said.bad == ()
            assert await source.status() == "postmigrate"
            assert await destination.status() == "running"

    asyncio.run(body())


def test_what_it_cannot_be_is_refused() -> None:
    for arguments in ((MIB, 5), (MIB, MIB, 17 * MIB), (-1,), (firmware.MAX_RATE_BYTES_S + 1,), (0, 0)):
        with pytest.raises(ValueError, match="no test guest"):
            firmware.image(*arguments)
    began = time.monotonic()
    assert len(firmware.image(0)) == firmware.IMAGE_BYTES
    assert time.monotonic() - began < 1
