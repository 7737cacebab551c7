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

from simmig.experiment.errors import InputError
from simmig.trace.qemu_dirty_rates import DirtyRate
from simmig.trace.qemu_sample import Sample

PAGE_BYTES = 4096
_DEFAULT_LIMIT_MS = 300
_SIZES = 40
"""Working sets tried, evenly in the logarithm between the least that was seen dirty and all memory."""
_AS_GOOD = 0.02
"""Fits that are off by so much more than the best are as good; one interval alone fits a small set or a large."""
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
    """What samples tell, enough to simulate their migration. `untold`: what they do not, and what is taken."""

    memory_bytes: int
    bandwidth_bytes_s: float
    bandwidth_range_bytes_s: tuple[float, float]
    dirtying: Dirtying
    zero_share: float
    setup_ms: int
    downtime_limit_ms: int
    untold: tuple[str, ...] = ()


def model_of(path: Path, samples: Sequence[Sample], rates: Sequence[DirtyRate]) -> SampledModel:
    """The model of these samples. Raises InputError when they tell too little."""
    untold: list[str] = []
    memory_bytes = max((each.memory_bytes for each in samples), default=-1) // PAGE_BYTES * PAGE_BYTES
    if memory_bytes <= 0:
        raise InputError(f"{path}: no sample tells the guest's memory (ram total, Memory total)")
    bandwidth, off = _bandwidth(path, samples, untold)
    zero = max((each.zero_pages for each in samples), default=0)
    normal = max((each.normal_pages for each in samples), default=0)
    if zero < 0 or normal <= 0:
        untold.append("how many pages are zero (duplicate, Constant pages): none is taken to be")
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
        bandwidth,
        (bandwidth - off, bandwidth + off),
        dirtying,
        min(0.99, max(0, zero) / (max(0, zero) + normal)) if normal > 0 else 0.0,
        max(0, *(each.setup_ms for each in samples)),
        limits[0] if limits else _DEFAULT_LIMIT_MS,
        tuple(untold),
    )


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


def _bandwidth(path: Path, samples: Sequence[Sample], untold: list[str]) -> tuple[float, float]:
    """Bytes a second, and how far that may be off: 1.6 standard errors, 90 %, of speeds weighted by their time."""
    speeds = _speeds([each for each in samples if each.timed])
    if not speeds:
        speeds = [(1.0, float(each.bytes_s)) for each in samples if each.bytes_s > 0]
        untold.append("when the samples were taken: the bandwidth is the throughput that they name")
    if not speeds:
        raise InputError(
            f"{path}: no two samples tell a bandwidth (time, and transferred bytes that grow), none a throughput"
        )
    seconds = sum(spent for spent, _ in speeds)
    bandwidth = sum(sent for _, sent in speeds) / seconds
    spread = math.sqrt(sum(spent * (sent / spent - bandwidth) ** 2 for spent, sent in speeds) / seconds)
    return bandwidth, min(0.9 * bandwidth, 1.6 * spread / math.sqrt(len(speeds)))


def _speeds(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """Between samples of the running migration: seconds and bytes."""
    told = [each for each in samples if each.transferred_bytes >= 0 and each.status not in _NOT_RUNNING]
    pairs = list(pairwise(told))
    if len(told) == 1:
        pairs = [(Sample(total_ms=max(0, told[0].setup_ms), transferred_bytes=0), told[0])]
    found = []
    for before, after in pairs:
        spent = (after.total_ms - max(before.total_ms, after.setup_ms)) / 1000
        sent = after.transferred_bytes - before.transferred_bytes
        if spent > 0 and sent > 0:
            found.append((spent, float(sent)))
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
