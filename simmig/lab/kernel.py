"""A kernel with soft-RoCE: Debian's own package, downloaded once and unpacked into the cache, never installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from simmig.lab.errors import LabError
from simmig.lab.needs import program

META_PACKAGE = "linux-image-amd64"
MODULES = ("veth", "rdma_rxe", "ib_uverbs", "rdma_ucm", "sch_netem")


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel package: `root` holds boot/ and lib/modules/."""

    root: Path
    release: str

    @property
    def image(self) -> Path:
        """What the virtual machine boots."""
        return self.root / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        """Its modules."""
        return self.root / "lib" / "modules" / self.release


def cache_dir() -> Path:
    """Where downloads are kept: below XDG_CACHE_HOME, by default ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "simmig" / "lab"


def cached_kernel() -> Kernel | None:
    """The newest kernel in the cache."""
    found = [Kernel(path, path.name) for path in cache_dir().glob("kernel/*") if not path.name.startswith(".")]
    return max(found, key=lambda kernel: _version(kernel.release), default=None)


def kernel(tell: Callable[[str], None]) -> Kernel:
    """The kernel in the cache; downloads it when there is none. Raises LabError when that fails."""
    return cached_kernel() or download(tell)


def download(tell: Callable[[str], None]) -> Kernel:
    """Download and unpack the kernel that Debian's meta package stands for. Raises LabError."""
    package = _real_package()
    release = package.removeprefix("linux-image-")
    home = cache_dir() / "kernel"
    home.mkdir(parents=True, exist_ok=True)
    tell(f"downloading {package} (some 70 MB) into {home}, this once")
    # Made whole beside its place and then moved there: a cache never holds half a kernel.
    with tempfile.TemporaryDirectory(prefix=".new-", dir=home) as scratch:
        _run("apt-get", "-qq", "download", package, cwd=scratch)
        archive = next(Path(scratch).glob("*.deb"))
        root = Path(scratch) / "root"
        _run("dpkg", "-x", str(archive), str(root))
        unpacked = Kernel(root, release)
        _check(unpacked, package)
        _run("depmod", "-b", str(root), release)
        shutil.rmtree(root / "usr" / "share", ignore_errors=True)  # documentation
        place = home / release
        shutil.rmtree(place, ignore_errors=True)
        root.rename(place)
    return Kernel(place, release)


def _real_package() -> str:
    listing = _run("apt-cache", "depends", "--important", META_PACKAGE)
    match = re.search(r"Depends: (linux-image-\d\S*-amd64)\s", listing)
    if match is None:
        raise LabError(f"apt knows no kernel package {META_PACKAGE}; the lab takes Debian's (try: apt-get update)")
    return match[1].removesuffix("-unsigned")


def _check(unpacked: Kernel, package: str) -> None:
    if not unpacked.image.is_file():
        raise LabError(f"{package} holds no {unpacked.image.name}")
    names = {path.name.split(".")[0] for path in unpacked.modules.rglob("*.ko*")}
    lacking = [module for module in MODULES if module not in names]
    if lacking:
        raise LabError(f"{package} lacks the modules {', '.join(lacking)}")


def _run(name: str, *arguments: str, cwd: str | None = None) -> str:
    command = [program(name) or name, *arguments]
    try:
        done = subprocess.run(
            command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise LabError(f"cannot run {name}: {error}") from error
    if done.returncode:
        raise LabError(f"{name} {' '.join(arguments)} failed:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _version(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", release))
