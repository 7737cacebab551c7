"""Taking hold of a running QEMU once all that its migration needs is there: what is not is told, with a remedy.

Nothing is stopped, changed or written before.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from simmig.guest.qemu import blocks, watch
from simmig.guest.qemu.blocks import Listed, Located
from simmig.guest.qemu.errors import QemuError, Unsuitable
from simmig.guest.qemu.guardian import Guardian
from simmig.guest.qemu.guest import QemuGuest, devices
from simmig.guest.qemu.monitor import Monitor
from simmig.guest.qemu.process import Process

MAX_PRIVATE_BYTES = 256 << 20
"""Of RAM that QEMU does not share, and that has to be copied: ROMs and video memory are less."""
_HARMLESS = frozenset({"events", "rdma-pin-all", "late-block-activate", "release-ram", "zero-blocks"})
_BUSY = frozenset({"setup", "active", "pre-switchover", "device", "postcopy-active", "colo", "cancelling"})
_DMA = {
    "/dev/vhost-net": "vhost-net writes to the VM's memory from within the kernel: -netdev ...,vhost=off",
    "/dev/vhost-vsock": "vhost-vsock writes to the VM's memory from within the kernel: leave the device out",
    "/dev/vfio/": "a device passed through by VFIO writes to the VM's memory by itself: unplug it (device_del)",
}
_HUGE_PAGES = "its pages are not of 4 KiB, and writes to others are not told apart from outside: no hugetlbfs"

_TRANSPARENT = (
    "it may have transparent huge pages, and when the kernel splits a shared one it forgets what was written: "
    "echo never > /sys/kernel/mm/transparent_hugepage/shmem_enabled (a tmpfs: mount it with huge=never), then "
    "start QEMU anew"
)


async def take(qmp: Path) -> QemuGuest:
    """The VM of the QEMU that has its QMP socket there.

    Raises QemuError when that cannot be spoken to, and Unsuitable, which names all that stands in the way.
    """
    monitor = await Monitor.connect(qmp)
    with contextlib.ExitStack() as stack:
        try:
            lacks = await _of_qemu(monitor)
            process, located = None, []
            try:
                process = Process(monitor.pid)
                stack.callback(process.close)
                located = blocks.locate(process, blocks.parse(await monitor.human("info ramblock")))
                main = await monitor.execute("qom-get", path="/machine", property="memory-backend")
                backends = await monitor.execute("query-memdev")
                lacks += _of_memory(located, backends, str(main), process.huge())
                lacks += _of_devices(process)
                for path in ("clear_refs", "pagemap", "mem"):
                    os.close(
                        os.open(f"/proc/{monitor.pid}/{path}", os.O_WRONLY if "clear" in path else os.O_RDONLY)
                    )
                lacks += _of_others(monitor.pid, located)
            except PermissionError as error:
                lacks.append(_permission(monitor.pid, error))
            if not watch.kernel_knows():
                lacks.append(
                    "the kernel does not tell which pages a process writes: it needs CONFIG_MEM_SOFT_DIRTY=y "
                    "(Debian's have it)"
                )
            if lacks:
                raise Unsuitable(lacks)
            assert process is not None
            machine = str(await monitor.execute("qom-get", path="/machine", property="type"))
            plugged = await devices(monitor)
            guardian = Guardian(monitor.pid, qmp)  # before anything is mapped: it shares nothing of it
            stack.callback(guardian.close)
            guest = QemuGuest(monitor, process, guardian, machine.removesuffix("-machine"), located, plugged)
        except BaseException:
            await monitor.close()
            raise
        stack.pop_all()
    return guest


async def _of_qemu(monitor: Monitor) -> list[str]:
    """What the monitor says that stands in the way."""
    lacks = []
    status = await monitor.status()
    if status != "running":
        lacks.append(f"the VM does not run, it is {status!r}: let it run first (cont)")
    for capability in await monitor.execute("query-migrate-capabilities"):
        name = capability["capability"]
        if capability["state"] and name not in _HARMLESS:
            lacks.append(
                f"the migration capability {name} is on, and is not supported: migrate_set_capability {name} off"
            )
    if (await monitor.execute("query-migrate-parameters")).get("tls-creds"):
        lacks.append("migration is to use TLS, which RDMA has not: migrate_set_parameter tls-creds ''")
    told: dict[str, Any] = await monitor.execute("query-migrate")
    if told.get("status") in _BUSY:
        lacks.append(f"QEMU is migrating by itself ({told['status']}): migrate_cancel")
    lacks += [f"QEMU says that the VM cannot be migrated: {reason}" for reason in told.get("blocked-reasons", [])]
    for node in await monitor.execute("query-named-block-nodes"):
        if node.get("cache", {}).get("direct"):
            lacks.append(
                f"the disk {node.get('file', node.get('node-name'))} is read past the page cache (cache.direct), "
                "into the VM's memory and unseen: use cache=writeback"
            )
    return sorted(set(lacks), key=lacks.index)


def _of_memory(
    located: Sequence[Located], backends: Sequence[dict[str, Any]], main: str, huge: Collection[int]
) -> list[str]:
    """RAM that is not shared, or cannot be watched.

    `main` is the backend that is the machine's own, `huge` says which mappings may have transparent huge pages.
    """
    lacks = []
    known = {name for backend in backends for name in (backend["id"], f"/objects/{backend['id']}")}
    private: list[Listed] = []
    for each in located:
        block = each.listed
        if block.page != "4 KiB":
            lacks.append(f"RAM block {block.name!r}: {_HUGE_PAGES}")
        elif each.mapping.shared and each.mapping.start in huge:
            lacks.append(f"RAM block {block.name!r}: {_TRANSPARENT}")
        elif each.mapping.shared:
            continue
        elif block.name in known:
            name = block.name.removeprefix("/objects/")
            size = f"{block.used_bytes >> 20}M"
            lacks.append(
                f"RAM block {block.name!r} ({size}) is QEMU's alone: start it with share=on, -object "
                f"memory-backend-memfd,id={name},size={size},share=on"
                + (f" -machine memory-backend={name}" if name == main.removeprefix("/objects/") else "")
            )
        else:
            private.append(block)
    total = sum(block.used_bytes for block in private)
    if total > MAX_PRIVATE_BYTES:
        largest = max(private, key=lambda block: block.used_bytes)
        lacks.append(
            f"RAM blocks of {total >> 20} MiB are no memory backend's and have to be copied, at most "
            f"{MAX_PRIVATE_BYTES >> 20} MiB can be; the largest is {largest.name!r}, "
            f"{largest.used_bytes >> 20} MiB (of a display: a smaller vgamem_mb or ram_size_mb)"
        )
    return lacks


def _of_devices(process: Process) -> list[str]:
    """Whoever writes to the memory and is no thread of QEMU's."""
    files = process.open_files()
    return [text for path, text in _DMA.items() if any(file.startswith(path) for file in files)]


def _of_others(pid: int, located: Sequence[Located]) -> list[str]:
    """Other processes that can write to the shared memory: nobody would see them do it."""
    inodes = {str(each.mapping.inode) for each in located if each.mapping.shared}
    lacks = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) in (pid, os.getpid()):
            continue
        try:
            lines = (entry / "maps").read_text(errors="replace").splitlines()
            writes = any(
                line.split()[4] in inodes and line.split()[1][1] == "w" and line.split()[1][3] == "s"
                for line in lines
                if len(line.split()) > 5
            )
            if writes:
                name = (entry / "comm").read_text().strip()
                lacks.append(
                    f"process {entry.name} ({name}) has the VM's memory mapped too, and what it writes would not "
                    "be seen: no vhost-user devices"
                )
        except OSError:
            continue  # gone, or not ours to look into
    return lacks


def _permission(pid: int, error: PermissionError) -> str:
    """Who may look into QEMU's process."""
    owner = Path(f"/proc/{pid}").stat().st_uid
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    yama = scope.exists() and scope.read_text().strip() != "0"
    helps = f"run simmig as root, or as user {owner}"
    if yama:
        helps += ", with /proc/sys/kernel/yama/ptrace_scope 0 (or CAP_SYS_PTRACE)"
    return f"QEMU's process {pid} may not be looked into ({error.filename or error}: {error.strerror}): {helps}"


__all__ = ["QemuError", "Unsuitable", "take"]
