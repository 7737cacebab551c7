"""Which events QEMU prints, and how, by release: the table `qemu_versions.toml`, and what a log says of it."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from simmig.trace.qemu_log import LogLine

Version = tuple[int, ...]


class Understood(NamedTuple):
    """An event by the reader's own name, and what its arguments say."""

    event: str
    values: dict[str, str]


NOTHING = Understood("", {})
"""An event that tells the reader nothing."""


@dataclass(frozen=True, slots=True)
class _Printed:
    """One way to print an event."""

    event: str
    arguments: re.Pattern[str]
    since: Version
    until: Version


class Versions:
    """Understands events of every release in the table, and narrows down which one a log is of."""

    def __init__(self) -> None:
        self._table, self._oldest, self._newest = _table()
        self._since, self._until = self._oldest, self._newest
        self._gave_away: dict[str, tuple[Version, Version]] = {}
        self._unknown = ""

    def understand(self, line: LogLine) -> Understood | None:
        """What the line says.

        None for an event that is in the table but printed like this by no release, `NOTHING` for one that is not
        in the table: QEMU has thousands.
        """
        ways = self._table.get(line.event)
        if ways is None:
            return NOTHING
        for way in ways:
            found = way.arguments.match(line.arguments)
            if found is not None:
                self._narrow(line.event, way)
                return Understood(way.event, found.groupdict())
        self._unknown = self._unknown or f"line {line.number}: {line.event} {line.arguments[:60]}"
        return None

    def _narrow(self, event: str, way: _Printed) -> None:
        if (way.since, way.until) != (self._oldest, self._newest) and event not in self._gave_away:
            self._gave_away[event] = (way.since, way.until)
            self._since, self._until = max(self._since, way.since), min(self._until, way.until)

    @property
    def counts_posted(self) -> bool:
        """Whether the release counts bytes for its rate limit when it posts them; 7.2 counts pages as it walks.

        10.0 does so; of those in between it is taken to be the same.
        """
        return bool(self._gave_away) and self._until > (7, 2)

    def tell(self) -> str:
        """Which release the log is of, and what is odd about it."""
        first, last = _text(self._since), _text(self._until)
        if self._until < self._since:
            told = [
                f"{event} ({_text(since)} to {_text(until)})" for event, (since, until) in self._gave_away.items()
            ]
            text = f"QEMU of no one release: {', '.join(told[:4])}"
        else:
            text = f"QEMU {first}" if first == last else f"QEMU {first} to {last}"
        if self._unknown:
            text += f"; printed by no QEMU from {_text(self._oldest)} to {_text(self._newest)}: {self._unknown}"
        return text


@cache
def _table() -> tuple[dict[str, list[_Printed]], Version, Version]:
    document: dict[str, Any] = tomllib.loads(
        files("simmig.trace").joinpath("qemu_versions.toml").read_text("utf-8")
    )
    oldest, newest = _version(document.pop("oldest")), _version(document.pop("newest"))
    table: dict[str, list[_Printed]] = {}
    for event, ways in document.items():
        for way in ways.get("printed", [{}]):
            printed = _Printed(
                event,
                re.compile(way.get("arguments", "")),
                _version(way["since"]) if "since" in way else oldest,
                _version(way["until"]) if "until" in way else newest,
            )
            table.setdefault(way.get("as", event), []).append(printed)
    return table, oldest, newest


def _version(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))


def _text(version: Version) -> str:
    return ".".join(str(part) for part in version)
