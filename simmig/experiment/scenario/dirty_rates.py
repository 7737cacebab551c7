"""From measured dirty rates (`calc-dirty-rate`) to a guest: sets of pages, each written at a rate of its own.

A measurement is the distinct pages found dirty after a time. Sets of W pages, each written at random at r pages a
second, have W (1 - exp(-r t / W)) of them dirty after t. Measured at one time, a set's size is not told: it is
the scenario's `working_set`, or else all memory (the guest that has most left to dirty). Measured at several, a
mixture is fitted: not negative sizes for a range of r / W, by least squares of the relative error (Lawson and
Hanson, Solving Least Squares Problems, 1974). Where all measurements tell each vCPU's rate, each has an equal part
of the memory for itself: a busy one soon finds all its pages dirty, which the sum of the rates cannot show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simmig.experiment.amounts import format_bytes, format_time
from simmig.experiment.errors import InputError
from simmig.experiment.scenario import schema
from simmig.guest.api import PAGE_BYTES
from simmig.guest.workload import Idle, Mixture, Workload
from simmig.trace.qemu_dirty_rates import DirtyRate, rate_of
from simmig.trace.qemu_log import LogError
from simmig.trace.qemu_samples import read_samples

Point = tuple[float, float]
"""Seconds, and distinct pages dirty by then."""

_HOTTEST = 4.0
"""Of the shortest time measured, what a set is written over in: hotter ones all look the same."""
_COLDEST = 0.02
"""The same of the longest: colder ones do, too."""
_STEPS = 24
_DONE = 1e-10


def workload_of(table: schema.DirtyRates, memory_bytes: int, seed: int) -> Workload:
    """The guest's writes. Raises InputError for a file without measurements, and for more than fits."""
    rates = _read(Path(table.file)) if table.file is not None else [_of_table(each) for each in table.measured]
    place = table.file or "guest.workload.measured"
    budget = (table.working_set_bytes or memory_bytes) // PAGE_BYTES
    vcpus = len(rates[0].vcpus_bytes_s)
    if vcpus < 2 or any(len(each.vcpus_bytes_s) != vcpus for each in rates):
        vcpus = 1
    sets: list[tuple[int, int]] = []
    for vcpu in range(vcpus):
        points = _points(rates, vcpu if vcpus > 1 else None)
        share = budget * (vcpu + 1) // vcpus - budget * vcpu // vcpus
        whose = f"{place}: vCPU {vcpu}" if vcpus > 1 else place
        _require_room(whose, points, share, vcpus)
        one = len({seconds for seconds, _ in points}) == 1
        fitted = _one_set(points, share) if one else fit_mixture(points, share)
        sets += [(pages * PAGE_BYTES, round(pages_s * PAGE_BYTES)) for pages, pages_s in fitted]
    return Mixture(tuple(sets), seed) if sets else Idle()


def _read(path: Path) -> list[DirtyRate]:
    try:
        rates = read_samples(path).rates
    except LogError as error:
        raise InputError(str(error)) from None
    if not rates:
        raise InputError(
            f"{path}: guest.workload.file: holds no measured dirty rate; save what query-dirty-rate replies once "
            'its status is "measured"'
        )
    return rates


def _of_table(measured: schema.Measured) -> DirtyRate:
    vcpus = [float(rate) for rate in measured.vcpu_dirty_rate]
    rate = sum(vcpus) if measured.dirty_rate_bytes_s is None else measured.dirty_rate_bytes_s
    return rate_of(measured.calc_time_ns / 1e9, rate, vcpus, measured.mode)


def _points(rates: Sequence[DirtyRate], vcpu: int | None) -> list[Point]:
    chosen = [(each.interval_s, each.bytes_s if vcpu is None else each.vcpus_bytes_s[vcpu]) for each in rates]
    return sorted((seconds, bytes_s * seconds / PAGE_BYTES) for seconds, bytes_s in chosen)


def _require_room(whose: str, points: Sequence[Point], pages: int, vcpus: int) -> None:
    seconds, most = max(points, key=lambda point: point[1])
    if most < pages:
        return
    asked = format_bytes((math.ceil(most) + 1) * vcpus * PAGE_BYTES)
    part = f"its part of the working set, {format_bytes(pages * PAGE_BYTES)}" if vcpus > 1 else "the working set"
    raise InputError(
        f"{whose} dirtied {format_bytes(round(most) * PAGE_BYTES)} in {format_time(round(seconds * 1e9))}, no "
        f"less than {part}: give guest.workload.working_set of {asked} or more, and guest.memory no smaller"
    )


def _one_set(points: Sequence[Point], pages: int) -> list[tuple[int, float]]:
    """Of all of these pages, written fast enough for the mean of what was found after that one time."""
    found = sum(count for _, count in points) / len(points)
    return [(pages, -pages / points[0][0] * math.log1p(-found / pages))] if found else []


def fit_mixture(points: Sequence[Point], budget_pages: int) -> list[tuple[int, float]]:
    """Sets (pages, page writes a second), hottest first, of `budget_pages` at most, that have such pages dirty.

    The coldest of the sets tried are left out until those found fit into the budget.
    """
    seen = [(seconds, pages) for seconds, pages in points if pages > 0]
    if not seen:
        return []
    shortest, longest = min(seconds for seconds, _ in seen), max(seconds for seconds, _ in seen)
    hot, cold = _HOTTEST / shortest, _COLDEST / longest
    speeds = [hot * (cold / hot) ** (step / _STEPS) for step in range(_STEPS + 1)]
    while True:
        rows = [[-math.expm1(-speed * seconds) / pages for speed in speeds] for seconds, pages in seen]
        sizes = least_squares_not_negative(np.array(rows), np.ones(len(seen)))
        if sizes.sum() <= budget_pages or len(speeds) == 1:
            break
        speeds.pop()
    sets = [(round(float(size)), speed) for size, speed in zip(sizes, speeds, strict=True)]
    return [(size, size * speed) for size, speed in sets if size >= 1]


def least_squares_not_negative(rows: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """The x, nowhere negative, for which rows x comes nearest to what is wanted (Lawson and Hanson's NNLS)."""
    count = rows.shape[1]
    scale = np.linalg.norm(rows, axis=0)
    rows = rows / scale
    x = np.zeros(count)
    free: list[int] = []
    for _ in range(3 * count):
        slope = rows.T @ (wanted - rows @ x)
        slope[free] = 0.0
        best = int(np.argmax(slope))
        if slope[best] <= _DONE:
            break
        free.append(best)
        while free:
            solved = np.linalg.lstsq(rows[:, free], wanted, rcond=None)[0]
            if solved.min() > 0:
                x[:] = 0.0
                x[free] = solved
                break
            step = min(
                (x[each] / (x[each] - value) for each, value in zip(free, solved, strict=True) if value <= 0),
                default=0.0,
            )
            for each, value in zip(free, solved, strict=True):
                x[each] += step * (value - x[each])
            free = [each for each in free if x[each] > _DONE]
    return np.asarray(x / scale, dtype=np.float64)
