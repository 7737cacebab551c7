"""QEMU's trace log, line by line: what `-trace` prints on the log back end with time stamps switched on.

A line is ``PID@SECONDS.MICROS:event arguments``. The log may be compressed with gzip. Reading is strict: anything
else than such lines, a clock that runs backwards or a line cut short is an error that names the line.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_LINE = re.compile(r"\d+@(\d{1,12})\.(\d{6}):([a-z][a-z0-9_]*) ([ -~]*)")
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_LINE_BYTES = 1 << 16


class LogError(ValueError):
    """A log that cannot be used; the text names the file, where there is one the line, and why."""

    def __init__(self, path: Path, line: int | None, why: str) -> None:
        place = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{place}: {why}")


class LogLine(NamedTuple):
    """One event. `t_ns` is wall-clock time since 1970, in whole microseconds as the log has it."""

    number: int
    t_ns: int
    event: str
    arguments: str


def read_lines(path: Path) -> Iterator[LogLine]:
    """The log's lines in order, plain or gzip, a line in memory at a time.

    Raises LogError when the file cannot be read, is cut short, or holds anything but trace lines in order of time.
    """
    number = 0
    try:
        with path.open("rb") as raw:
            compressed = raw.peek(2)[:2] == _GZIP_MAGIC
            stream: io.BufferedIOBase = gzip.GzipFile(fileobj=raw) if compressed else raw
            last_ns = 0
            while line := stream.readline(_MAX_LINE_BYTES):
                number += 1
                parsed = _parse(path, number, line)
                if parsed.t_ns < last_ns:
                    raise LogError(path, number, "its time is before that of the line above")
                last_ns = parsed.t_ns
                yield parsed
    except EOFError as error:
        raise LogError(path, number + 1, "the file is cut short: its gzip stream has no end") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise LogError(path, number + 1, f"the gzip stream is damaged ({error})") from error
    except OSError as error:
        raise LogError(path, None, error.strerror or str(error)) from error
    if not number:
        raise LogError(path, None, "the file is empty")


def _parse(path: Path, number: int, line: bytes) -> LogLine:
    text = line.decode("ascii", "replace")
    match = _LINE.fullmatch(text[:-1]) if text.endswith("\n") else None
    if match is None:
        if number > 1 and not text.endswith("\n") and len(line) < _MAX_LINE_BYTES:
            raise LogError(path, number, "the file is cut short: the last line has no end")
        hint = " (PID@SECONDS.MICROS:event arguments; time stamps come with -msg timestamp=on)"
        raise LogError(path, number, f"not a line of a QEMU trace log{hint if number == 1 else ''}: {text[:60]!r}")
    seconds, micros, event, arguments = match.groups()
    return LogLine(number, (int(seconds) * 1_000_000 + int(micros)) * 1000, event, arguments.rstrip())
