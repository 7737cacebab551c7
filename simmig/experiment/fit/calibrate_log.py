"""From the setup and the first round of a recorded QEMU migration to costs that a simulation can run on.

Nothing behind the first round is looked at. Every figure is a mean or a least-squares fit over all events of its
kind; means, because what they predict is a sum: a cost that is rarely ten times as large is part of it. Printing
the log is part of the recorded host and stays in the figures.

Which event a cost is charged to is the simulation's business, see `HostCosts` (simmig/verbs/sim/host.py). What the
log cannot tell apart stays together: polling and waking are in the figures of what was polled or woken for.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from random import Random
from statistics import median
from typing import TypeVar

from simmig.trace.qemu_recording import QEMU_PAGE_BYTES, LoggedMessage, LoggedRun, Recording

T = TypeVar("T")

_LONG_RUN_PAGES = 64
"""Runs shorter than this say nothing of what a page costs: what a run costs drowns it."""
_ALL_OF_IT = 0.9
"""A sender that spends so much of the time in which writes are in flight on posting them is the limit itself."""
_MIN_SLOPE = 0.01
"""ns a byte: faster than 100 GB/s is more than a log with microseconds can tell."""

_OUTLIER = 4.0
"""Points further off a line than so many times the median distance do not count."""


class CalibrationError(ValueError):
    """The recording's setup and first round do not tell enough; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A calibrated figure: its value, how many events it comes from, and which."""

    name: str
    value: float
    unit: str
    events: int
    source: str


@dataclass(slots=True)
class Calibration:
    """Costs of both hosts (names of `HostCosts`), and the link between them."""

    source: dict[str, float] = field(default_factory=dict)
    destination: dict[str, float] = field(default_factory=dict)
    bandwidth_bit_s: int = 0
    latency_ns: int = 0
    figures: list[Figure] = field(default_factory=list)


def calibrate_recording(recording: Recording, random: Random | None = None) -> Calibration:
    """Costs and link from setup and first round; with `random`, from a bootstrap resample of their events.

    Raises CalibrationError when events that are needed are missing.
    """

    return _Calibrator(recording, random).run()


class _Calibrator:
    def __init__(self, recording: Recording, random: Random | None) -> None:
        self._recording = recording
        self._random = random
        self._line_ns = recording.line_ns
        self._end_ns = end_ns = recording.first_round_ended_ns
        self._messages = [m for m in recording.messages if m.posted_ns < end_ns]
        self._runs = [run for run in recording.runs if run.seen_ns < end_ns]
        self._writes = [run for run in self._runs if not run.zero]
        self._busy = _busy_periods(self._writes)
        self._result = Calibration()
        self._send_ns = self._turnaround_ns = 0.0

    def run(self) -> Calibration:
        """Everything, in an order in which each figure can lean on those before it."""
        self._control()
        self._link()
        self._pages()
        self._posting()
        self._registration()
        self._setup()
        return self._result

    def _control(self) -> None:
        result = self._result
        alone = [m for m in self._messages if not m.pending_writes and m.completed_ns >= 0 and m.answered_ns < 0]
        sends_ns = [m.completed_ns - m.posted_ns for m in alone]
        self._send_ns = send_ns = self._mean(
            "send_ns", sends_ns, "control SENDs until they complete, nothing else in flight"
        )
        floor_ns = max(0, min(sends_ns) - self._line_ns)
        result.latency_ns = floor_ns // 2
        self._note(
            "latency_ns", floor_ns / 2, "ns", len(sends_ns), "half of the fastest of these, less a printed line"
        )
        result.source["wake_ns"] = send_ns - floor_ns
        self._note("wake_ns", send_ns - floor_ns, "ns", len(sends_ns), "what these take beyond that")
        pairs = [
            (before, after)
            for before, after in zip(self._messages, self._messages[1:], strict=False)
            if after.follows and after.waited
        ]
        self._turnaround_ns = self._mean(
            "turnaround_ns",
            [after.ready_ns - before.completed_ns for before, after in pairs],
            "a SEND's completion until the next READY, the source waiting: the destination's share",
        )
        result.destination["message_ns"] = self._turnaround_ns / 2
        ready_to_send_ns = self._mean(
            "ready_to_send_ns",
            [after.posted_ns - after.ready_ns for _, after in pairs],
            "a READY waited for until the message it lets go: the source's share",
        )
        result.source["message_ns"] = ready_to_send_ns / 2

    def _link(self) -> None:
        periods = [(float(sum(run.length_bytes for run in runs)), _duration_ns(runs)) for runs in self._busy]
        slope = max(_MIN_SLOPE, self._fit("link", periods)[0])
        source = "first post to last completion of each stretch with writes in flight, by its bytes (payload)"
        posting_ns = sum(run.returned_ns - run.posted_ns for run in self._writes)
        if posting_ns >= _ALL_OF_IT * sum(duration_ns for _, duration_ns in periods):
            slope = _MIN_SLOPE
            source = "posts return when all has arrived: the sender is the limit, the link is taken as unlimited"
        self._result.bandwidth_bit_s = round(8e9 / slope)
        self._note("bandwidth_bit_s", 8e9 / slope, "bit/s", len(periods), source)

    def _posting(self) -> None:
        source = self._result.source
        idle = [runs[0] for runs in self._busy]
        posts = [(float(run.length_bytes), float(run.returned_ns - run.posted_ns)) for run in idle]
        queued = [run.returned_ns - run.posted_ns for runs in self._busy for run in runs[1:]]
        slope, fixed_ns = self._fit("post", posts)
        idle_ns, after_ns = self._aftermath(idle)
        size = sum(length for _, length in idle_ns)
        extra = sum(spent_ns - after_ns for spent_ns, _ in idle_ns) / size if size else 0.0
        if queued:  # posts that leave their bytes to others tell best what a post takes beside them
            fixed_ns = self._average(queued)
            drawn = self._draw(posts)
            slope = sum(spent_ns - fixed_ns for _, spent_ns in drawn) / sum(length for length, _ in drawn)
        source["post_byte_ns"] = max(0.0, slope) + max(0.0, extra)
        how = "posts with nothing in flight, by bytes, and by how much longer than others they slow what follows"
        self._note("post_byte_ns", source["post_byte_ns"], "ns", len(idle), how)
        prepared = [run.prepare_ns for run in self._writes if run.prepare_ns >= 0]
        source["write_ns"] = self._average(prepared) + fixed_ns + after_ns
        how = "a run's preparation, what its post takes beside its bytes, and what follows but for the next scan"
        self._note("write_ns", source["write_ns"], "ns", len(prepared), how)

    def _aftermath(self, idle: Sequence[LoggedRun]) -> tuple[Sequence[tuple[float, int]], float]:
        """From a post's return to the next run, less its scan: after idle posts (bytes too), and after others."""
        was_idle = {id(run) for run in idle}
        after_idle: list[tuple[float, int]] = []
        after_busy: list[float] = []
        for before, run in zip(self._runs, self._runs[1:], strict=False):
            if run.after_write_ns < 0 or run.pages < _LONG_RUN_PAGES:
                continue
            spent_ns = run.after_write_ns - self._result.source["scan_page_ns"] * run.pages
            if id(before) in was_idle:
                after_idle.append((spent_ns, before.length_bytes))
            else:
                after_busy.append(spent_ns)
        return self._draw(after_idle), max(0.0, self._average(after_busy or [float(self._line_ns)]))

    def _pages(self) -> None:
        source, destination, messages = self._result.source, self._result.destination, self._recording.messages
        scans = [run for run in self._runs if run.scan_ns >= 0 and run.pages >= _LONG_RUN_PAGES]
        source["scan_page_ns"] = self._per_page(
            "scan_page_ns", [(run.scan_ns - self._line_ns, run.pages) for run in scans], "gathering long runs"
        )
        zeros = [run for run in self._runs if run.zero]
        source["zero_test_page_ns"] = self._per_page(
            "zero_test_page_ns",
            [(run.prepare_ns, run.pages) for run in zeros if run.pages >= _LONG_RUN_PAGES],
            "long runs found to be zero",
        )
        found = _told_by(messages, "COMPRESS", [run.posted_ns for run in zeros])
        waits = [
            (messages[index + 1].ready_ns - messages[index].completed_ns - self._turnaround_ns, run.pages)
            for run, index in zip(zeros, found, strict=True)
            if run.pages >= _LONG_RUN_PAGES
            and 0 <= index < len(messages) - 1
            and messages[index].posted_ns < self._end_ns
            and messages[index + 1].waited
        ]
        destination["zero_test_page_ns"] = self._per_page(
            "destination zero_test_page_ns", waits, "COMPRESS until the next READY, beyond a message's turnaround"
        )
        first = next((sync for sync in self._recording.syncs if sync.ended_ns > sync.began_ns), None)
        source["sync_page_ns"] = self._per_page(
            "sync_page_ns",
            [] if first is None else [(first.ended_ns - first.began_ns - self._line_ns, self._recording.pages)],
            "the bitmap sync of the setup",
        )

    def _registration(self) -> None:
        if self._recording.pin_all:
            self._pinning()
        else:
            self._chunks()

    def _pinning(self) -> None:
        recording = self._recording
        asked = next((m for m in self._messages if m.type == "RAM BLOCKS REQUEST"), None)
        if asked is None:  # a log that begins late
            return
        told_ns = recording.blocks_told_ns - asked.completed_ns - self._turnaround_ns
        self._result.source["register_page_ns"] = self._per_page(
            "register_page_ns", [(recording.pinned_ns or 0, recording.pages)], "all memory pinned in the setup"
        )
        self._result.destination["register_page_ns"] = self._per_page(
            "destination register_page_ns",
            [(told_ns, recording.pages)],
            "RAM BLOCKS REQUEST to RESULT, beyond a turnaround: no more than this",
        )

    def _chunks(self) -> None:
        source, destination = self._result.source, self._result.destination
        chunks, messages = self._recording.registrations, self._recording.messages
        found = _told_by(messages, "REGISTER REQUEST", [chunk.asked_ns for chunk in chunks])
        both = [
            (chunk, messages[index])
            for chunk, index in zip(chunks, found, strict=True)
            if index >= 0 and messages[index].posted_ns < self._end_ns
        ]
        source["register_page_ns"] = self._per_page(
            "register_page_ns",
            [
                (chunk.ended_ns - chunk.began_ns - self._line_ns, _pages_of(chunk.length_bytes))
                for chunk, _ in both
            ],
            "chunks registered at the source, less a printed line",
        )
        destination["register_page_ns"] = self._per_page(
            "destination register_page_ns",
            [
                (m.answered_ns - m.completed_ns - self._turnaround_ns, _pages_of(chunk.length_bytes))
                for chunk, m in both
            ],
            "REGISTER REQUEST to RESULT, beyond a turnaround",
        )
        posted_ns = {(run.block, run.chunk): run.posted_ns for run in reversed(self._writes)}
        # What is accounted for elsewhere: the SEND, taking the answer apart, and registering the pages. A SEND
        # behind writes tells nothing of itself, and those are most: the few others must not stand for them.
        beside = [
            (0.0 if m.pending_writes else m.completed_ns - m.posted_ns - self._send_ns)
            + (posted_ns[chunk.block, chunk.chunk] - m.answered_ns - source["message_ns"])
            - source["register_page_ns"] * _pages_of(chunk.length_bytes)
            for chunk, m in both
            if (chunk.block, chunk.chunk) in posted_ns
        ]
        source["register_ns"] = max(0.0, self._average(beside))
        how = "from REGISTER REQUEST to the post, beyond the message, the answer and the pages"
        self._note("register_ns", source["register_ns"], "ns", len(beside), how)

    def _setup(self) -> None:
        if self._recording.began_late:
            return
        first = self._messages[0]
        sync_ns = self._result.source["sync_page_ns"] * self._recording.pages
        beside_ns = sync_ns + 2 * self._result.source["message_ns"]
        self._result.source["connect_ns"] = max(0.0, first.posted_ns - beside_ns)
        self._note(
            "connect_ns",
            self._result.source["connect_ns"],
            "ns",
            1,
            "from the start to the first message, less its sync and that message",
        )

    def _note(self, name: str, value: float, unit: str, events: int, source: str) -> None:
        self._result.figures.append(Figure(name, value, unit, events, source))

    def _mean(self, name: str, samples: Sequence[float], source: str) -> float:
        """The mean of what there must be."""
        if not samples:
            raise CalibrationError(f"nothing to calibrate {name} from (needed: {source})")
        value = self._average(samples)
        self._note(name, value, "ns", len(samples), source)
        return value

    def _average(self, samples: Sequence[float]) -> float:
        drawn = self._draw(samples)
        return sum(drawn) / len(drawn) if drawn else 0.0

    def _per_page(self, name: str, samples: Sequence[tuple[float, int]], source: str) -> float:
        """Time per page, all together; 0 where nothing of the kind happened."""
        drawn = self._draw(samples)
        pages = sum(count for _, count in drawn)
        value = max(0.0, sum(spent_ns for spent_ns, _ in drawn) / pages) if pages else 0.0
        self._note(name, value, "ns", len(samples), source)
        return value

    def _fit(self, what: str, samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
        """Least squares of time over bytes, without the points furthest off: (ns per byte, ns at no byte)."""
        if not samples:
            raise CalibrationError(f"nothing to calibrate the {what} from: no RAM write in the first round")
        drawn = self._draw(samples)
        slope, fixed_ns = _line(drawn)
        offs = [abs(spent_ns - slope * size - fixed_ns) for size, spent_ns in drawn]
        limit_ns = _OUTLIER * median(offs)
        near = [sample for sample, off in zip(drawn, offs, strict=True) if off <= limit_ns]
        return _line(near)

    def _draw(self, events: Sequence[T]) -> Sequence[T]:
        return self._random.choices(events, k=len(events)) if self._random is not None and events else events


def _told_by(messages: Sequence[LoggedMessage], kind: str, asked_ns: Sequence[int]) -> list[int]:
    """Where in `messages` each of those moments has its message: the first of the kind from then on, or -1.

    -1 as well where it belongs to the next moment, because its own was lost.
    """
    found: list[int] = []
    places = [(message.posted_ns, index) for index, message in enumerate(messages) if message.type == kind]
    for t_ns, until_ns in zip_longest(asked_ns, asked_ns[1:], fillvalue=sys.maxsize):
        place = bisect_left(places, (t_ns, -1))
        mine = place < len(places) and places[place][0] < until_ns
        found.append(places[place][1] if mine else -1)
    return found


def _line(samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and intercept by least squares; through the origin where the data would want it to pass below."""
    count = len(samples)
    mean_x = sum(x for x, _ in samples) / count
    mean_y = sum(y for _, y in samples) / count
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread if spread else -1.0
    intercept = mean_y - slope * mean_x
    if slope <= 0 or intercept < 0:
        return mean_y / mean_x, 0.0
    return slope, intercept


def _busy_periods(writes: Sequence[LoggedRun]) -> list[list[LoggedRun]]:
    """The writes, parted where none was in flight."""
    periods: list[list[LoggedRun]] = []
    until_ns = -1
    for run in writes:
        if run.posted_ns >= until_ns:
            periods.append([])
        periods[-1].append(run)
        until_ns = max(until_ns, run.completed_ns)
    return periods


def _duration_ns(runs: Sequence[LoggedRun]) -> float:
    return max(run.completed_ns for run in runs) - runs[0].posted_ns


def _pages_of(length_bytes: int) -> int:
    return length_bytes // QEMU_PAGE_BYTES
