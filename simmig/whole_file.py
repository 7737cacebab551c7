"""A new file that is whole or not there, and never over another one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


def write_new(path: Path, content: str | bytes) -> None:
    """Write it beside `path`, then put it there. Raises FileExistsError when `path` is taken, and OSError."""
    unfinished = path.with_name(f".{path.name}.simmig-unfinished")
    try:
        with unfinished.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        try:
            os.link(unfinished, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:  # else a file system that has no links
                raise
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)
