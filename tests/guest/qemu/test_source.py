"""A QEMU that runs, taken hold of from outside: what is found, what is refused, and who lets it go on."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
from qemu.qmp import ExecuteError

from simmig.guest.api import PAGE_BYTES
from simmig.guest.machine_state import with_ending
from simmig.guest.qemu import blocks, preflight, watch
from simmig.guest.qemu.errors import QemuError, Unsuitable
from simmig.guest.qemu.guest import QemuGuest
from simmig.guest.qemu.monitor import Monitor
from simmig.guest.qemu.process import Process, huge
from simmig.lab import firmware
from simmig.lab.vm import BINARY, MACHINE, Vm, counted

pytestmark = pytest.mark.skipif(shutil.which(BINARY) is None, reason=f"{BINARY} is not installed")
MIB = 1 << 20
IMAGE = firmware.image(MIB, working_set_bytes=4 * MIB)
DISPLAY = ("-vga", "std", "-device", "e1000", "-device", "virtio-balloon")

OLD_LISTING = """              Block Name    PSize              Offset               Used              Total
                  pc.ram    4 KiB  0x0000000000000000 0x0000000002000000 0x0000000002000000
    /rom@etc/acpi/tables    4 KiB  0x0000000002080000 0x0000000000020000 0x0000000000200000
                            2 MiB  0x0000000004080000 0x0000000000200000 0x0000000000200000
"""
NEW_LISTING = """Block Name    PSize      Offset               Used              Total                HVA  RO
   0000:00:01.0/vga.vram    4 KiB  0x0000000002080000 0x0000000001000000 0x0000000001000000 0x00007f83adc00000  rw
          a name of three    2 MiB  0x0000000003100000 0x0000000000020000 0x0000000000200000 0x00007f83ad800000  ro
"""


SMAPS = """7f10-7f20 rw-s 00000000 00:01 1 /memfd:a (deleted)
ShmemPmdMapped:     2048 kB
THPeligible:           0
7f30-7f40 rw-s 00000000 00:01 2 /memfd:b (deleted)
ShmemPmdMapped:        0 kB
THPeligible:           1
7f50-7f60 rw-s 00000000 00:01 3 /memfd:c (deleted)
ShmemPmdMapped:        0 kB
FilePmdMapped:         0 kB
THPeligible:           0
7f70-7f80 rw-p 00000000 00:00 0
THPeligible:           1
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vm-") as path:  # pytest's own are too long for a socket's name
        yield Path(path)


@pytest.fixture
def any_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether this kernel knows of soft-dirty pages does not matter here."""
    monkeypatch.setattr(watch, "kernel_knows", lambda: True)


def vm(directory: Path, arguments: Sequence[str] = (), machine: str = MACHINE, shared: bool = True) -> Vm:
    return Vm(directory, IMAGE, 32 * MIB, machine=machine, shared=shared, arguments=arguments)


def taken(
    directory: Path, body: Callable[[Vm, QemuGuest], Awaitable[None]], arguments: Sequence[str] = ()
) -> None:
    """Run `body` on a VM that runs and has been taken hold of; it runs on afterwards."""

    async def whole() -> None:
        async with vm(directory, arguments) as machine:
            await machine.says(1)
            guest = await preflight.take(machine.monitor_socket)
            try:
                await body(machine, guest)
            finally:
                await guest.close()

    asyncio.run(whole())


def test_block_listings_of_old_and_new_qemus() -> None:
    old = blocks.parse(OLD_LISTING)
    assert [(b.name, b.offset_bytes, b.used_bytes, b.total_bytes, b.address) for b in old] == [
        ("pc.ram", 0, 32 * MIB, 32 * MIB, 0),
        ("/rom@etc/acpi/tables", 0x2080000, 128 << 10, 2 * MIB, 0),
    ]
    new = blocks.parse(NEW_LISTING)
    assert [(b.name, b.page, b.address) for b in new] == [
        ("0000:00:01.0/vga.vram", "4 KiB", 0x7F83ADC00000),
        ("a name of three", "2 MiB", 0x7F83AD800000),
    ]


def test_shared_memory_that_may_have_huge_pages() -> None:
    """What is private may: when the kernel splits such a page, its marks stay."""
    assert huge(SMAPS) == {0x7F10, 0x7F30}


def test_every_block_is_found_in_the_process(directory: Path) -> None:
    async def body() -> None:
        async with vm(directory, DISPLAY, machine="q35") as machine:
            await machine.says(1)
            monitor = await Monitor.connect(machine.monitor_socket)
            process = Process(monitor.pid)
            assert monitor.pid == machine.pid
            found = {
                each.listed.name: each
                for each in blocks.locate(process, blocks.parse(await monitor.human("info ramblock")))
            }
            assert len(found) == 9
            assert [name for name, each in found.items() if each.mapping.shared] == ["pc.ram"]

            def begins(name: str, length: int) -> bytes:
                return process.read(found[name].address, length)

            assert begins("pc.bios", len(IMAGE)) == IMAGE
            assert begins("/rom@etc/acpi/rsdp", 8) == b"RSD PTR "
            assert begins("/rom@etc/table-loader", 17)[4:] == b"etc/acpi/rsdp"
            assert begins("0000:00:02.0/e1000.rom", 2) == b"\x55\xaa"
            await monitor.close()
            process.close()

    asyncio.run(body())


@pytest.mark.usefixtures("any_kernel")
def test_its_memory_is_seen_and_its_roms_are_copied(directory: Path) -> None:
    async def body(machine: Vm, guest: QemuGuest) -> None:
        await guest.stop()
        guest.start_dirty_log()
        ram = guest.blocks[0]
        assert guest.machine_name == MACHINE
        assert [block.first_page for block in guest.blocks][:2] == [0, ram.pages]
        memory = machine.memory.read_bytes()
        zero = [not any(memory[at : at + PAGE_BYTES]) for at in range(0, len(memory), PAGE_BYTES)]
        assert [guest.is_zero(page, 1) for page in range(ram.pages)] == zero
        assert 0 < sum(zero) < ram.pages
        bios = next(block for block in guest.blocks if block.name == "pc.bios")
        assert ctypes.string_at(bios.address, len(IMAGE)) == IMAGE
        await guest.resume()
        assert guest.running

    taken(directory, body)


@pytest.mark.usefixtures("any_kernel")
def test_its_state_is_taken_and_it_runs_on(directory: Path) -> None:
    async def body(machine: Vm, guest: QemuGuest) -> None:
        await guest.stop()
        state = await guest.save_device_state()
        sections, ending = with_ending(state, 1 << 20)
        assert b"running" in sections
        assert ending[0] == 0
        assert await machine.status() == "paused"
        numbers = counted(machine.serial).numbers
        await guest.resume()
        assert await machine.status() == "running"
        assert (await machine.says(3)).numbers[: len(numbers) + 1] == (*numbers, numbers[-1] + 1)

    taken(directory, body, ("-device", "e1000", "-vga", "std"))


@pytest.mark.usefixtures("any_kernel")
@pytest.mark.parametrize(("driver", "name"), [("virtio-rng-pci", "late"), ("e1000", "e1000.rom")])
def test_hotplug_meanwhile_is_refused_before_the_stop(directory: Path, driver: str, name: str) -> None:
    async def body(machine: Vm, guest: QemuGuest) -> None:
        await machine.execute("device_add", driver=driver, id="late")
        with pytest.raises(QemuError, match=rf"came or went.*{name}.*no hotplug"):
            await guest.stop()
        assert guest.running
        assert await machine.status() == "running"

    taken(directory, body)


@pytest.mark.usefixtures("any_kernel")
def test_a_vm_that_somebody_paused_stays_paused(directory: Path) -> None:
    async def body(machine: Vm, guest: QemuGuest) -> None:
        await machine.execute("stop")
        with pytest.raises(QemuError, match="'paused'"):
            await guest.stop()
        await guest.resume()
        assert await machine.status() == "paused"

    taken(directory, body)


@pytest.mark.usefixtures("any_kernel")
def test_a_qemu_that_is_gone_is_said_to_be(directory: Path) -> None:
    async def body(machine: Vm, guest: QemuGuest) -> None:
        await guest.stop()
        os.kill(machine.pid, signal.SIGKILL)
        with pytest.raises(QemuError):
            await guest.save_device_state()
        await guest.resume()
        assert not guest.running
        assert guest.lost

    taken(directory, body)


def lacks(directory: Path, arguments: Sequence[str] = (), shared: bool = True, **setup: object) -> list[str]:
    """What is said of a VM that cannot be taken; it runs on, untouched."""

    async def body() -> list[str]:
        async with vm(directory, arguments, shared=shared) as machine:
            await machine.says(1)
            for command, told in setup.items():
                await machine.execute(command.replace("_", "-"), **(told if isinstance(told, dict) else {}))
            before = await machine.status()
            with pytest.raises(Unsuitable) as unsuitable:
                await preflight.take(machine.monitor_socket)
            assert await machine.status() == before
            return unsuitable.value.lacks

    return asyncio.run(body())


DIRECT_DISK = ("-drive", "if=none,id=d,driver=null-co,cache.direct=on,read-zeroes=on")
CREDENTIALS = ("-object", "tls-creds-anon,id=t,endpoint=client")
CAPABILITIES = [
    "postcopy-ram",
    "return-path",
    "multifd",
    "xbzrle",
    "compress",
    "x-ignore-shared",
    "background-snapshot",
]


@pytest.mark.usefixtures("any_kernel")
@pytest.mark.parametrize("name", CAPABILITIES)
def test_a_capability_that_is_on_is_named_with_what_turns_it_off(directory: Path, name: str) -> None:
    on = {"capabilities": [{"capability": name, "state": True}]}
    shared = name != "background-snapshot"  # QEMU itself refuses that one where the memory is shared
    try:
        said = lacks(directory, shared=shared, migrate_set_capabilities=on)[0]
    except ExecuteError as error:
        pytest.skip(f"this QEMU, or this kernel, has it not: {error}")
    assert f"{name} is on" in said
    assert f"migrate_set_capability {name} off" in said


@pytest.mark.usefixtures("any_kernel")
def test_what_stands_in_the_way_is_named_all_at_once(directory: Path) -> None:
    said = lacks(
        directory,
        (*DIRECT_DISK, *CREDENTIALS),
        shared=False,
        stop=None,
        migrate_set_parameters={"tls_creds": "t"},
    )
    for part in ("'paused'", "TLS", "cache.direct", "'pc.ram' (32M) is QEMU's alone"):
        assert any(part in each for each in said), (part, said)
    backend = "memory-backend-memfd,id=pc.ram,size=32M,share=on -machine memory-backend=pc.ram"
    assert any(backend in each for each in said)


@pytest.mark.usefixtures("any_kernel")
def test_a_module_of_memory_that_is_not_shared_is_named_with_what_helps(directory: Path) -> None:
    module = ("-object", "memory-backend-ram,id=d,size=128M", "-device", "pc-dimm,memdev=d")
    [said] = lacks(directory, ("-m", "32M,slots=1,maxmem=1G", *module))
    assert "'d' (128M) is QEMU's alone" in said
    assert said.endswith("-object memory-backend-memfd,id=d,size=128M,share=on")


def test_a_kernel_without_soft_dirty_bits_is_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "kernel_knows", lambda: False)
    [said] = lacks(directory)
    assert "CONFIG_MEM_SOFT_DIRTY" in said


@pytest.mark.usefixtures("any_kernel")
def test_somebody_else_who_writes_to_its_memory_is_named(directory: Path) -> None:
    code = (
        "import mmap, sys; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 4096); "
        "print(flush=True); sys.stdin.read()"
    )

    async def body() -> None:
        async with vm(directory) as machine:
            await machine.says(1)
            with subprocess.Popen(
                [sys.executable, "-c", code, str(machine.memory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as other:
                assert other.stdout is not None
                other.stdout.readline()
                with pytest.raises(Unsuitable, match=rf"process {other.pid} .*vhost-user"):
                    await preflight.take(machine.monitor_socket)
                other.kill()

    asyncio.run(body())


@pytest.mark.usefixtures("any_kernel")
def test_a_monitor_that_is_none_or_busy_is_told_with_what_helps(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simmig.guest.qemu.monitor._GREETING_S", 0.5)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(directory / "deaf"))
        deaf.listen()
        (directory / "file").touch()
        for path, words in (("none", "No such file"), ("file", "refused"), ("deaf", "one client a socket")):
            with pytest.raises(QemuError, match=rf"{path}: .*{words}.*-qmp unix:PATH"):
                asyncio.run(preflight.take(directory / path))


HOLDER = """
import asyncio, os, signal, sys
from pathlib import Path
from simmig.guest.qemu import preflight, watch
watch.kernel_knows = lambda: True
async def body():
    guest = await preflight.take(Path(sys.argv[1]))
    if sys.argv[2] == "frozen":
        guest._freeze()
    else:
        await guest.stop()
    if sys.argv[2] == "handed over":
        guest.handing_over()
    os.killpg(os.getpgid(0), signal.SIGKILL)
asyncio.run(body())
"""


@pytest.mark.parametrize("held", ["frozen", "stopped", "handed over"])
def test_a_vm_that_was_held_by_a_simmig_that_is_killed(directory: Path, held: str) -> None:
    """It runs on, unless the destination might run it."""

    async def body() -> None:
        async with vm(directory) as machine:
            await machine.says(1)
            holder = [sys.executable, "-c", HOLDER, str(machine.monitor_socket), held]
            done = await asyncio.create_subprocess_exec(*holder, start_new_session=True)
            assert await done.wait() == -signal.SIGKILL
            if held == "handed over":
                await asyncio.sleep(1)
                assert await machine.status() == "paused"
            else:
                await machine.says(5)
                assert await machine.status() == "running"
                await machine.until(lambda: not _holders(machine), "the guardian's end")

    asyncio.run(body())


def _holders(machine: Vm) -> list[str]:
    """Processes, QEMU apart, that were started for the machine."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if (
                entry.parent.name != str(machine.pid)
                and str(machine.monitor_socket).encode() in entry.read_bytes()
            ):
                found.append(entry.parent.name)
    return found


def test_threads_that_are_stopped_are_seen_to_be_stopped() -> None:
    code = (
        "import threading\n"
        "def busy():\n"
        "    while True: pass\n"
        "for _ in range(4): threading.Thread(target=busy, daemon=True).start()\n"
        "print(flush=True)\n"
        "busy()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        process = Process(busy.pid)
        try:
            for _ in range(20):
                process.freeze()
                used = _ticks(busy.pid)
                time.sleep(0.01)
                assert _ticks(busy.pid) == used
                process.thaw()
        finally:
            process.close()
            busy.kill()


def _ticks(pid: int) -> str:
    return Path(f"/proc/{pid}/schedstat").read_text()
