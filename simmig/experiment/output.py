"""A directory of results that is either whole or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from simmig.experiment.errors import InputError


class OutputDir:
    """Collects files beside `path` and moves them there in one step; without `keep` nothing is left.

    Raises InputError when `path`, which came with `option`, holds anything already: results are never overwritten.
    """

    def __init__(self, path: Path, option: str = "--out") -> None:
        self._path = path
        self._option = option
        if path.is_dir() and not any(path.iterdir()):
            return
        if path.exists() or path.is_symlink():
            what = "holds results already" if path.is_dir() else "is a file"
            raise InputError(f"{option} {path}: {what}, which are never overwritten; name another directory")

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self.work = Path(tempfile.mkdtemp(prefix=f".{self._path.name}-", dir=self._path.parent))
        except OSError as error:
            raise InputError(f"{self._option} {self._path}: cannot be written: {error.strerror}") from None
        return self

    def keep(self) -> None:
        """All is written: put it in its place."""
        umask = os.umask(0)
        os.umask(umask)
        self.work.chmod(0o777 & ~umask)
        self.work.rename(self._path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
