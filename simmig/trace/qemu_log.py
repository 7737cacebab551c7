"""QEMU's trace log, line by line: what `-trace` prints on the log back end with time stamps switched on.

An event is ``THREAD@SECONDS.MICROS:event arguments``. Real logs hold more than that: prefixes of journald, syslog
or ts, warnings, prompts, lines that QEMU prints itself, two events on a line. An event is taken wherever it
stands; what else a log holds is counted, and the first few lines of it are kept to be shown. The log may be
compressed with gzip, xz or, where Python has a library for it, zstd.

Threads print past each other, so that lines lie a few microseconds out of order: they are put in order again. A
clock that is set back (one thread's own lines go back) is carried on from where it was.
"""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from simmig.trace.compressed import DAMAGED, Unreadable, opened

TRACE_EVENT = re.compile(r"(\d+)@(\d{1,12})\.(\d{6}):([a-z][a-z0-9_]*)(?![A-Za-z0-9_])")
"""Where an event begins."""
_MAX_LINE_BYTES = 1 << 16
_MAX_PREAMBLE_BYTES = 64 << 20
"""A file that holds no event up to here is no trace log."""
_WINDOW_LINES = 64
"""As far as a line may lie behind its place."""
_SHOWN = 5
_SHOWN_CHARACTERS = 100


class LogError(ValueError):
    """A log that cannot be used; the text names the file, where there is one the line, and why."""

    def __init__(self, path: Path, line: int | None, why: str) -> None:
        place = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{place}: {why}")


class LogLine(NamedTuple):
    """One event. `t_ns` is wall-clock time since 1970, in whole microseconds as the log has it."""

    t_ns: int
    number: int
    event: str
    arguments: str
    thread: int = 0


@dataclass(slots=True)
class LogNotes:
    """What a log holds beside what was understood.

    Attributes:
        events: how many events were read.
        strange: how many lines were not understood.
        shown: the first few of these, as (line number, its text cut short).
        cut: why the file ends before its end, "" where it does not.
        remarks: what else its reader should be told.
    """

    events: int = 0
    strange: int = 0
    shown: list[tuple[int, str]] = field(default_factory=list)
    cut: str = ""
    remarks: list[str] = field(default_factory=list)

    def add_strange(self, number: int, text: str) -> None:
        """One more line that was not understood."""
        self.strange += 1
        if len(self.shown) < _SHOWN:
            short = " ".join(text.split())
            if len(short) > _SHOWN_CHARACTERS:
                short = f"{short[:_SHOWN_CHARACTERS]}..."
            self.shown.append((number, short))


def read_lines(path: Path, notes: LogNotes | None = None) -> Iterator[LogLine]:
    """The log's events in order of time, plain or compressed, a few lines in memory at a time.

    `notes` is told of everything else. Raises LogError when the file cannot be read or holds no event.
    """
    notes = notes if notes is not None else LogNotes()
    waiting: list[LogLine] = []
    clock = _Clock(notes)
    for line in _events(path, notes):
        insort(waiting, clock.carry_on(line))
        if len(waiting) > _WINDOW_LINES:
            yield waiting.pop(0)
    yield from waiting
    if not notes.events:
        raise LogError(path, None, _no_event(notes))


class _Clock:
    """Wall-clock time that never runs back within a thread."""

    def __init__(self, notes: LogNotes) -> None:
        self._notes = notes
        self._last_ns: dict[int, int] = {}
        self._offset_ns = 0

    def carry_on(self, line: LogLine) -> LogLine:
        """The line, later by as much as the clock was set back so far."""
        t_ns = line.t_ns + self._offset_ns
        last_ns = self._last_ns.get(line.thread, 0)
        if t_ns < last_ns:
            self._offset_ns += last_ns - t_ns
            self._notes.remarks.append(
                f"line {line.number}: the clock goes back by {(last_ns - t_ns) / 1e9:.6f} s; it is carried on"
            )
            t_ns = last_ns
        self._last_ns[line.thread] = t_ns
        return line._replace(t_ns=t_ns)


def _events(path: Path, notes: LogNotes) -> Iterator[LogLine]:
    number = read_bytes = 0
    try:
        for line in _raw_lines(path):
            number += 1
            read_bytes += len(line)
            found = _parse(number, line)
            if not found and line.strip():
                notes.add_strange(number, line.decode("utf-8", "replace"))
            if not notes.events and not found and read_bytes > _MAX_PREAMBLE_BYTES:
                raise LogError(path, None, _no_event(notes))
            notes.events += len(found)
            yield from found
    except EOFError:
        notes.cut = "its compressed stream has no end"
    except DAMAGED as error:
        notes.cut = f"its compressed stream is damaged ({error})"
    except Unreadable as error:
        raise LogError(path, None, str(error)) from None
    except OSError as error:
        raise LogError(path, None, error.strerror or str(error)) from error
    if not number and not notes.cut:
        raise LogError(path, None, "the file is empty")


def _raw_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as raw, opened(raw) as stream:
        while line := stream.readline(_MAX_LINE_BYTES):
            yield line


def _parse(number: int, line: bytes) -> list[LogLine]:
    """The events on a line: mostly one, none in what is no trace line, several where two threads share one."""
    text = line.decode("utf-8", "replace")
    heads = list(TRACE_EVENT.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)][: len(heads)]
    found = []
    for head, end in zip(heads, ends, strict=True):
        thread, seconds, micros, event = head.groups()
        t_ns = (int(seconds) * 1_000_000 + int(micros)) * 1000
        found.append(LogLine(t_ns, number, event, text[head.end() : end].strip(), int(thread[-18:])))
    return found


def _no_event(notes: LogNotes) -> str:
    first = f"; line {notes.shown[0][0]}: {notes.shown[0][1]!r}" if notes.shown else ""
    cut = f" ({notes.cut})" if notes.cut else ""
    return (
        "not a QEMU trace log: no line holds THREAD@SECONDS.MICROS:event "
        f"(time stamps come with -msg timestamp=on){cut}{first}"
    )
