"""QEMU in another version than the system's: from Debian's backports, unpacked beside the installed one.

``version("10.0")`` is the command to run it with, for whatever needs a second version: a migration between two.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from simmig.lab import debian
from simmig.lab.errors import LabError
from simmig.lab.kernel import cache_dir
from simmig.lab.needs import program

PROGRAM = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
# Its libraries, modules and firmware are found beside it; what it does not bring is the system's.
_WRAPPER = f"""#!/bin/sh
root=${{0%/*}}/root
libraries=$root/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH="$libraries:$root/lib/x86_64-linux-gnu" QEMU_MODULE_DIR="$libraries/qemu"
exec "$root/usr/bin/{PROGRAM}" -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" "$@"
"""
_WASTE = ("usr/share/doc", "usr/share/man", "usr/share/icons")


def version(wanted: str) -> list[str]:
    """The command that runs QEMU `wanted`, e.g. "7.2" or "10.0": the installed one, or one in the cache.

    The command's first word is a program of its own, also for who wants a path. Raises LabError, with the command
    that helps, when there is none.
    """
    found = find(wanted)
    if found is None:
        raise LabError(
            f"there is no QEMU {wanted} here; `simmig lab install --qemu {wanted}` gets it from backports"
        )
    return [str(found)]


def find(wanted: str) -> Path | None:
    """The program of QEMU `wanted`, if this machine has it, installed or in the cache."""
    installed = program(PROGRAM)
    for path in (Path(installed) if installed else None, _home() / wanted / PROGRAM):
        if path is not None and _series(path) == wanted:
            return path
    return None


def provide(wanted: str, tell: Callable[[str], None]) -> list[str]:
    """`version`, downloaded and unpacked first when it is not there. Raises LabError."""
    if find(wanted) is None:
        _download(wanted, tell)
    return version(wanted)


def _download(wanted: str, tell: Callable[[str], None]) -> None:
    home = _home()
    with debian.backports(home) as apt, tempfile.TemporaryDirectory(prefix=".new-", dir=home) as scratch:
        package = f"{PACKAGE}/{apt.suite}"
        offered = re.search(
            r"^Version: (?:\d+:)?(\d+\.\d+)", apt.cache("show", "--no-all-versions", package), re.MULTILINE
        )
        if offered is None or offered[1] != wanted:
            raise LabError(f"{apt.suite} has QEMU {offered[1] if offered else 'not at all'}, not {wanted}")
        tell(f"downloading QEMU {wanted} (some 15 MB) into {home}, this once")
        whole = Path(scratch) / "whole"
        root, wrapper = whole / "root", whole / PROGRAM
        whole.mkdir()
        for archive in debian.download_all(apt, Path(scratch) / "archives", [package]):
            debian.unpack(archive, root)
        for waste in _WASTE:
            shutil.rmtree(root / waste, ignore_errors=True)
        wrapper.write_text(_WRAPPER)
        wrapper.chmod(0o755)
        said = _said(wrapper)
        if f"version {wanted}." not in said:
            raise LabError(f"QEMU {wanted}, unpacked, does not run: {said.strip()}")
        debian.move_into_place(whole, home / wanted)


def _series(path: Path) -> str | None:
    match = re.search(r"version (\d+\.\d+)", _said(path))
    return match[1] if match else None


def _said(path: Path) -> str:
    """What a QEMU says of its version, or why it does not."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return done.stdout + done.stderr


def _home() -> Path:
    return cache_dir() / "backports" / "qemu"
