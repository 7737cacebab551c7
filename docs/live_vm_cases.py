"""The migrations that `live_vm.py` makes: each a pair of QEMUs, what goes between them, and what is done to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from simmig.trace.events import (
    BitmapSynced,
    DeviceStateSent,
    Event,
    MigrationBegan,
    SetupEnded,
    SliceBegan,
    SliceEnded,
    VmStopped,
)

PC, Q35 = "pc-i440fx-7.2", "pc-q35-7.2"
DEVICES = ("-vga", "std", "-device", "e1000", "-device", "virtio-balloon-pci")
MODERN = (
    *("-device", "pcie-root-port,id=root", "-device", "virtio-net-pci,bus=root", "-device", "virtio-rng-pci"),
    *("-vga", "virtio", "-device", "qemu-xhci", "-device", "usb-tablet", "-device", "virtio-scsi-pci"),
)
DISK = (
    *("-blockdev", "null-co,node-name=disk,size=1048576,read-zeroes=on", "-device", "virtio-blk-pci,drive=disk"),
    *("-device", "ide-hd,drive=other", "-blockdev", "null-co,node-name=other,size=1048576,read-zeroes=on"),
)
SLOTS = ("-m", "32M,slots=1,maxmem=256M")
POLICIES = (
    *("final-only", "per-iteration", "per-round", "per-chunk", "pending-limit,limit=2 MiB"),
    *("every-bytes,interval=4 MiB", "at-switch", "downtime-budget"),
)
PIN_ALL = "migration.pin_all=true"


@dataclass(frozen=True)
class Case:
    """A migration of a running VM, or with `kept` of one that `simmig receive` keeps and `send --load` hands on.

    `source` and `destination` are QEMU's versions, `machine` and `arguments` what both run. `there`, if any, are
    machine and arguments of a destination that is not alike. `strike` is done at the `nth` event of the kind `at`.
    `capability` is switched on at the source before. `plug` are the arguments of device_add for what is plugged in
    then, with memory for a DIMM. `linux`: the guest is that of `live_vm_linux.py`. `taking` are settings of the
    `receive`, `rdma_pin_all` what its source asks for.
    """

    name: str
    policy: str = "per-iteration"
    settings: tuple[str, ...] = ()
    source: str = "7.2"
    destination: str = "7.2"
    machine: str = PC
    arguments: tuple[str, ...] = ()
    there: tuple[str, tuple[str, ...]] | None = None
    at: type[Event] | None = None
    strike: Literal["", "cancel", "kill", "cut", "plug"] = ""
    nth: int = 1
    capability: str = ""
    plug: tuple[tuple[str, str], ...] = ()
    linux: bool = False
    kept: bool = False
    taking: tuple[str, ...] = ()
    rdma_pin_all: bool = False
    arrives: bool = True

    @property
    def way(self) -> str:
        """From which version to which."""
        return f"{self.source} → {self.destination}"


_POLICIES = tuple(
    Case(f"{policy.partition(',')[0]}, {how}", policy, settings)
    for how, settings in (("dynamic", ()), ("pinned", (PIN_ALL,)))
    for policy in POLICIES
)
_ABORTS = tuple(
    replace(case, arrives=False)
    for case in (
        Case("cancelled at the start", at=MigrationBegan, strike="cancel"),
        Case("cancelled after the setup", at=SetupEnded, strike="cancel"),
        Case("cancelled in a slice", at=SliceBegan, strike="cancel", nth=3),
        Case("cancelled at the stop", at=VmStopped, strike="cancel"),
        Case("cancelled after the state", at=DeviceStateSent, strike="cancel"),
        Case("destination killed after the setup", at=SetupEnded, strike="kill"),
        Case("destination killed at a sync", at=BitmapSynced, strike="kill", nth=2),
        Case("destination killed at the stop", at=VmStopped, strike="kill"),
        Case("destination killed after the state", at=DeviceStateSent, strike="kill"),
        Case("link cut in a slice", at=SliceEnded, strike="cut", nth=2),
    )
)
_VERSIONS = tuple(
    Case(f"{policy}, {'pinned' if settings else 'dynamic'}", policy, settings, source, destination)
    for source, destination in (("7.2", "10.0"), ("10.0", "10.0"), ("10.0", "7.2"))
    for policy, settings in (("per-chunk", ()), ("at-switch", (PIN_ALL,)))
)
_KEPT = tuple(
    Case(f"kept and handed on, {'pinned' if pinned else 'dynamic'}", kept=True, rdma_pin_all=pinned)
    if (source, destination) == ("7.2", "7.2")
    else Case("kept and handed on", source=source, destination=destination, kept=True, rdma_pin_all=pinned)
    for source, destination, pinned in (
        *(("7.2", "7.2", False), ("7.2", "7.2", True), ("7.2", "10.0", False)),
        *(("10.0", "7.2", False), ("10.0", "10.0", False)),
    )
)
_MACHINES = (
    Case("q35 with VGA, e1000, balloon", "per-chunk", machine=Q35, arguments=DEVICES),
    Case("the same, pinned", "at-switch", (PIN_ALL,), machine=Q35, arguments=DEVICES),
    Case("the same", "per-chunk", (), "10.0", "10.0", Q35, DEVICES),
    Case("the same", "per-chunk", (), "7.2", "10.0", Q35, DEVICES),
    Case("pc-i440fx-10.0", "per-chunk", (), "10.0", "10.0", "pc-i440fx-10.0"),
)
_OTHERS = (
    Case("pc with VGA, e1000, balloon", "per-chunk", arguments=DEVICES),
    Case("q35 with virtio's VGA and NIC, a root port, USB, SCSI", "per-chunk", machine=Q35, arguments=MODERN),
    Case("the same", "per-chunk", (), "7.2", "10.0", Q35, MODERN),
    Case("the same", "per-chunk", (), "10.0", "7.2", Q35, MODERN),
    Case("pc with disks", "per-chunk", arguments=DISK),
    Case("the same", "per-chunk", (), "10.0", "10.0", PC, DISK),
    Case(
        "q35 with two processors and an IOMMU",
        "per-chunk",
        machine=Q35,
        arguments=("-smp", "2", "-device", "intel-iommu"),
    ),
    *(
        replace(case, source=version, destination=version, arrives=False)
        for version in ("7.2", "10.0")
        for case in (
            Case(
                "a device plugged in meanwhile",
                at=SliceBegan,
                nth=2,
                strike="plug",
                plug=(("driver", "virtio-rng-pci"), ("id", "late")),
            ),
            Case(
                "memory plugged in meanwhile",
                at=SliceBegan,
                nth=2,
                strike="plug",
                arguments=SLOTS,
                plug=(("driver", "pc-dimm"), ("id", "late"), ("memdev", "late-memory")),
            ),
            Case("xbzrle is on", capability="xbzrle"),
            Case("x-ignore-shared is on", capability="x-ignore-shared"),
        )
    ),
)
_REFUSED = tuple(
    Case(name, source=version, destination=version, arguments=arguments, there=there, arrives=arrives)
    for version in ("7.2", "10.0")
    for name, arguments, there, arrives in (
        ("another machine type there", (), (Q35, ()), False),
        ("a device that is not there", ("-device", "virtio-balloon-pci"), (PC, ()), False),
        ("more devices there", (), (PC, ("-device", "virtio-balloon-pci")), True),
        ("less memory there", (), (PC, ("-m", "24M")), False),
    )
)
_SENT = (
    ("pin_all", "per-chunk", (PIN_ALL,)),
    ("slice = round", "per-round", ("migration.slice=round",)),
    ("slice = unlimited", "at-switch", ("migration.slice=unlimited",)),
    ("registration_batch = 16", "per-chunk", ("migration.registration_batch=16",)),
    ("control_wait = deferred", "per-chunk", ("migration.control_wait=deferred",)),
    ("control_qp = own", "per-chunk", ("migration.control_qp=own",)),
)
_FREEDOMS = (
    *(
        Case(f"to QEMU: {name}", policy, settings, destination=version, arrives="control_qp" not in name)
        for version in ("7.2", "10.0")
        for name, policy, settings in _SENT
    ),
    *(
        Case(
            f"from QEMU: {name}",
            source=version,
            kept=True,
            rdma_pin_all="pin" in name,
            taking=taking,
            arrives="migration.pin_all=false" not in taking,
        )
        for version in ("7.2", "10.0")
        for name, taking in (
            ("pin-all asked for and granted", ()),
            ("pin-all asked for, pin_all = false", ("migration.pin_all=false",)),
            ("control_wait = deferred", ("migration.control_wait=deferred",)),
            ("control_qp = own", ("migration.control_qp=own",)),
            ("slice, registration_batch", ("migration.slice=round", "migration.registration_batch=16")),
        )
    ),
)
PATIENT = "migration.downtime_limit=3s"
_LINUX = (
    Case("per-chunk, dynamic", "per-chunk", (PATIENT,), linux=True),
    Case("at-switch, pinned", "at-switch", (PATIENT, PIN_ALL), linux=True),
    Case("per-chunk, dynamic", "per-chunk", (PATIENT,), "7.2", "10.0", linux=True),
)
GROUPS = {
    "policies": _POLICIES,
    "aborts": _ABORTS,
    "versions": _VERSIONS,
    "kept": _KEPT,
    "machines": _MACHINES,
    "others": _OTHERS,
    "refused": _REFUSED,
    "freedoms": _FREEDOMS,
    "linux": _LINUX,
}
