"""Reading a trace back from its file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from simmig.trace.events import AnyEvent


class TraceError(ValueError):
    """A trace that cannot be read; the message names the file, the line and what is wrong."""


def read_trace(path: Path) -> Iterator[AnyEvent]:
    """The events of a trace file (JSON lines, gzip-compressed or not), in order.

    Raises TraceError when the file cannot be read, is cut short, or holds anything but events.
    """
    decode = msgspec.json.Decoder(AnyEvent).decode
    number = 0
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            for line in gzip.GzipFile(fileobj=raw) if compressed else raw:
                number += 1
                yield decode(line)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(f"{path}: cut short or damaged after line {number}: {error}") from error
    except msgspec.MsgspecError as error:
        raise TraceError(f"{path}: line {number} is no event of a trace: {error}") from error
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
