"""A kernel with soft-RoCE: Debian's own package, downloaded once and unpacked into the cache, never installed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from simmig.lab import debian
from simmig.lab.errors import LabError

META_PACKAGE = "linux-image-amd64"
_PREFIX = "linux-image-"
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


def cached_kernel(series: str | None = None) -> Kernel | None:
    """The newest kernel in the cache: of a series, e.g. "6.12", or of the system's own."""
    homes = [_own()] if series is None else [_own(), _backports()]
    found = [path for home in homes for path in home.glob("*") if not path.name.startswith(".")]
    fit = [Kernel(path, path.name) for path in found if series in (None, _series(path.name))]
    return max(fit, key=lambda kernel: _version(kernel.release), default=None)


def kernel(tell: Callable[[str], None], series: str | None = None) -> Kernel:
    """The kernel in the cache, of a series such as "6.12", by default the system's; downloaded when there is none.

    A series that this system's Debian does not have is looked for in its backports. Raises LabError.
    """
    return cached_kernel(series) or download(tell, series)


def download(tell: Callable[[str], None], series: str | None = None) -> Kernel:
    """Download and unpack the kernel that Debian's meta package, or its backport, stands for. Raises LabError."""
    package = None
    with contextlib.suppress(LabError):  # apt's lists may be empty: told below
        package = _real_package(debian.Apt())
    if series is None and package is None:
        raise LabError(f"apt knows no kernel package {META_PACKAGE}; the lab takes Debian's (try: apt-get update)")
    if package is not None and series in (None, _series(package)):
        return _unpacked(debian.Apt(), package, _own(), tell)
    with debian.backports(_backports()) as apt:
        offered = _real_package(apt)
        if offered is None or _series(offered) != series:
            has = " and ".join(name.removeprefix(_PREFIX) for name in (package, offered) if name) or "none"
            raise LabError(f"Debian has no kernel {series} for this system; it has {has}")
        return _unpacked(apt, offered, _backports(), tell)


def _unpacked(apt: debian.Apt, package: str, home: Path, tell: Callable[[str], None]) -> Kernel:
    release = package.removeprefix(_PREFIX)
    home.mkdir(parents=True, exist_ok=True)
    tell(f"downloading {package} (some 70 MB) into {home}, this once")
    with tempfile.TemporaryDirectory(prefix=".new-", dir=home) as scratch:
        apt.get("download", package, cwd=Path(scratch))
        archive = next(Path(scratch).glob("*.deb"))
        root = Path(scratch) / "root"
        debian.unpack(archive, root)
        _check(Kernel(root, release), package)
        debian.run("depmod", "-b", str(root), release)
        shutil.rmtree(root / "usr" / "share", ignore_errors=True)  # documentation
        debian.move_into_place(root, home / release)
    return Kernel(home / release, release)


def _real_package(apt: debian.Apt) -> str | None:
    """What the meta package stands for."""
    named = f"{META_PACKAGE}/{apt.suite}" if apt.suite else META_PACKAGE
    listing = apt.cache("show", "--no-all-versions", named)
    match = re.search(rf"^Depends: ({_PREFIX}\d\S*-amd64)\s", listing, re.MULTILINE)
    return None if match is None else match[1].removesuffix("-unsigned")


def _check(unpacked: Kernel, package: str) -> None:
    if not unpacked.image.is_file():
        raise LabError(f"{package} holds no {unpacked.image.name}")
    names = {path.name.split(".")[0] for path in unpacked.modules.rglob("*.ko*")}
    lacking = [module for module in MODULES if module not in names]
    if lacking:
        raise LabError(f"{package} lacks the modules {', '.join(lacking)}")


def _own() -> Path:
    return cache_dir() / "kernel"


def _backports() -> Path:
    """Kernels that are not the system's own have a place of their own: the newest of them is nobody's default."""
    return cache_dir() / "backports" / "kernel"


def _series(name: str) -> str:
    """Of a release or a package: linux-image-6.1.0-50-amd64 is of 6.1."""
    return ".".join(str(part) for part in _version(name)[:2])


def _version(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", release))
