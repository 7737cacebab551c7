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
from collections.abc import Iterator
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


def source(release: str, suite: str) -> str:
    """A line for sources.list; `release` the mirror, `suite` what to take from it."""
    signed = f" [signed-by={_KEYRING}]" if _KEYRING.is_file() else ""
    return f"deb{signed} {release} {suite} main"


@contextlib.contextmanager
def backports(home: Path) -> Iterator[Apt]:
    """apt with this release's backports beside it, its lists and downloads below `home` while in use."""
    release, base = codename(), mirror()
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".apt-", dir=home) as directory:
        place = Path(directory)
        suites = (release, f"{release}-backports")
        (place / "sources.list").write_text("".join(source(base, suite) + "\n" for suite in suites))
        for name in ("lists/partial", "archives/partial"):
            (place / name).mkdir(parents=True)
        settings = {
            "Dir::Etc::sourcelist": place / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": place / "lists",
            "Dir::Cache": place,
            "Dir::Cache::archives": place / "archives",
            "APT::Sandbox::User": "root",  # its own user may not write here
            "Debug::NoLocking": "true",  # dpkg's lock is for who installs
        }
        apt = Apt(suites[1], tuple(word for key, value in settings.items() for word in ("-o", f"{key}={value}")))
        apt.get("update")
        yield apt


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
