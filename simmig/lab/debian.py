"""Debian's packages, the system's own and backports: downloaded by apt, unpacked below the cache, never installed.

For backports, apt gets a configuration of its own for as long as it takes. It names the mirror that the system's
sources name, so nothing of the system is touched and no host is written down here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from simmig.lab.errors import LabError
from simmig.lab.needs import program

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True, slots=True)
class Apt:
    """apt as the system has it or, by `options`, with sources of its own; `suite` is what it is asked for."""

    suite: str = ""
    options: tuple[str, ...] = ()

    def cache(self, *arguments: str) -> str:
        """What apt-cache prints. Raises LabError."""
        return run("apt-cache", *self.options, *arguments)

    def get(self, *arguments: str, cwd: Path | None = None) -> str:
        """What apt-get prints. Raises LabError."""
        return run("apt-get", "-qq", *self.options, *arguments, cwd=cwd)


def codename() -> str:
    """Of this system's Debian, e.g. bookworm. Raises LabError where it has none."""
    with contextlib.suppress(OSError):
        for line in Path("/etc/os-release").read_text().splitlines():
            if line.startswith("VERSION_CODENAME="):
                return line.partition("=")[2].strip('"')
    raise LabError(
        "this is no Debian release (/etc/os-release has no VERSION_CODENAME); the lab takes its packages"
    )


def mirror() -> str:
    """Where the system's own sources have Debian from. Raises LabError."""
    release = codename()
    for line in run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(ORIGIN)").splitlines():
        words = line.split()
        if words[1:] == [release, "Debian"]:
            return words[0]
    raise LabError(f"apt's sources name no mirror of Debian {release} (try: apt-get update)")


@contextlib.contextmanager
def backports(home: Path) -> Iterator[Apt]:
    """apt with this release's backports beside it, its lists and downloads below `home` while in use."""
    release = codename()
    with sources(home, (release, f"{release}-backports")) as apt:
        yield apt


@contextlib.contextmanager
def sources(home: Path, suites: Sequence[str], status: Path = Path("/var/lib/dpkg/status")) -> Iterator[Apt]:
    """apt with these suites of the system's mirror and no others, its files below `home` while in use.

    `status` says what is installed: by default what this system has. Raises LabError.
    """
    base = mirror()
    signed = f" [signed-by={_KEYRING}]" if _KEYRING.is_file() else ""
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".apt-", dir=home) as directory:
        place = Path(directory)
        (place / "sources.list").write_text("".join(f"deb{signed} {base} {suite} main\n" for suite in suites))
        for name in ("lists/partial", "archives/partial"):
            (place / name).mkdir(parents=True)
        settings = {
            "Dir::Etc::sourcelist": place / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State": place,
            "Dir::State::status": status,
            "Dir::Cache": place,
            "APT::Sandbox::User": "root",  # its own user may not write here
            "Debug::NoLocking": "true",  # dpkg's lock is for who installs
        }
        options = tuple(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))
        apt = Apt(suites[-1], options)
        apt.get("update")
        yield apt


def download_all(apt: Apt, archives: Path, packages: Sequence[str]) -> list[Path]:
    """What it takes to install `packages` and is not installed, as files below `archives`. Raises LabError."""
    (archives / "partial").mkdir(parents=True)
    only = ("-y", "--download-only", "--no-install-recommends", "-o", f"Dir::Cache::archives={archives}")
    apt.get(*only, "install", *packages)
    return sorted(archives.glob("*.deb"))


def unpack(archive: Path, root: Path) -> None:
    """Put a package's files below `root`. Raises LabError."""
    run("dpkg", "-x", str(archive), str(root))


def move_into_place(made: Path, place: Path) -> None:
    """Put `made`, a directory beside `place`, there for what was there: a cache never holds half of anything."""
    shutil.rmtree(place, ignore_errors=True)
    made.rename(place)


def run(name: str, *arguments: str, cwd: Path | None = None) -> str:
    """A program's standard output. Raises LabError, with what it says, when it fails."""
    command = [program(name) or name, *arguments]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise LabError(f"cannot run {name}: {error}") from error
    if done.returncode:
        words = [word for word in arguments if word != "-qq"]
        raise LabError(f"{name} {' '.join(words)} failed:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
