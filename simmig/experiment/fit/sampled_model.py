"""What samples tell of a migration (`simmig.trace.qemu_samples`): bandwidth, dirtying, setup, downtime limit.

- *Bandwidth*: what was transferred between samples of the running migration, all together. Samples without a time
  tell the throughput that they name.
- *Dirtying*: a sync's interval and the distinct pages it found dirty (what was left jumps up by them, or the dirty
  rate that was shown), and `query-dirty-rate` at any interval. Writes to a working set of W pages at a rate r
  leave W (1 - exp(-r t / W)) distinct pages dirty after t: W and r by least squares. That is a `uniform` workload.
  Where no two samples have a sync between them, one sample's dirty rate, or what a completed migration sent twice.
- *Zero pages*: the share of duplicates among all pages told.
- *Setup, downtime limit*: as told. Until pages are seen dirty, the expected downtime is the limit; not later.

What is not told is taken to be something, and `SampledModel.untold` says what.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from simmig.experiment.errors import InputError
from simmig.experiment.fit.speed_changes import stretches
from simmig.experiment.scenario.dirty_rates import least_squares_not_negative
from simmig.trace.qemu_dirty_rates import DirtyRate
from simmig.trace.qemu_sample import Sample

PAGE_BYTES = 4096
_DEFAULT_LIMIT_MS = 300
_SIZES = 40
"""Working sets tried, evenly in the logarithm between the least that was seen dirty and all memory."""
_AS_GOOD = 0.02
"""Fits that are off by so much more than the best are as good; one interval alone fits a small set or a large."""
_MOST_ZERO = 0.99
_ZERO_ENOUGH = 0.1
"""Zero pages, as a share of all others, from which on the time that they take can be told apart."""
_BUSY = 0.5
"""Steps whose zero pages took more of the time tell nothing of a speed."""
_NOT_RUNNING = ("setup", "failed", "cancelled", "cancelling")


@dataclass(frozen=True, slots=True)
class Dirtying:
    """The guest: `working_set_pages` written at `pages_s`; 0 where nothing was dirtied. `intervals` told it.

    `ends` are the smallest set, with its rate, and the largest that agree with them as well.
    """

    working_set_pages: int
    pages_s: float
    intervals: int
    ends: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class SampledModel:
    """What samples tell, enough to simulate their migration. `untold`: what they do not, and what is taken.

    `stretches`: since when, in ms, the bandwidth was how much, where it changed on the way.
    """

    memory_bytes: int
    bandwidth_bytes_s: float
    bandwidth_range_bytes_s: tuple[float, float]
    dirtying: Dirtying
    zero_share: float
    most_zero_share: float
    zero_page_s: float
    setup_ms: int
    downtime_limit_ms: int
    untold: tuple[str, ...] = ()
    stretches: tuple[tuple[int, float], ...] = ()

    @property
    def tells_of_the_guest(self) -> bool:
        """Whether anything was told of what it writes."""
        return self.dirtying.intervals > 0


def model_of(path: Path, samples: Sequence[Sample], rates: Sequence[DirtyRate]) -> SampledModel:
    """The model of these samples. Raises InputError when they tell too little."""
    untold: list[str] = []
    memory_bytes = max((each.memory_bytes for each in samples), default=-1) // PAGE_BYTES * PAGE_BYTES
    if memory_bytes <= 0:
        raise InputError(f"{path}: no sample tells the guest's memory (ram total, Memory total)")
    found = _bandwidth(path, samples, untold)
    if found.stretches:
        untold.append(
            "why the speed changed (a rate limit, the link, registering memory in the first round): it is taken "
            "for a limit, which does not hold when the guest stands"
        )
    zero_share, most_zero = _zero_share(samples, memory_bytes // PAGE_BYTES, untold)
    intervals = [
        *_intervals(samples, untold),
        *((rate.interval_s, rate.bytes_s * rate.interval_s) for rate in rates),
    ]
    dirtying = fit_dirtying([(s, sent / PAGE_BYTES) for s, sent in intervals], memory_bytes // PAGE_BYTES)
    if not dirtying.intervals:
        untold.append(
            "whether the guest writes at all: it is taken to be idle, and a busy one may never converge "
            "(a query-dirty-rate, in this file, would tell)"
        )
    # Until pages are seen dirty, what is expected is what is allowed.
    limits = [
        each.expected_downtime_ms
        for each in samples
        if each.expected_downtime_ms > 0 and (each.dirty_pages_s == 0 or each.syncs == 1)
    ]
    if not limits:
        untold.append(f"the downtime limit: QEMU's default, {_DEFAULT_LIMIT_MS} ms, is taken")
    return SampledModel(
        memory_bytes,
        found.bytes_s,
        (found.bytes_s - found.off, found.bytes_s + found.off),
        dirtying,
        zero_share,
        most_zero,
        found.zero_page_s,
        max(0, *(each.setup_ms for each in samples)),
        limits[0] if limits else _DEFAULT_LIMIT_MS,
        tuple(untold),
        found.stretches,
    )


def _zero_share(samples: Sequence[Sample], pages: int, untold: list[str]) -> tuple[float, float]:
    """The share of zero pages in what was looked at, and what it would be if all the rest were zero."""
    zero = max((each.zero_pages for each in samples), default=0)
    normal = max((each.normal_pages for each in samples), default=0)
    if zero < 0 or normal < 0 or not zero + normal:
        untold.append("how many pages are zero (duplicate, Constant pages): none is taken to be")
        return 0.0, 0.0
    share = min(_MOST_ZERO, zero / pages if zero + normal >= pages else zero / (zero + normal))
    last = max(samples, key=lambda each: each.total_ms)
    if last.syncs > 1 or last.over or last.remaining_bytes <= 0:
        return share, share
    untold.append("whether the memory not yet sent is zero: as much of it is taken to be as of what was")
    return share, min(_MOST_ZERO, max(share, (zero + last.remaining_bytes // PAGE_BYTES) / pages))


def fit_dirtying(points: Sequence[tuple[float, float]], memory_pages: int) -> Dirtying:
    """Least squares of the relative error over working sets and rates; (seconds, distinct pages) in `points`."""
    seen = [(seconds, pages) for seconds, pages in points if seconds > 0 and pages >= 1]
    if not seen:
        return Dirtying(0, 0.0, len(points))
    least = min(float(memory_pages), max(pages for _, pages in seen) * 1.001)
    fits = []
    for step in range(_SIZES + 1):
        size = least * (memory_pages / least) ** (step / _SIZES)
        rates = sorted(-size / seconds * math.log1p(-min(pages / size, 0.9999)) for seconds, pages in seen)
        for rate in (rates[len(rates) // 2], sum(rates) / len(rates)):
            off = sum((size * -math.expm1(-rate * s / size) / pages - 1) ** 2 for s, pages in seen)
            fits.append((off, size, rate))
    enough = min(off for off, _, _ in fits) + _AS_GOOD**2 * len(seen)
    good = sorted((size, rate) for off, size, rate in fits if off <= enough)
    (size, rate), ends = good[len(good) // 2], (good[0], good[-1])
    return Dirtying(max(1, round(size)), rate, len(seen), tuple((max(1, round(s)), r) for s, r in ends))


@dataclass(frozen=True, slots=True)
class _Step:
    """From one sample of the running migration to the next."""

    seconds: float
    sent_bytes: float
    zero_pages: int
    since_ms: int = 0


@dataclass(frozen=True, slots=True)
class _Bandwidth:
    """Bytes a second, how far that may be off (1.6 standard errors, 90 %), and seconds that a zero page takes.

    `stretches`: since when, in ms, it was how much, where it changed.
    """

    bytes_s: float
    off: float
    zero_page_s: float
    stretches: tuple[tuple[int, float], ...] = ()


def _bandwidth(path: Path, samples: Sequence[Sample], untold: list[str]) -> _Bandwidth:
    """The time of all steps is what their bytes and their zero pages took, by least squares."""
    steps = _steps([each for each in samples if each.timed])
    sent, zeros = sum(step.sent_bytes for step in steps), sum(step.zero_pages for step in steps)
    if not sent:
        named = [float(each.bytes_s) for each in samples if each.bytes_s > 0]
        if not named:
            raise InputError(
                f"{path}: no two samples tell a bandwidth (time, transferred bytes that grow), none a throughput"
            )
        untold.append("when the samples were taken: the bandwidth is the throughput that they name")
        steps, zeros = [_Step(1.0, rate, 0) for rate in named], 0
        sent = sum(named)
    seconds = sum(step.seconds for step in steps)
    enough = zeros > _ZERO_ENOUGH * sent / PAGE_BYTES and len(steps) > 2
    zero_s = _zero_page_s(steps) if enough else 0.0
    busy = [
        (step, spent)
        for step in steps
        if (spent := step.seconds - zero_s * step.zero_pages) > _BUSY * step.seconds
    ]
    bandwidth = sent / max(0.1 * seconds, seconds - zero_s * zeros)
    parts = stretches([spent for _, spent in busy], [step.sent_bytes for step, _ in busy])
    told = []
    squares = 0.0
    for first, end in parts:
        part = busy[first:end]
        speed = sum(step.sent_bytes for step, _ in part) / sum(spent for _, spent in part)
        told.append((part[0][0].since_ms, speed))
        squares += sum(spent * (step.sent_bytes / spent - speed) ** 2 for step, spent in part)
    off = min(0.9 * bandwidth, 1.6 * math.sqrt(squares / seconds) / math.sqrt(len(steps)))
    return _Bandwidth(bandwidth, off, zero_s, tuple(told) if len(told) > 1 else ())


def _zero_page_s(steps: Sequence[_Step]) -> float:
    rows = np.array([[step.sent_bytes, float(step.zero_pages)] for step in steps])
    return float(least_squares_not_negative(rows, np.array([step.seconds for step in steps]))[1])


def _steps(samples: Sequence[Sample]) -> list[_Step]:
    """Between samples of the running migration, while there was something to send."""
    told = [each for each in samples if each.transferred_bytes >= 0 and each.status not in _NOT_RUNNING]
    pairs = list(pairwise(told))
    if (told and told[0].setup_ms >= 0) or len(told) == 1:
        pairs.insert(0, (Sample(total_ms=max(0, told[0].setup_ms), transferred_bytes=0, zero_pages=0), told[0]))
    found = []
    for before, after in pairs:
        seconds = (after.total_ms - max(before.total_ms, after.setup_ms)) / 1000
        sent = after.transferred_bytes - before.transferred_bytes
        zeros = (
            max(0, after.zero_pages - before.zero_pages) if min(before.zero_pages, after.zero_pages) >= 0 else 0
        )
        if seconds > 0 and sent >= 0 and not before.over:
            found.append(_Step(seconds, float(sent), zeros, before.total_ms))
    return found


def _intervals(samples: Sequence[Sample], untold: list[str]) -> list[tuple[float, float]]:
    """(seconds, bytes dirtied) of the intervals between syncs, or as much as can be made out of single samples."""
    found = list(_between_syncs([each for each in samples if each.timed]))
    if found:
        return found
    shown = [each for each in samples if each.dirty_pages_s > 0 and each.timed and each.syncs > 1]
    if shown:
        last = shown[-1]
        interval_s = (last.total_ms - max(0, last.setup_ms)) / 1000 / (last.syncs - 1)
        untold.append("when bitmaps were synced: the dirty rate is taken to be that of a round of mean length")
        return [(interval_s, last.dirty_pages_s * interval_s * PAGE_BYTES)]
    over = [each for each in samples if each.status == "completed" and each.timed and each.normal_pages > 0]
    if over and over[-1].zero_pages >= 0:
        last = over[-1]
        again = last.zero_pages + last.normal_pages - last.memory_bytes // PAGE_BYTES
        untold.append("rounds: pages that were sent again are taken to have been dirtied evenly over all the time")
        return [((last.total_ms - max(0, last.setup_ms)) / 1000, float(max(0, again) * PAGE_BYTES))]
    return []


def _between_syncs(samples: Sequence[Sample]) -> Iterator[tuple[float, float]]:
    """(seconds, bytes dirtied) of the intervals that ended between two samples."""
    since_ms = 0
    for before, after in pairwise(samples):
        if after.syncs <= before.syncs or before.syncs < 1:
            continue
        at_ms = (before.total_ms + after.total_ms) // 2
        interval_s = (at_ms - since_ms) / 1000 / (after.syncs - before.syncs)
        since_ms = at_ms
        if after.dirty_pages_s >= 0 and after.dirty_pages_s != before.dirty_pages_s:
            yield interval_s, after.dirty_pages_s * interval_s * PAGE_BYTES
        elif after.remaining_bytes > before.remaining_bytes >= 0 and after.syncs == before.syncs + 1:
            sent = max(0, after.transferred_bytes - before.transferred_bytes)
            yield interval_s, float(after.remaining_bytes - before.remaining_bytes + sent)
