"""What people paste: objects of JSON or as Python prints them, among lines of text, with whatever prefix.

An object may go over several lines, each behind a logger's prefix. A line's time is looked for at its beginning:
ISO 8601, syslog's, a time of day, seconds since 1970.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

_LONGEST = 1 << 14
"""An object of more characters over several lines is none of those looked for."""
_DEEPEST = 10
_PATIENCE = 300
"""After so many braces running that begin no object none is expected any more: program text, or worse."""
_STRUCTURE = re.compile(r"""["'{}\\\n]""")
_LONG = re.compile(r"(?<=\d)L\b")
_MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}
_OF_DAY = r"(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?"
_ISO = re.compile(rf"(?<!\d)(\d{{4}})-(\d\d)-(\d\d)[T _]{_OF_DAY}")
_SYSLOG = re.compile(rf"\b([A-Z][a-z]{{2}}) +(\d{{1,2}}) {_OF_DAY}")
_TIME = re.compile(rf"(?<![\d:]){_OF_DAY}(?!:)")
_EPOCH = re.compile(r"^\W*(\d{10})(?:\.(\d{1,9}))?\b")
_MAYBE_CLOCK = re.compile(r":\d\d:|^\W*\d{10}")
_LEAP_YEAR = 2000
"""Stands for the year that syslog does not tell."""


class Piece(NamedTuple):
    """A line of text, or (`document`) an object; `clock_s` is the time before it, of any origin, else -1."""

    text: str
    document: dict[str, Any] | None
    clock_s: float


def pieces(text: str) -> Iterator[Piece]:
    """All of it, in order."""
    at = 0
    patience = _PATIENCE
    while at < len(text):
        line_end = text.find("\n", at)
        line_end = len(text) if line_end < 0 else line_end
        brace = text.find("{", at, line_end)
        document, end = None, 0
        if brace >= 0 and patience:
            document, end = _document(text, brace, line_end, text[at:brace])
            patience = patience - 1 if document is None else _PATIENCE
        if document is None:
            line = text[at:line_end].rstrip("\r")
            yield Piece(line, None, clock_of(line))
            at = line_end + 1
        else:
            yield Piece("", document, clock_of(text[at:brace]))
            at = end


def clock_of(line: str) -> float:
    """The time that a line begins with, in seconds; -1 where there is none."""
    if not _MAYBE_CLOCK.search(line):
        return -1.0
    dated = _dated(line)
    if dated >= 0:
        return dated
    if found := _TIME.search(line):
        return _of_day(list(found.groups()))
    found = _EPOCH.search(line)
    return float(f"{found[1]}.{found[2] or 0}") if found else -1.0


def _dated(line: str) -> float:
    try:
        if found := _ISO.search(line):
            year, month, day, *rest = found.groups()
            return datetime(int(year), int(month), int(day), tzinfo=UTC).timestamp() + _of_day(rest)
        if (found := _SYSLOG.search(line)) and found[1].lower() in _MONTHS:
            month, day, *rest = found.groups()
            date = datetime(_LEAP_YEAR, _MONTHS[month.lower()], int(day), tzinfo=UTC)
            return date.timestamp() + _of_day(rest)
    except ValueError:
        pass  # no such day
    return -1.0


def _of_day(parts: list[str | None]) -> float:
    hours, minutes, seconds, fraction = parts
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(f"{seconds}.{fraction or 0}")


def _document(text: str, brace: int, line_end: int, before: str) -> tuple[dict[str, Any] | None, int]:
    """The object that begins at `brace`, and where it ends; None where none does."""
    value, length = _json(text[brace:line_end])
    if isinstance(value, dict):
        return value, brace + length
    end = _closed(text, brace)
    if end < 0:
        return None, 0
    written = _without_prefix(text[brace:end], before)
    value, _ = _json(written)
    if value is None:
        try:
            value = ast.literal_eval(_LONG.sub("", written))
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            return None, 0
    return (value, end) if isinstance(value, dict) else (None, 0)


def _json(text: str) -> tuple[Any, int]:
    """What the text begins with, and how long that is; None for what is no JSON."""
    try:
        return json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None, 0


def _closed(text: str, brace: int) -> int:
    """Behind the brace that closes this one; -1 where none does."""
    depth, quote, skip = 0, "", -1
    for found in _STRUCTURE.finditer(text, brace, min(len(text), brace + _LONGEST)):
        mark = found[0]
        if found.start() == skip:
            continue
        if mark == "\\":
            skip = found.end()
        elif quote:
            quote = "" if mark in (quote, "\n") else quote
        elif mark in "\"'":
            quote = mark
        elif mark == "{":
            depth += 1
            if depth > _DEEPEST:
                return -1
        elif mark == "}":
            depth -= 1
            if not depth:
                return found.end()
    return -1


def _without_prefix(written: str, before: str) -> str:
    """Without what a logger put before each line: `before`, as far as one begins like it, whatever its digits."""
    first, *rest = written.split("\n")
    tail = ""
    for word in reversed(before.split()):
        tail = rf"(?:\s*{_any_digits(word)}{tail})?"
    prefix = re.compile(tail)
    return "\n".join([first, *(line[match.end() :] if (match := prefix.match(line)) else line for line in rest)])


def _any_digits(word: str) -> str:
    return re.sub(r"\d+", lambda _: r"\d+", re.escape(word))
