"""A timeline that a person can open: Chrome's trace JSON, for ui.perfetto.dev or chrome://tracing.

Tracks: the guest's state on both sides, rounds, slices, drains by who asked for them, and as counters the bytes
pending and the pages left to send. Single work requests are left to the trace.
"""

from __future__ import annotations

from typing import Any

import msgspec

from simmig.trace import events as ev
from simmig.trace.readers import EventReader
from simmig.trace.series import Gauge

_PID = {"source": 1, "destination": 2}
_TRACKS = ("guest", "phases", "rounds", "slices", "drains: policy", "drains: wire", "drains: protocol")
_TID = {name: number for number, name in enumerate(_TRACKS, start=1)}


class Timeline(EventReader):
    """A reader of traces: show it every event, then take `json`."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []
        self._open: dict[tuple[ev.Side, str], tuple[int, dict[str, Any]]] = {}
        self._last_ns = 0
        self.handlers = {
            ev.MigrationBegan: self._on_began,
            ev.SetupEnded: lambda e: self._next(e, "phases", "live"),
            ev.MigrationEnded: self._on_ended,
            ev.RoundBegan: lambda e: self._next(e, "rounds", f"round {e.index}", dirty_pages=e.dirty_pages),
            ev.RoundEnded: lambda e: self._end(e, "rounds"),
            ev.SliceBegan: lambda e: self._next(e, "slices", f"slice {e.index}"),
            ev.SliceEnded: lambda e: self._end(e, "slices"),
            ev.DrainBegan: self._on_drain_began,
            ev.DrainEnded: lambda e: self._end(e, f"drains: {e.asked_by}", left_bytes=e.pending_bytes),
            ev.VmStopped: self._on_stopped,
            ev.VmResumed: lambda e: self._next(e, "guest", "running"),
        }

    def json(self, pending: Gauge, remaining_pages: Gauge) -> bytes:
        """The timeline, with the two counters that `simmig.trace.metrics.Metrics` gathers."""
        for began_ns, entry in self._open.values():
            entry["dur"] = (self._last_ns - began_ns) / 1000
        self._open.clear()
        counters = [*_counter("pending bytes", pending), *_counter("pages left to send", remaining_pages)]
        document = {"displayTimeUnit": "ms", "traceEvents": [*_names(), *self._entries, *counters]}
        return msgspec.json.encode(document)

    def _next(self, event: ev.Event, track: str, name: str, **details: Any) -> None:
        self._end(event, track)
        entry = {
            "name": name,
            "cat": track,
            "ph": "X",
            "ts": event.t_ns / 1000,
            "dur": 0.0,
            "pid": _PID[event.side],
            "tid": _TID[track],
            "args": details,
        }
        self._entries.append(entry)
        self._open[event.side, track] = event.t_ns, entry

    def _end(self, event: ev.Event, track: str, **details: Any) -> None:
        self._last_ns = max(self._last_ns, event.t_ns)
        began_ns, entry = self._open.pop((event.side, track), (0, None))
        if entry is not None:
            entry["dur"] = (event.t_ns - began_ns) / 1000
            entry["args"] |= details

    def _on_began(self, event: ev.MigrationBegan) -> None:
        self._next(event, "phases", "setup", policy=event.policy, transport=event.transport, pin_all=event.pin_all)
        if event.side == "source":
            self._next(event, "guest", "running")

    def _on_ended(self, event: ev.MigrationEnded) -> None:
        for track in _TRACKS[1:]:
            self._end(event, track)
        self._mark(event, event.status, event.reason)

    def _on_stopped(self, event: ev.VmStopped) -> None:
        self._next(event, "guest", "stopped")
        self._mark(event, "guest stopped", "")
        self._next(event, "phases", "completion")

    def _on_drain_began(self, event: ev.DrainBegan) -> None:
        track = f"drains: {event.asked_by}"
        self._next(event, track, event.point, pending_bytes=event.pending_bytes, target_bytes=event.target_bytes)

    def _mark(self, event: ev.Event, name: str, reason: str) -> None:
        mark = {"name": name, "ph": "i", "s": "p", "ts": event.t_ns / 1000, "pid": _PID[event.side]}
        self._entries.append(mark | {"tid": _TID["phases"], "args": {"reason": reason} if reason else {}})


def _names() -> list[dict[str, Any]]:
    named: list[dict[str, Any]] = []
    for side, pid in _PID.items():
        named.append({"name": "process_name", "ph": "M", "pid": pid, "args": {"name": side}})
        tracks = _TRACKS if side == "source" else _TRACKS[:2]
        for track in tracks:
            tid = _TID[track]
            named.append({"name": "thread_name", "ph": "M", "pid": pid, "tid": tid, "args": {"name": track}})
            named.append(
                {"name": "thread_sort_index", "ph": "M", "pid": pid, "tid": tid, "args": {"sort_index": tid}}
            )
    return named


def _counter(name: str, gauge: Gauge) -> list[dict[str, Any]]:
    """Each bin's highest value at its start and its last value at its end."""
    entries: list[dict[str, Any]] = []
    for index, values in gauge.bins.items():
        for t_ns, value in (
            (index * gauge.width_ns, values.high),
            ((index + 1) * gauge.width_ns - 1, values.last),
        ):
            entries.append(
                {"name": name, "ph": "C", "ts": t_ns / 1000, "pid": _PID["source"], "args": {"value": value}}
            )
    return entries
