"""A directory of results that is either whole or not there, and what can be said of a place beforehand."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from simmig.experiment.errors import InputError
from simmig.whole_file import write_new

UNFINISHED = "simmig-unfinished"
_OF_DISKS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, None})
"""What goes wrong with files alone; None: said by a library that had to write one."""


class OutputDir:
    """Collects files beside `path` and moves them there in one step; without `keep` nothing is left.

    Whatever of a run that was killed still lies there unfinished is removed. Raises InputError when `path`, which
    came with `option`, holds anything already (results are never overwritten), when another run is writing there,
    and in the block's place when a disk is full.
    """

    def __init__(self, path: Path, option: str = "--out") -> None:
        self._path = path
        self._option = option
        self._inside = path.is_dir()  # maybe a mount, or the working directory: it stays what it is
        self.work = path / f".{UNFINISHED}" if self._inside else path.with_name(f".{path.name}.{UNFINISHED}")
        self._made: list[Path] = []
        self._lock = -1
        self._require_free()

    def __enter__(self) -> Self:
        try:
            self._made = [each for each in self._path.parents if not each.exists()]
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._claim()
        except OSError as error:
            self._forget()
            raise InputError(f"{self._option} {self._path}: cannot be written: {error.strerror}") from None
        except InputError:
            self._forget()
            raise
        return self

    def keep(self) -> None:
        """All is written: put it in its place."""
        umask = os.umask(0)
        os.umask(umask)
        self.work.chmod(0o777 & ~umask)
        self._made = []
        if self._inside:
            for entry in sorted(self.work.iterdir()):
                entry.rename(self._path / entry.name)
            return
        try:
            self.work.rename(self._path)
        except OSError:  # somebody has put something else there meanwhile
            number = 2
            while (other := self._path.with_name(f"{self._path.name}-{number}")).exists():
                number += 1
            self.work.rename(other)
            raise InputError(
                f"{self._option} {self._path}: was taken meanwhile; the results are in {other}"
            ) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        self._forget()
        if isinstance(error, OSError) and error.errno in _OF_DISKS:
            raise InputError(
                f"{self._option} {self._path}: cannot be written: {error.strerror or error}"
            ) from None

    def _require_free(self) -> None:
        path = self._path
        try:
            if path.is_dir():
                taken = any(entry.name != self.work.name for entry in path.iterdir())
            else:
                taken = path.exists() or path.is_symlink()
        except OSError as error:
            raise InputError(f"{self._option} {path}: cannot be read: {error.strerror}") from None
        if taken:
            what = "holds results already" if path.is_dir() else "is a file"
            raise InputError(f"{self._option} {path}: {what}, which are never overwritten; name another directory")

    def _claim(self) -> None:
        """Have the working directory for this run alone, and nothing in it."""
        while self._lock < 0:
            self.work.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(self.work, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                raise InputError(f"{self._option} {self._path}: another run is writing there") from None
            except OSError:
                pass  # a file system without locks: nobody can be kept away
            if self.work.exists() and os.path.samestat(os.fstat(lock), self.work.stat()):
                self._lock = lock
            else:
                os.close(lock)  # who had it has just finished
        self._require_free()
        for left in self.work.iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()

    def _forget(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        for each in self._made:
            if each.is_dir() and not any(each.iterdir()):
                each.rmdir()


def require_new_file(path: Path, option: str) -> None:
    """Before anything takes time: raises InputError when no new file can be made at `path`."""
    if path.exists() or path.is_symlink():
        raise InputError(f"{option} {path}: exists already, and is never overwritten; name another file")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: there is no directory {path.parent}")
    _try(path.parent, f"{option} {path}")


def require_place(path: Path, option: str) -> None:
    """Before anything takes time: raises InputError when files cannot be put into a directory `path`."""
    for place in (path, *path.absolute().parents):
        if place.exists() or place.is_symlink():
            if not place.is_dir():
                raise InputError(f"{option} {path}: {place} is not a directory")
            _try(place, f"{option} {path}")
            return


def _try(directory: Path, named: str) -> None:
    """Whether a file with something in it can be written there."""
    trial = directory / f".{os.getpid()}.{UNFINISHED}"
    try:
        try:
            trial.write_bytes(b"simmig")
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{named}: cannot be written: {error.strerror}") from None


def write_file(path: Path, content: str, option: str) -> None:
    """A new file, whole or not at all. Raises InputError."""
    try:
        write_new(path, content)
    except FileExistsError:
        raise InputError(f"{option} {path}: exists already, and is never overwritten") from None
    except OSError as error:
        raise InputError(f"{option} {path}: cannot be written: {error.strerror}") from None
