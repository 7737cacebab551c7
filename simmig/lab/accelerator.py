"""Whether KVM works here. That /dev/kvm exists says little: nested, it may fail on the first instruction."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_FIRMWARE_BYTES = 64 << 10
_RESET_VECTOR = _FIRMWARE_BYTES - 16  # where an x86 processor begins
_PROGRAM = bytes.fromhex("b021 e6f4 f4")  # mov al, 0x21; out 0xf4, al; hlt
_EXIT_STATUS = 0x21 << 1 | 1  # what isa-debug-exit makes of it
_PATIENCE_S = 10


def kvm_works(qemu: str, directory: Path) -> bool:
    """Run five bytes of machine code under KVM, with `directory` to write them to."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    firmware = directory / "firmware"
    firmware.write_bytes(_PROGRAM.rjust(_RESET_VECTOR + len(_PROGRAM), b"\x90").ljust(_FIRMWARE_BYTES, b"\x90"))
    machine = ["-accel", "kvm", "-cpu", "host", "-m", "16", "-display", "none", "-nodefaults", "-no-reboot"]
    exit_port = ["-bios", str(firmware), "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
    try:
        done = subprocess.run(
            [qemu, *machine, *exit_port],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == _EXIT_STATUS
