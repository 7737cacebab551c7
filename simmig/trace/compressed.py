"""Files as they lie about: plain, or compressed with gzip, xz or zstd, told by their first bytes."""

from __future__ import annotations

import gzip
import importlib
import io
import lzma
import zlib
from types import ModuleType
from typing import cast

_GZIP = b"\x1f\x8b"
_XZ = b"\xfd7zXZ\x00"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_MODULES = ("compression.zstd", "backports.zstd")
"""Python's own from 3.14 on, and the same for older ones."""


class Unreadable(ValueError):
    """A compression that nothing installed here undoes; the text says the way out."""


def _zstd_module() -> ModuleType | None:
    for name in _ZSTD_MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


_zstd = _zstd_module()
DAMAGED: tuple[type[Exception], ...] = (
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    *([_zstd.ZstdError] if _zstd else []),
)
"""What reading a damaged stream raises; one that is cut short raises EOFError."""


def opened(raw: io.BufferedReader) -> io.BufferedIOBase:
    """The plain bytes of `raw`. Raises `Unreadable`."""
    head = raw.peek(len(_XZ))[: len(_XZ)]
    if head.startswith(_GZIP):
        return gzip.GzipFile(fileobj=raw)
    if head.startswith(_XZ):
        return lzma.LZMAFile(raw)
    if not head.startswith(_ZSTD):
        return raw
    if _zstd is None:
        raise Unreadable(
            "is compressed with zstd, for which this Python has no library: unpack it first (zstd -d FILE), "
            "or pip install backports.zstd"
        )
    return cast(io.BufferedIOBase, _zstd.ZstdFile(raw))
