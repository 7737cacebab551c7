"""The rate limit that a recorded source kept, from the pauses it made: `migration_rate_limit_pre` and `_post`.

A window lasts from one bandwidth estimate to the next. QEMU 7.2 stops in the page that takes a window over its
share, so the pages of a window that ended in a pause tell the limit to a page. 10.0 counts what is posted: a
window's last chunk may go far beyond its share, and the limit lies between the window's bytes without that chunk
and with it. Where one limit does not explain all windows, it was changed on the way: each stretch tells its own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from simmig.experiment.amounts import format_byte_rate, format_time
from simmig.experiment.fit.speed_changes import stretches
from simmig.trace.qemu_attempts import Logged
from simmig.trace.qemu_recording import QEMU_PAGE_BYTES, LoggedRun, Recording

DEFAULT_BYTES_S = 128 << 20
"""QEMU's (protocol.md, section 2): what a source without pauses is taken to run with."""
_WINDOWS_A_SECOND = 10
_MORE = 1.25
_RUNNING = 3
"""Windows running that moved so much more than a limit allows: it does not hold."""


class RateChange(NamedTuple):
    """From then on, ns since the migration was asked for, this was the limit; None for none."""

    at_ns: int
    bytes_s: int | None

    def tell(self) -> str:
        """For a report."""
        return f"{format_byte_rate(self.bytes_s) if self.bytes_s else 'none'} from {format_time(self.at_ns)} on"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What the log tells of the limit.

    Attributes:
        bytes_s: the limit, None for none.
        kept_as: whose way of keeping it, as a scenario's `migration.rate_limit` names it.
        low_bytes_s, high_bytes_s: between these it must lie; equal where nothing tells.
        pauses: how often the source slept for it, and (`paused_ns`) for how long altogether.
        changes: what it was changed to on the way, in order of time.
    """

    bytes_s: int | None
    kept_as: str
    low_bytes_s: int = 0
    high_bytes_s: int = 0
    pauses: int = 0
    paused_ns: int = 0
    changes: tuple[RateChange, ...] = ()

    def tell(self) -> str:
        """For a report."""
        first = format_byte_rate(self.bytes_s) if self.bytes_s else "none"
        if not self.pauses:
            return f"the source never slept for its rate limit; it is taken to be {first}"
        if self.changes:
            return (
                f"changed on the way: {first} at first, {', '.join(change.tell() for change in self.changes)}; "
                f"the source slept {self.pauses} times for it, {format_time(self.paused_ns)} in all, kept as "
                f"{self.kept_as} does (--set migration.max_bandwidth=... and migration.change=... for another)"
            )
        between = f"{format_byte_rate(self.low_bytes_s)} to {format_byte_rate(self.high_bytes_s)}"
        return (
            f"the source slept {self.pauses} times for its rate limit, {format_time(self.paused_ns)} in all: that "
            f"is {between}, kept as {self.kept_as} does; {first} is taken "
            "(--set migration.max_bandwidth=... for another)"
        )


def limit_of(logged: Logged) -> RateLimit:
    """The limit that the recorded source ran with, at first and after each change."""
    recording = logged.recording
    kept_as = "qemu-10.0" if logged.counts_posted else "qemu-7.2"
    windows, paused = _windows(recording)
    limited = [
        _Window(index, *(_posted(runs) if logged.counts_posted else _walked(runs)), _moved(runs))
        for index, (runs, is_paused) in enumerate(zip(windows, paused, strict=True))
        if is_paused and runs
    ]
    if not limited:
        most = max((_moved(runs) for runs in windows), default=0)
        return RateLimit(DEFAULT_BYTES_S if most * _WINDOWS_A_SECOND <= 2 * DEFAULT_BYTES_S else None, kept_as)
    told = [_between(limited[first:end]) for first, end in _stretches(limited)]
    limits = [(part[0].place, low, high) for part, low, high in told]
    freed = [RateChange(_began_ns(recording, each), rate) for each, rate in _freed(windows, paused, limits)]
    changes = [RateChange(_began_ns(recording, part[0].place), _rate(low, high)) for part, low, high in told]
    changes = sorted([*changes, *freed], key=lambda change: change.at_ns)
    _, low, high = told[0]
    began_free = changes[0].bytes_s is None
    return RateLimit(
        None if began_free else _rate(low, high),
        kept_as,
        low * _WINDOWS_A_SECOND,
        high * _WINDOWS_A_SECOND,
        len(recording.pauses),
        sum(pause.ended_ns - pause.began_ns for pause in recording.pauses),
        tuple(changes[1:]),
    )


class _Window(NamedTuple):
    """One that ended in a pause: between what its share must lie, and what was moved in it."""

    place: int
    low_bytes: int
    high_bytes: int
    moved_bytes: int


def _stretches(limited: list[_Window]) -> list[tuple[int, int]]:
    """Windows of one limit; all of them where one limit explains them."""
    if max(each.low_bytes for each in limited) < min(each.high_bytes for each in limited):
        return [(0, len(limited))]
    return stretches([1.0] * len(limited), [float(each.moved_bytes) for each in limited])


def _between(part: list[_Window]) -> tuple[list[_Window], int, int]:
    low, high = max(each.low_bytes for each in part), min(each.high_bytes for each in part)
    if low >= high:  # a line is lost: the middle one
        low, high = (int(median(values)) for values in zip(*(each[1:3] for each in part), strict=True))
    return part, low, high


def _freed(
    windows: list[list[LoggedRun]], paused: list[bool], limits: list[tuple[int, int, int]]
) -> Iterator[tuple[int, int | None]]:
    """From which window on no limit held, and (its bytes a second) from which on one did again.

    `limits`: each stretch's first window, and between what its share lies. Several windows running that moved more
    than the limit before or after them allows were not under it.
    """
    running = 0
    free = False
    for index, (runs, is_paused) in enumerate(zip(windows, paused, strict=True)):
        before = [each for each in limits if each[0] <= index]
        first, low, high = before[-1] if before else limits[0]
        running = running + 1 if not is_paused and _moved(runs) > _MORE * high else 0
        if is_paused and free and first != index:
            yield index, _rate(low, high)
        if running == _RUNNING and not free:
            yield index + 1 - _RUNNING, None
        free = not is_paused and (free or running == _RUNNING)


def _moved(runs: list[LoggedRun]) -> int:
    return sum(run.length_bytes for run in runs if not run.zero)


def _rate(low: int, high: int) -> int:
    return max(1, (low + high) // 2 * _WINDOWS_A_SECOND)


def _began_ns(recording: Recording, index: int) -> int:
    return recording.estimates[index - 1].t_ns if index else max(1, recording.setup_ended_ns)


def _windows(recording: Recording) -> tuple[list[list[LoggedRun]], list[bool]]:
    """The runs of each window while the guest ran, and whether it ended in a pause."""
    ends_ns = [estimate.t_ns for estimate in recording.estimates]
    windows: list[list[LoggedRun]] = [[] for _ in ends_ns]
    paused = [False] * len(ends_ns)
    for run in recording.runs:
        index = bisect_right(ends_ns, run.seen_ns)
        if index < len(windows):
            windows[index].append(run)
    for pause in recording.pauses:
        index = bisect_right(ends_ns, pause.began_ns)
        if index < len(paused):
            paused[index] = True
    return windows, paused


def _walked(window: list[LoggedRun]) -> tuple[int, int]:
    """7.2: all pages but the last were within the limit."""
    pages = sum(run.pages for run in window)
    return (pages - 1) * QEMU_PAGE_BYTES, pages * QEMU_PAGE_BYTES


def _posted(window: list[LoggedRun]) -> tuple[int, int]:
    """10.0 looks before each page: the last write is what was merged when it stopped, after the one too much."""
    sizes = [0 if run.zero else run.length_bytes for run in window]
    return sum(sizes[:-2]), sum(sizes[:-1])
