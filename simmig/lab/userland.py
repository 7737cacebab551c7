"""Another Debian's user space for commands in the lab, rdma-core and pyverbs included, unpacked into the cache."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from simmig.lab import debian
from simmig.lab.errors import LabError
from simmig.lab.kernel import cache_dir

RELEASES = {"13": "trixie"}
PACKAGES = (
    *("base-files", "bash", "dash", "coreutils", "findutils", "grep", "sed", "gzip", "tar"),
    *("util-linux", "procps", "kmod", "iproute2", "iputils-ping"),
    *("ibverbs-providers", "ibverbs-utils", "rdmacm-utils", "perftest"),
    *("python3", "python3-pyverbs", "libstdc++6"),
)
_COMPILE = """
import compileall, sys
root, *trees = sys.argv[1:]
for tree in trees:
    compileall.compile_dir(tree, quiet=2, stripdir=root, prependdir="/")
"""
# What the packages' own scripts would write, which do not run.
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
    "etc/group": "root:x:0:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
}


def find(release: str) -> Path | None:
    """The root directory of a release's user space, e.g. "13", if it is in the cache."""
    place = _home() / release
    return place if place.is_dir() else None


def provide(release: str, tell: Callable[[str], None]) -> Path:
    """`find`, downloaded and unpacked first when it is not there. Raises LabError."""
    return find(release) or _download(release, tell)


def _download(release: str, tell: Callable[[str], None]) -> Path:
    home = _home()
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=home) as scratch:
        nothing, root = Path(scratch) / "status", Path(scratch) / "root"
        nothing.touch()
        root.mkdir()
        with debian.sources(home, [RELEASES[release]], status=nothing) as apt:
            tell(f"downloading Debian {release} (some 50 MB) into {home}, this once")
            archives = debian.download_all(apt, Path(scratch) / "archives", PACKAGES)
            # First the package with the links from /bin to /usr/bin and so on, which all others rely on.
            for archive in sorted(archives, key=lambda path: not path.name.startswith("base-files_")):
                debian.unpack(archive, root)
        for name, text in _FILES.items():
            (root / name).write_text(text)
        _add_python(root, tell)
        for waste in ("doc", "man", "locale"):
            shutil.rmtree(root / "usr/share" / waste, ignore_errors=True)
        debian.move_into_place(root, home / release)
    return home / release


def _add_python(root: Path, tell: Callable[[str], None]) -> None:
    """What simmig imports, for that Debian's own Python, and everything compiled: emulated, that takes minutes."""
    link = root / "usr/bin/python3"
    if not link.is_symlink():
        raise LabError(f"{root}: Debian's python3 is not where it was")
    python = link.readlink().name
    version = python.removeprefix("python")
    place = root / f"usr/local/lib/{python}/dist-packages"
    tell(f"downloading what simmig needs for Python {version}")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(place), "--no-compile"]
    binary = ["--implementation", "cp", "--python-version", version, "--only-binary=:all:"]
    debian.run(*install, *binary, *_requirements())
    # By its own loader and libraries: no need to be root, as for chroot.
    own = [root / "lib64/ld-linux-x86-64.so.2", "--library-path", root / "usr/lib/x86_64-linux-gnu"]
    trees = (root / "usr/lib" / python, root / "usr/lib/python3", place)
    words = map(str, [*own, root / "usr/bin" / python, "-I", "-c", _COMPILE, root, *trees])
    debian.run("env", f"PYTHONHOME={root / 'usr'}", *words)


def _requirements() -> list[str]:
    """Of simmig itself and of its tests, as pip takes them."""
    found = [line.partition(";") for line in metadata.requires("simmig") or ()]
    return [name.strip() for name, _, marker in found if not marker or "'testing'" in marker.replace('"', "'")]


def _home() -> Path:
    return cache_dir() / "debian"
