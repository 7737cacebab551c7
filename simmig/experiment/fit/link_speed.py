"""How fast a recorded source's writes went, and whether that changed on the way.

Looked at are slices of long writes, from the first post to the last completion. With dynamic registration those of
the first round wait for chunks to be registered, so only what follows tells of the link; with pin-all, all of it.
"""

from __future__ import annotations

from bisect import bisect_right

from simmig.experiment.fit.speed_changes import stretches
from simmig.trace.qemu_recording import Recording

_LONG_BYTES = 256 << 10
"""The mean write of a slice that tells of the link, and not of what a write costs."""
_SLICE_BYTES = 1 << 20


def link_speeds(recording: Recording) -> list[tuple[int, float]]:
    """Since when, ns after the migration was asked for, at how many bytes a second; empty without a change."""
    since_ns = 0 if recording.pin_all else recording.first_round_ended_ns
    slices = [found for found in _slices(recording) if found[0] >= since_ns]
    parts = stretches([float(spent) for _, spent, _ in slices], [float(moved) for *_, moved in slices])
    if len(parts) < 2:
        return []
    speeds = []
    for first, end in parts:
        part = slices[first:end]
        speed = 1e9 * sum(moved for *_, moved in part) / sum(spent for _, spent, _ in part)
        speeds.append((part[0][0] if first else 0, speed))
    return speeds


def _slices(recording: Recording) -> list[tuple[int, int, int]]:
    """When each began, how long its writes took, and their bytes."""
    writes = sorted((run for run in recording.runs if not run.zero), key=lambda run: run.posted_ns)
    posted = [run.posted_ns for run in writes]
    found = []
    for section in recording.slices:
        inside = writes[bisect_right(posted, section.began_ns) : bisect_right(posted, section.drained_ns)]
        moved = sum(run.length_bytes for run in inside)
        if moved < _SLICE_BYTES or moved < _LONG_BYTES * len(inside):
            continue
        spent_ns = max(run.completed_ns for run in inside) - inside[0].posted_ns
        if spent_ns > 0:
            found.append((section.began_ns, spent_ns, moved))
    return found


def slowdowns(recording: Recording) -> list[float]:
    """The speed of each stretch over that of the first round, which costs are calibrated from."""
    speeds = link_speeds(recording)
    if not speeds:
        return []
    first = [found for found in _slices(recording) if found[0] < recording.first_round_ended_ns]
    calibrated = 1e9 * sum(moved for *_, moved in first) / max(1, sum(spent for _, spent, _ in first))
    before = calibrated if recording.pin_all and first else speeds[0][1]
    return [speed / before for _, speed in speeds]
