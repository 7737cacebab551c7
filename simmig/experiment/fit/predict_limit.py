"""The rate limit that a recorded source kept, from the pauses it made: `migration_rate_limit_pre` and `_post`.

A window lasts from one bandwidth estimate to the next. QEMU 7.2 stops in the page that takes a window over its
share, so the pages of a window that ended in a pause tell the limit to a page. 10.0 counts what is posted: a
window's last chunk may go far beyond its share, and the limit lies between the window's bytes without that chunk
and with it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from statistics import median

from simmig.experiment.amounts import format_byte_rate, format_time
from simmig.trace.qemu_attempts import Logged
from simmig.trace.qemu_recording import QEMU_PAGE_BYTES, LoggedRun, Recording

DEFAULT_BYTES_S = 128 << 20
"""QEMU's (protocol.md, section 2): what a source without pauses is taken to run with."""
_WINDOWS_A_SECOND = 10


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What the log tells of the limit.

    Attributes:
        bytes_s: the limit, None for none.
        kept_as: whose way of keeping it, as a scenario's `migration.rate_limit` names it.
        low_bytes_s, high_bytes_s: between these it must lie; equal where nothing tells.
        pauses: how often the source slept for it, and (`paused_ns`) for how long altogether.
    """

    bytes_s: int | None
    kept_as: str
    low_bytes_s: int = 0
    high_bytes_s: int = 0
    pauses: int = 0
    paused_ns: int = 0

    def tell(self) -> str:
        """For a report."""
        if not self.pauses or self.bytes_s is None:
            text = format_byte_rate(self.bytes_s) if self.bytes_s else "none"
            return f"the source never slept for its rate limit; it is taken to be {text}"
        between = f"{format_byte_rate(self.low_bytes_s)} to {format_byte_rate(self.high_bytes_s)}"
        return (
            f"the source slept {self.pauses} times for its rate limit, {format_time(self.paused_ns)} in all: that "
            f"is {between}, kept as {self.kept_as} does; {format_byte_rate(self.bytes_s)} is taken "
            "(--set migration.max_bandwidth=... for another)"
        )


def limit_of(logged: Logged) -> RateLimit:
    """The limit that the recorded source ran with."""
    recording = logged.recording
    kept_as = "qemu-10.0" if logged.counts_posted else "qemu-7.2"
    windows, paused = _windows(recording)
    limited = [window for window, is_paused in zip(windows, paused, strict=True) if is_paused and window]
    if not limited:
        most = max((sum(run.length_bytes for run in window if not run.zero) for window in windows), default=0)
        return RateLimit(DEFAULT_BYTES_S if most * _WINDOWS_A_SECOND <= 2 * DEFAULT_BYTES_S else None, kept_as)
    bounds = [_posted(window) if logged.counts_posted else _walked(window) for window in limited]
    low, high = max(bound[0] for bound in bounds), min(bound[1] for bound in bounds)
    if low >= high:  # it was changed on the way, or a line is lost: the middle one
        low, high = (int(median(bound[side] for bound in bounds)) for side in (0, 1))
    return RateLimit(
        max(1, (low + high) // 2 * _WINDOWS_A_SECOND),
        kept_as,
        low * _WINDOWS_A_SECOND,
        high * _WINDOWS_A_SECOND,
        len(recording.pauses),
        sum(pause.ended_ns - pause.began_ns for pause in recording.pauses),
    )


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
