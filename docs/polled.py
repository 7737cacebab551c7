"""What polling `query-migrate` would have shown of a recorded migration, made from its trace log.

The replies while it runs are reckoned from the log, as QEMU counts: pages that left the bitmap, pages sent, pages
found dirty at a sync. The last reply, of the completed migration, is QEMU's own, recorded beside the log: what a
prediction from the others is held against.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from simmig.trace.qemu_attempts import read_log
from simmig.trace.qemu_recording import QEMU_PAGE_BYTES, Recording

SUFFIX = ".src.trace.gz"
_MS = 1_000_000
_RATE_PERIOD_NS = 1_000_000_000
"""QEMU reckons its dirty rate at the first sync after so long."""


def polled(log: Path, every_ms: int = 1000) -> list[dict[str, Any]]:
    """The replies while the guest ran, one each `every_ms`."""
    recording = read_log(log).recording
    end_ms = recording.decided_ns // _MS
    return [reply(recording, at_ms) for at_ms in range(every_ms, end_ms, every_ms)]


def final(log: Path) -> dict[str, Any]:
    """What QEMU's own reply said when it was over, and what it ran with."""
    runs = json.loads((log.parent / "query-migrate.json").read_text(encoding="utf-8"))
    told: dict[str, Any] = runs[log.name.removesuffix(SUFFIX)]
    return told


def write(path: Path, replies: list[dict[str, Any]]) -> Path:
    """A file of JSON lines, as a poller would leave it."""
    path.write_text("".join(json.dumps({"return": each}) + "\n" for each in replies), encoding="utf-8")
    return path


def reply(recording: Recording, at_ms: int) -> dict[str, Any]:
    """What it would have replied then."""
    now_ns = at_ms * _MS
    gone = [run for run in recording.runs if run.seen_ns <= now_ns]
    normal = sum(run.pages for run in gone if not run.zero and run.posted_ns <= now_ns)
    zero = sum(run.pages for run in gone if run.zero)
    found = sum(sync.new_pages for sync in recording.syncs[1:] if sync.ended_ns <= now_ns)
    left = recording.pages - sum(run.pages for run in gone) + found
    setup_ms = (min(now_ns, recording.setup_ended_ns) - recording.thread_began_ns) // _MS
    rates = [rate for t_ns, rate in _dirty_rates(recording) if t_ns <= now_ns]
    told: dict[str, Any] = {
        "status": "active" if recording.setup_ended_ns <= now_ns else "setup",
        "total-time": at_ms,
        "setup-time": max(0, setup_ms),
        "ram": {
            "total": recording.pages * QEMU_PAGE_BYTES,
            "transferred": normal * QEMU_PAGE_BYTES,
            "remaining": left * QEMU_PAGE_BYTES,
            "normal": normal,
            "duplicate": zero,
            "dirty-sync-count": sum(0 <= sync.ended_ns <= now_ns for sync in recording.syncs),
            "dirty-pages-rate": rates[-1] if rates else 0,
            "page-size": QEMU_PAGE_BYTES,
        },
    }
    if not rates:  # afterwards it is what is left over the bandwidth
        told["expected-downtime"] = (recording.downtime_limit_ns or 300 * _MS) // _MS
    return told


def _dirty_rates(recording: Recording) -> Iterator[tuple[int, int]]:
    """(when, pages a second), as QEMU reckons them."""
    since_ns, pages = recording.syncs[0].ended_ns, 0
    for sync in recording.syncs[1:]:
        pages += sync.new_pages
        if sync.ended_ns > since_ns + _RATE_PERIOD_NS:
            yield sync.ended_ns, pages * 1_000_000_000 // (sync.ended_ns - since_ns)
            since_ns, pages = sync.ended_ns, 0
