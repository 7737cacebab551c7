"""A running QEMU as the guest to migrate: `Guest` (simmig.guest.api) over its monitor and its memory.

RAM that QEMU shares is mapped, and goes from where it is. What it keeps to itself (ROMs, video memory) is copied
at each sync, as far as it was written. Dirtying is watched from outside (`watch.py`).
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simmig.guest.api import PAGE_BYTES, RamBlock
from simmig.guest.qemu import blocks as listing
from simmig.guest.qemu.blocks import Located
from simmig.guest.qemu.errors import QemuError
from simmig.guest.qemu.guardian import Guardian, Held
from simmig.guest.qemu.monitor import Monitor
from simmig.guest.qemu.process import Process
from simmig.guest.qemu.watch import SoftDirty

_STREAM_HEADER = bytes.fromhex("5145564d 00000003")
_MLOCK_ONFAULT = 1
_PIECE_PAGES = 4096


class _Memory:
    """A block's pages in this process: QEMU's own, or a copy."""

    def __init__(self, process: Process, located: Located) -> None:
        self.located = located
        self.pages_count = located.listed.used_bytes // PAGE_BYTES
        length, mapping = located.listed.used_bytes, located.mapping
        self.shared = mapping.shared
        if self.shared:
            offset = mapping.offset + located.address - mapping.start
            descriptor = process.open(mapping)
            try:
                self._map = mmap.mmap(descriptor, length, offset=offset)
            finally:
                os.close(descriptor)
        else:
            self._map = mmap.mmap(-1, length)
        self.words: NDArray[np.uint64] = np.frombuffer(self._map, dtype=np.uint64).reshape(self.pages_count, -1)
        self.address = int(self.words.ctypes.data)
        if self.shared:
            _keep_resident(self.address, length)

    def copy(self, process: Process, pages: NDArray[np.intp]) -> None:
        """Copy these pages of a block that is not shared."""
        for run in np.split(pages, np.flatnonzero(np.diff(pages) != 1) + 1):
            first, end = int(run[0]), int(run[-1]) + 1
            data = process.read(self.located.address + first * PAGE_BYTES, (end - first) * PAGE_BYTES)
            self.words[first:end] = np.frombuffer(data, dtype=np.uint64).reshape(end - first, -1)

    def close(self) -> None:
        """Unmap it."""
        del self.words
        self._map.close()


class QemuGuest:
    """The VM of a running QEMU, as `preflight.take` finds it; `close` lets go of it, running or not.

    `stop` and `resume` are QMP's. Whatever happens to this process, a VM that it stopped, and had not begun to
    hand over, runs on (`guardian.py`).
    """

    def __init__(
        self,
        monitor: Monitor,
        process: Process,
        guardian: Guardian,
        machine_name: str,
        located: Sequence[Located],
        devices: frozenset[str],
    ) -> None:
        self._monitor = monitor
        self._process = process
        self._guardian = guardian
        self._machine_name = machine_name
        self._devices = devices
        self._listed = [each.listed for each in located]
        self._running = True
        self._watching = False
        self.lost = ""
        """Why the VM cannot be said to run although it was to; empty while all is well."""
        self._memories: list[_Memory] = []
        self._blocks: list[RamBlock] = []
        for each in located:
            memory = _Memory(process, each)
            self._memories.append(memory)
            first_page = sum(block.pages for block in self._blocks)
            self._blocks.append(
                RamBlock(
                    each.listed.name, memory.address, each.listed.used_bytes, each.listed.offset_bytes, first_page
                )
            )
        self._watch = SoftDirty(
            process,
            [(m.located.address, m.pages_count) for m in self._memories],
            freeze=self._freeze,
            thaw=self._thaw,
        )

    @property
    def blocks(self) -> Sequence[RamBlock]:
        """RAM blocks, in QEMU's order."""
        return self._blocks

    @property
    def pages(self) -> int:
        """In all blocks."""
        return sum(block.pages for block in self._blocks)

    @property
    def machine_name(self) -> str:
        """The machine type."""
        return self._machine_name

    @property
    def running(self) -> bool:
        """Whether the VM runs here, as QEMU last said."""
        return self._running

    def on_event(self, hear: Callable[[str, int], None]) -> None:
        """Have `hear` called with QEMU's events: name ("STOP"), and when by QEMU's own clock (ns since 1970)."""
        self._monitor.on_event = hear

    def admit(self, machine_name: str, blocks: Sequence[tuple[str, int]]) -> Sequence[RamBlock]:
        """Never: this is a source."""
        raise ValueError("a QEMU that runs takes nobody over")

    def ballooned(self) -> NDArray[np.bool_]:
        """No page is left out: what the VM gave back is read, and sent, as zeros."""
        return np.zeros(self.pages, dtype=np.bool_)

    def contents(self) -> Iterator[NDArray[np.uint64]]:
        """Each page as it is sent; final once the VM is stopped for good and its memory was synced."""
        return (page for memory in self._memories for page in memory.words)

    def start_dirty_log(self) -> None:
        """Record page writes from now on."""
        self._watch.start()
        self._watching = True
        self._copy(np.ones(self.pages, dtype=np.bool_))

    def stop_dirty_log(self) -> None:
        """Stop recording."""
        self._watching = False

    def sync_dirty(self, bitmap: NDArray[np.bool_]) -> int:
        """Merge the pages written since the last call into `bitmap`; returns how many bits turned on."""
        if len(bitmap) != self.pages:
            raise ValueError(f"bitmap of {len(bitmap)} pages for a guest of {self.pages}")
        if not self._watching:
            return 0
        if self._running:
            written = self._watch.take(self._copy)
        else:  # nothing is written any more, and nobody looks again
            written = self._watch.look()
            self._copy(written)
        turned_on = int(np.count_nonzero(written & ~bitmap))
        bitmap |= written
        return turned_on

    def is_zero(self, first_page: int, count: int) -> bool:
        """Whether these pages are all zero now."""
        for block, memory in zip(self._blocks, self._memories, strict=True):
            if block.first_page <= first_page < block.first_page + block.pages:
                words = memory.words[first_page - block.first_page :][:count]
                return not words[0, 0] and not words.any()
        raise IndexError(f"page {first_page} of {self.pages}")

    def zero_pages(self) -> NDArray[np.bool_]:
        """One flag a page: all zero now (of a copied block, as it was copied last)."""
        pieces = [
            ~memory.words[first : first + _PIECE_PAGES].any(axis=1)
            for memory in self._memories
            for first in range(0, memory.pages_count, _PIECE_PAGES)
        ]
        return np.concatenate(pieces)

    def zero(self, first_page: int, count: int) -> None:
        """Never: this is a source."""
        raise RuntimeError("a QEMU that runs takes no memory over")

    async def stop(self) -> None:
        """Stop it, unless it changed meanwhile. Raises QemuError."""
        if not self._running:
            return
        await self._check_unchanged()
        self._guardian.tell(Held.STOPPED)
        self._running = False
        await self._monitor.execute("stop")

    async def resume(self) -> None:
        """Let it run on, and see it do so. Never raises: what went wrong is in `lost`."""
        if self._running:
            return
        try:
            await self._monitor.execute("cont")
            status = await self._monitor.status()
            self.lost = "" if status == "running" else f"QEMU says that the VM is {status!r}"
        except QemuError as error:
            self.lost = str(error)
        self._running = not self.lost
        if self._running:
            self._guardian.tell(Held.NOTHING)

    async def ask(self) -> None:
        """Have QEMU answer, and do nothing: what speaking to it takes. Raises QemuError."""
        await self._monitor.status()

    async def save_device_state(self) -> bytes:
        """The devices' sections, from QEMU. Raises QemuError.

        What Xen's tools take is all state but RAM; the run state in it reads "running", and block devices are
        given up, which `cont` takes back.
        """
        file = os.memfd_create("simmig-device-state")  # and no pipe: QEMU truncates what it opens
        try:
            theirs = os.open(f"/proc/self/fd/{file}", os.O_WRONLY)  # it wants just the rights that it needs
            try:
                fdset = await self._monitor.lend(theirs)
            finally:
                os.close(theirs)
            try:
                await self._monitor.execute("xen-save-devices-state", filename=f"/dev/fdset/{fdset}")
            finally:
                await self._monitor.execute("remove-fd", fdset_id=fdset)
            state = os.pread(file, os.fstat(file).st_size, 0)
        finally:
            os.close(file)
        if not state.startswith(_STREAM_HEADER):
            raise QemuError(f"QEMU gave {len(state)} bytes that are no device state")
        return state[len(_STREAM_HEADER) :]

    def handing_over(self) -> None:
        """From now on the VM may come to life elsewhere: should this process die, nobody may resume it here."""
        self._guardian.tell(Held.HANDED_OVER)

    async def load_device_state(self, state: bytes | bytearray) -> bool:
        """Never: this is a source."""
        raise RuntimeError("a QEMU that runs takes no state over")

    async def close(self) -> None:
        """Let go of it (no region may be registered on its memory any more)."""
        self._watch.close()
        self._guardian.close()
        for memory in self._memories:
            memory.close()
        self._process.close()
        await self._monitor.close()

    def _freeze(self) -> None:
        self._guardian.tell(Held.FROZEN)
        try:
            self._process.freeze()
        except ProcessLookupError:
            raise QemuError("QEMU is gone") from None

    def _thaw(self) -> None:
        self._process.thaw()
        self._guardian.tell(Held.NOTHING)

    def _copy(self, pages: NDArray[np.bool_]) -> None:
        for block, memory in zip(self._blocks, self._memories, strict=True):
            if not memory.shared:
                written = np.flatnonzero(pages[block.first_page : block.first_page + block.pages])
                if len(written):
                    memory.copy(self._process, written)

    async def _check_unchanged(self) -> None:
        status = await self._monitor.status()
        if status != "running":
            raise QemuError(f"the VM runs no longer: QEMU says that it is {status!r}")
        now = [each.name for each in listing.parse(await self._monitor.human("info ramblock"))]
        if now != [each.name for each in self._listed]:
            odd = sorted({each.name for each in self._listed} ^ set(now))
            raise QemuError(
                f"RAM blocks came or went during the migration: {', '.join(odd)}; no hotplug meanwhile"
            )
        odd = sorted(self._devices ^ await devices(self._monitor))
        if odd:
            raise QemuError(f"devices came or went during the migration: {', '.join(odd)}; no hotplug meanwhile")


async def devices(monitor: Monitor) -> frozenset[str]:
    """The devices that were plugged in by a user, by their paths."""
    found: set[str] = set()
    for parent in ("/machine/peripheral", "/machine/peripheral-anon"):
        children: list[dict[str, Any]] = await monitor.execute("qom-list", path=parent)
        found |= {f"{parent}/{each['name']}" for each in children if each["type"].startswith("child<")}
    return frozenset(found)


def _keep_resident(address: int, length: int) -> None:
    """What is read here stays in memory: a shared page that was swapped out has forgotten that it was written."""
    libc = ctypes.CDLL(None, use_errno=True)
    mlock2: Callable[..., int] = libc.mlock2
    if mlock2(ctypes.c_void_p(address), ctypes.c_size_t(length), _MLOCK_ONFAULT):
        words = os.strerror(ctypes.get_errno())
        raise QemuError(f"{length >> 10} KiB of the VM's memory cannot be locked ({words}): ulimit -l unlimited")
