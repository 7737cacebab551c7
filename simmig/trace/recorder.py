"""From events as they happen to lines of a trace: the canonical form, its digest, and whoever reads along.

A trace is one JSON object a line, keys in the order of `simmig.trace.events`, its type under "event". The SHA-256
of these lines is the run's `trace_sha256`: same seed, same scenario, same digest on any machine.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, get_args

import msgspec

from simmig.trace.events import AnyEvent
from simmig.trace.readers import EventReader, Reader

_BATCH = 4096


class Sink(Protocol):
    """Something to write a trace to, such as a binary file."""

    def write(self, data: bytes, /) -> int:
        """Take all of it."""


class Recorder:
    """Takes events, and hands them on in batches so that emitting one costs next to nothing.

    Args:
        readers: called with every event, in order, at the latest when the recorder is flushed.
        sink: where the lines are written, if anywhere; stays the caller's to close.
    """

    def __init__(self, readers: Sequence[Reader] = (), sink: Sink | None = None) -> None:
        self._handlers = {kind: _handlers(kind, readers) for kind in get_args(AnyEvent)}
        self._sink = sink
        self._digest = hashlib.sha256()
        self._encode = msgspec.json.Encoder().encode_lines
        self._decode = msgspec.json.Decoder(AnyEvent).decode_lines
        self._pending: list[AnyEvent] = []

    def emit(self, event: AnyEvent) -> None:
        """Take an event."""
        self._pending.append(event)
        if len(self._pending) >= _BATCH:
            self.flush()

    def take_lines(self, lines: bytes | memoryview) -> None:
        """Take events that are lines already, as they would be written here."""
        self.flush()
        self._digest.update(lines)
        if self._sink is not None:
            self._sink.write(bytes(lines))
        if any(self._handlers.values()):
            self._hand_on(self._decode(lines))

    def flush(self) -> None:
        """Hand on what was taken."""
        if not self._pending:
            return
        lines = self._encode(self._pending)
        self._digest.update(lines)
        if self._sink is not None:
            self._sink.write(lines)
        self._hand_on(self._pending)
        self._pending.clear()

    def _hand_on(self, events: Sequence[AnyEvent]) -> None:
        handlers = self._handlers
        for event in events:
            for handle in handlers[type(event)]:
                handle(event)

    def sha256(self) -> str:
        """Digest of all lines so far, in hexadecimal."""
        self.flush()
        return self._digest.hexdigest()


def _handlers(kind: type, readers: Sequence[Reader]) -> tuple[Callable[[Any], None], ...]:
    """Who wants to see events of that type, in the order of the readers."""
    wanted = (reader.handlers.get(kind) if isinstance(reader, EventReader) else reader for reader in readers)
    return tuple(handle for handle in wanted if handle is not None)


class TraceFile:
    """A trace file to write, gzip-compressed, the same bytes for the same trace (no name and no time in it).

    Its `sink` never raises, for whoever records may be in the middle of a migration; that the file could not be
    written (OSError) is raised at the block's end.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._lines = gzip.GzipFile(filename="", mode="wb", compresslevel=3, fileobj=self._file, mtime=0)
        self._error: OSError | None = None

    @property
    def sink(self) -> Sink:
        """Where a recorder puts the lines."""
        return self

    def write(self, data: bytes, /) -> int:
        """Take them, as long as they can be written."""
        if self._error is None:
            try:
                return self._lines.write(data)
            except OSError as error:
                self._error = error
        return len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._lines, self._file):
            try:
                file.close()
            except OSError as failed:
                self._error = self._error or failed
        if error is None and self._error is not None:
            raise self._error
