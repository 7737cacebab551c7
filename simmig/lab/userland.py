"""Another Debian's user space for commands in the lab, rdma-core and pyverbs included, unpacked into the cache."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from simmig.lab import debian
from simmig.lab.kernel import cache_dir

RELEASES = {"13": "trixie"}
PACKAGES = (
    *("base-files", "bash", "dash", "coreutils", "findutils", "grep", "sed", "gzip", "tar", "util-linux", "procps"),
    *("kmod", "iproute2", "iputils-ping"),
    *("ibverbs-providers", "ibverbs-utils", "rdmacm-utils", "perftest", "python3", "python3-pyverbs", "libstdc++6"),
)
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
        for waste in ("doc", "man", "locale"):
            shutil.rmtree(root / "usr/share" / waste, ignore_errors=True)
        debian.move_into_place(root, home / release)
    return home / release


def _home() -> Path:
    return cache_dir() / "debian"
