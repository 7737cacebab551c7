"""What runs the lab's machine: KVM where the lab's own kernel boots under it, emulation elsewhere.

That /dev/kvm exists says little. Nested, it may fail on the first instruction, or run a few and never get a Linux
kernel to its first line. So the kernel itself is asked, once a boot of the host, and the answer remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simmig.lab.errors import LabError
from simmig.lab.guard import guarded
from simmig.lab.kernel import Kernel, cache_dir

Wanted = Literal["auto", "kvm", "tcg"]
FIRST_LINE = b"Linux version"
PATIENCE_S = 10.0
"""Under a KVM that works a kernel prints its first line in less than a second, busy machines included."""
_LOOK_S = 0.05
_ANSWERS = 16
"""So many are kept: for several kernels, and for several hosts that share a cache."""
_DEVICE = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What the machine runs on, and why; `news` where that was found out just now, at the cost of seconds."""

    kvm: bool
    why: str
    news: bool = False

    def __str__(self) -> str:
        return f"{'KVM' if self.kvm else 'emulation (TCG)'}: {self.why}"


def choose(wanted: Wanted, booted: Kernel, qemu: str) -> Accelerator:
    """KVM or emulation for this kernel on this host; `qemu` is the program.

    Raises LabError when KVM is wanted and does not work.
    """
    if wanted == "tcg":
        return Accelerator(False, "asked for")
    found = _found(booted, qemu)
    if wanted == "kvm" and not found.kvm:
        raise LabError(f"--accel kvm: {found.why}. Leave the option out for emulation")
    return found


def remember(booted: Kernel, qemu: str, kvm: bool, why: str) -> None:
    """Keep the answer for this boot of this host; a cache that cannot be written only costs the seconds again."""
    kept = {key: value for key, value in _remembered().items() if key != _host(booted, qemu)}
    kept = dict(list(kept.items())[1 - _ANSWERS :]) | {_host(booted, qemu): {"kvm": kvm, "why": why}}
    with contextlib.suppress(OSError):
        cache_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache_dir(), prefix=".new-", delete=False) as file:
            json.dump(kept, file)
        os.replace(file.name, _memory())


def _remembered() -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(_memory().read_text())
        if isinstance(kept, dict):
            return kept
    return {}


def _found(booted: Kernel, qemu: str) -> Accelerator:
    if not _DEVICE.exists():
        return Accelerator(False, f"there is no {_DEVICE}")
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return Accelerator(False, f"{_DEVICE} may not be opened by this user (group kvm?)")
    with contextlib.suppress(KeyError, TypeError):
        kept = _remembered()[_host(booted, qemu)]
        return Accelerator(bool(kept["kvm"]), str(kept["why"]))
    complaint = _boot(booted, qemu)
    why = complaint or "the kernel boots under it"
    remember(booted, qemu, not complaint, why)
    return Accelerator(not complaint, why, news=True)


def _boot(booted: Kernel, qemu: str) -> str:
    """Boot the kernel under KVM up to its first line; what went wrong, or nothing."""
    with tempfile.TemporaryDirectory(prefix="simmig-kvm-") as directory:
        console, words = Path(directory) / "console", Path(directory) / "words"
        console.touch()
        command = [
            *(qemu, "-accel", "kvm", "-cpu", "host", "-m", "512", "-display", "none", "-nodefaults", "-no-reboot"),
            *("-kernel", os.fspath(booted.image), "-serial", f"file:{console}"),
            *("-append", "earlyprintk=serial,ttyS0 console=ttyS0 panic=-1"),
        ]
        with (
            words.open("wb") as stderr,
            guarded(command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr) as process,
        ):
            deadline = time.monotonic() + PATIENCE_S
            while True:
                ended = process.poll() is not None  # asked before the console is read: its last words count
                if FIRST_LINE in console.read_bytes():
                    return ""
                if ended:
                    last = words.read_text(errors="replace").strip().splitlines()[-1:] or ["no word"]
                    return f"KVM is there and cannot start the kernel ({last[0]})"
                if time.monotonic() > deadline:
                    return f"KVM is there, but under it the kernel prints nothing within {PATIENCE_S:g} s"
                time.sleep(_LOOK_S)


def _memory() -> Path:
    return cache_dir() / "accelerator.json"


def _host(booted: Kernel, qemu: str) -> str:
    """What the answer holds for: this boot of this host, this QEMU, this kernel."""
    program = Path(qemu).stat()
    facts = [
        *(_BOOT_ID.read_text().strip(), platform.release(), booted.release),
        *(qemu, str(program.st_size), str(program.st_mtime_ns)),
    ]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()
