"""Predict from samples that anybody can poll (`simmig.trace.qemu_samples`): bandwidth, dirtying, setup, downtime.

- *Bandwidth*: what was transferred between samples of the running migration, all together.
- *Dirtying*: a sync's interval and the distinct pages it found dirty (what was left jumps up by them, or the dirty
  rate that was shown), and `query-dirty-rate` at any interval. Writes to a working set of W pages at a rate r
  leave W (1 - exp(-r t / W)) distinct pages dirty after t: W and r by least squares. That is a `uniform` workload.
- *Zero pages*: the share of duplicates among all pages told.
- *Setup, downtime limit*: as told. The transport is not: what it and its processors need is in the bandwidth. So
  the migration is reckoned (`predict_reckon`), and only simulated where it is asked for over RDMA.

The model is made from the first half of the samples' time and held against the rest; how far that is off counts in
the range beside the errors of all recordings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from simmig.experiment.errors import InputError
from simmig.experiment.fit.predict_guest import UNKNOWN_DEVICE_STATE_BYTES
from simmig.experiment.fit.predict_range import known_errors, range_of
from simmig.experiment.fit.predict_reckon import Reckoned, can_reckon, reckon
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.load import Overrides, build_scenario
from simmig.trace.qemu_dirty_rates import DirtyRate
from simmig.trace.qemu_log import LogError
from simmig.trace.qemu_samples import Sample, read_samples

PAGE_BYTES = 4096
_DEFAULT_LIMIT_MS = 300
_PATIENCE = 30
"""Rounds after which a migration counts as not converging."""
_SIZES = 40
"""Working sets tried, evenly in the logarithm between the least that was seen dirty and all memory."""
_AS_GOOD = 0.02
"""Fits that are off by so much more than the best are as good; one interval alone fits a small set or a large."""
_RUNNING = ("active", "unbounded", "device", "pre-switchover")


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
    """What samples tell, enough to simulate their migration."""

    memory_bytes: int
    bandwidth_bytes_s: float
    bandwidth_range_bytes_s: tuple[float, float]
    dirtying: Dirtying
    zero_share: float
    setup_ms: int
    downtime_limit_ms: int


@dataclass(frozen=True)
class SampledPrediction:
    """The model, what it predicts of the samples it was made without, and what was asked.

    Attributes:
        recorded: the last sample.
        may_not_complete: whether it fails to with a bandwidth or a guest that the samples allow as well.
        predicted, total_range_ns, downtime_range_ns: the migration, and where it should lie in nine of ten cases.
        check: model of the first half of the time; predicted over recorded of what the rest tells, by figure.
    """

    samples: int
    model: SampledModel
    recorded: Sample
    predicted: Reckoned
    may_not_complete: bool
    total_range_ns: tuple[int, int]
    downtime_range_ns: tuple[int, int]
    check: dict[str, float]


def predict_samples(path: Path, overrides: Overrides) -> SampledPrediction:
    """Read, fit, check, simulate. Raises InputError for samples that tell too little and for bad overrides."""
    try:
        samples, rates = read_samples(path)
    except LogError as error:
        raise InputError(str(error)) from None
    model = model_of(path, samples, rates)
    guests = [replace(model.dirtying, working_set_pages=size, pages_s=rate) for size, rate in model.dirtying.ends]
    results = [
        _simulate(path, each, bandwidth, overrides)
        for each in (model, *(replace(model, dirtying=guest) for guest in guests))
        for bandwidth in (model.bandwidth_bytes_s, *model.bandwidth_range_bytes_s)
    ]
    completed = [each for each in results if each.good] or results
    check = _check(path, samples, rates)
    ratios = [
        [*(getattr(each, name) for each in known_errors()), 1 / check.get(name, 1.0)]
        for name in ("total_time", "downtime")
    ]
    return SampledPrediction(
        len(samples),
        model,
        samples[-1],
        results[0],
        not all(each.good for each in results),
        range_of([each.total_time_ns for each in completed], ratios[0]),
        range_of([each.downtime_ns for each in completed], ratios[1]),
        check,
    )


def model_of(path: Path, samples: Sequence[Sample], rates: Sequence[DirtyRate]) -> SampledModel:
    """The model of these samples. Raises InputError when they tell too little."""
    memory_bytes = max((each.memory_bytes for each in samples), default=-1) // PAGE_BYTES * PAGE_BYTES
    speeds = _speeds(samples)
    if memory_bytes <= 0:
        raise InputError(f"{path}: no sample tells the guest's memory (ram total, Memory total)")
    if not speeds:
        raise InputError(f"{path}: no two samples tell a bandwidth (time and transferred bytes that grow)")
    seconds = sum(spent for spent, _ in speeds)
    bandwidth = sum(sent for _, sent in speeds) / seconds
    zero = max((each.zero_pages for each in samples), default=0)
    normal = max((each.normal_pages for each in samples), default=0)
    intervals = [*_sync_intervals(samples), *((rate.interval_s, rate.bytes_s * rate.interval_s) for rate in rates)]
    dirtying = fit_dirtying([(s, sent / PAGE_BYTES) for s, sent in intervals], memory_bytes // PAGE_BYTES)
    # How sure the mean bandwidth is: 1.6 standard errors, 90 %, of speeds weighted by their time.
    spread = math.sqrt(sum(spent * (sent / spent - bandwidth) ** 2 for spent, sent in speeds) / seconds)
    off = min(0.9 * bandwidth, 1.6 * spread / math.sqrt(len(speeds)))
    told_limit = [each.expected_downtime_ms for each in samples if each.expected_downtime_ms > 0]
    return SampledModel(
        memory_bytes,
        bandwidth,
        (bandwidth - off, bandwidth + off),
        dirtying,
        min(0.99, max(0, zero) / (max(0, zero) + normal)) if normal > 0 else 0.0,
        max(0, *(each.setup_ms for each in samples)),
        _DEFAULT_LIMIT_MS if not told_limit else told_limit[0],
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


def _speeds(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """Between samples of the running migration: seconds and bytes."""
    told = [each for each in samples if each.transferred_bytes >= 0 and each.status in (*_RUNNING, "completed")]
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


def _sync_intervals(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """(seconds, bytes dirtied) of the intervals that ended between two samples."""
    found: list[tuple[float, float]] = []
    since_ms = 0
    for before, after in pairwise(samples):
        if after.syncs <= before.syncs or before.syncs < 1:
            continue
        at_ms = (before.total_ms + after.total_ms) // 2
        interval_s = (at_ms - since_ms) / 1000 / (after.syncs - before.syncs)
        since_ms = at_ms
        if after.dirty_pages_s >= 0 and after.dirty_pages_s != before.dirty_pages_s:
            found.append((interval_s, after.dirty_pages_s * interval_s * PAGE_BYTES))
        elif after.remaining_bytes > before.remaining_bytes >= 0 and after.syncs == before.syncs + 1:
            sent = max(0, after.transferred_bytes - before.transferred_bytes)
            found.append((interval_s, float(after.remaining_bytes - before.remaining_bytes + sent)))
    return found


def _simulate(path: Path, model: SampledModel, bandwidth_bytes_s: float, overrides: Overrides) -> Reckoned:
    scenario = build_scenario(tables(model, bandwidth_bytes_s), path, overrides)
    return reckon(scenario) if can_reckon(scenario) else Reckoned.of(run(scenario, traced=False))


def tables(model: SampledModel, bandwidth_bytes_s: float) -> dict[str, Any]:
    """The migration as a scenario file would put it."""
    dirtying = model.dirtying
    workload: dict[str, Any] = {"kind": "idle"}
    if dirtying.working_set_pages:
        size = min(dirtying.working_set_pages * PAGE_BYTES, model.memory_bytes)
        workload = {
            "kind": "uniform",
            "working_set": f"{size} B",
            "rate": f"{round(dirtying.pages_s * PAGE_BYTES)} B/s",
        }
    return {
        "guest": {
            "memory": f"{model.memory_bytes} B",
            "device_state": f"{UNKNOWN_DEVICE_STATE_BYTES} B",
            "zero_fraction": model.zero_share,
            "workload": workload,
        },
        "link": {"bandwidth": f"{max(1000, round(8 * bandwidth_bytes_s))} bit/s", "latency": "1 us"},
        "host": {"connect": f"{model.setup_ms} ms"},
        "migration": {
            "transport": "tcp",
            "downtime_limit": f"{max(1, model.downtime_limit_ms)} ms",
            "max_rounds": _PATIENCE,
        },
    }


def _check(path: Path, samples: Sequence[Sample], rates: Sequence[DirtyRate]) -> dict[str, float]:
    """The model of the first half of the time against what the rest tells: predicted over recorded."""
    last = samples[-1] if samples else Sample()
    first = [each for each in samples if each.total_ms <= last.total_ms / 2]
    if last.status != "completed" or len(first) < 2:
        return {}
    try:
        model = model_of(path, first, rates)
    except InputError:
        return {}
    found = _simulate(path, model, model.bandwidth_bytes_s, Overrides())
    told = {
        "total_time": (found.total_time_ns / 1e6, last.total_ms),
        "downtime": (found.downtime_ns / 1e6, last.downtime_ms),
        "transferred": (found.posted_bytes, last.transferred_bytes),
    }
    return {
        name: predicted / recorded
        for name, (predicted, recorded) in told.items()
        if recorded > 0 and predicted > 0
    }
