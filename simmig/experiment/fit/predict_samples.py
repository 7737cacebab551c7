"""Predict from samples that anybody can poll (`simmig.trace.qemu_samples`), and answer what-ifs from there.

What they tell is in `sampled_model`. The transport is not told: what it and its processors need is in the
bandwidth. So the migration is reckoned (`predict_reckon`), and only simulated where it is asked for over RDMA.

The model is made from the first half of the samples' time and held against the rest; how far that is off counts in
the range beside the errors of all recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simmig.experiment.errors import InputError
from simmig.experiment.fit.predict_guest import UNKNOWN_DEVICE_STATE_BYTES
from simmig.experiment.fit.predict_range import range_of, sampled_errors
from simmig.experiment.fit.predict_reckon import Reckoned, can_reckon, reckon
from simmig.experiment.fit.sampled_model import PAGE_BYTES, SampledModel, model_of
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.load import Overrides, build_scenario
from simmig.trace.qemu_dirty_rates import DirtyRate
from simmig.trace.qemu_log import LogError
from simmig.trace.qemu_sample import Sample
from simmig.trace.qemu_samples import read_samples

_PATIENCE = 30
"""Rounds after which a migration counts as not converging."""


@dataclass(frozen=True)
class SampledPrediction:
    """The model, what it predicts of the samples it was made without, and what was asked.

    Attributes:
        recorded: the last sample.
        may_not_complete: whether it fails to with a bandwidth or a guest that the samples allow as well.
        predicted, total_range_ns, downtime_range_ns: the migration, and where it should lie in nine of ten cases.
            Where nothing was told of the guest's writes, the total time has no upper end.
        check: model of the first half of the time; predicted over recorded of what the rest tells, by figure.
        other_migrations: how many more the file tells of, which are left out.
        variants: total time and downtime, with every bandwidth and guest that the samples allow, if it completes.
    """

    samples: int
    model: SampledModel
    recorded: Sample
    predicted: Reckoned
    may_not_complete: bool
    total_range_ns: tuple[int, int | None]
    downtime_range_ns: tuple[int, int]
    check: dict[str, float]
    other_migrations: int = 0
    variants: tuple[tuple[int, int], ...] = ()


def predict_samples(path: Path, overrides: Overrides) -> SampledPrediction:
    """Read, fit, check, simulate. Raises InputError for samples that tell too little and for bad overrides."""
    try:
        sampled = read_samples(path)
    except LogError as error:
        raise InputError(str(error)) from None
    samples, rates = sampled.samples, sampled.rates
    model = model_of(path, samples, rates)
    guests = [replace(model.dirtying, working_set_pages=size, pages_s=rate) for size, rate in model.dirtying.ends]
    results = [
        _simulate(path, each, bandwidth, overrides)
        for guest in (model, *(replace(model, dirtying=guest) for guest in guests))
        for each in _by_zero_pages(guest)
        for bandwidth in (model.bandwidth_bytes_s, *model.bandwidth_range_bytes_s)
    ]
    completed = [each for each in results if each.good] or results
    check = _check(path, samples, rates)
    ratios = [
        [*(getattr(each, name) for each in sampled_errors()), 1 / check.get(name, 1.0)]
        for name in ("total_time", "downtime")
    ]
    low_ns, high_ns = range_of([each.total_time_ns for each in completed], ratios[0])
    return SampledPrediction(
        len(samples),
        model,
        samples[-1],
        results[0],
        not all(each.good for each in results) or not model.tells_of_the_guest,
        (low_ns, high_ns if model.tells_of_the_guest else None),
        range_of(_downtimes(model, completed), ratios[1]),
        check,
        sampled.other_migrations,
        tuple((each.total_time_ns, each.downtime_ns) for each in results if each.good),
    )


def _downtimes(model: SampledModel, completed: Sequence[Reckoned]) -> list[int]:
    """With a link that became slower, and no limit, the stopped guest's pages go at that speed, too."""
    found = [each.downtime_ns for each in completed]
    if model.stretches:
        slower = max(speed for _, speed in model.stretches) / model.stretches[-1][1]
        found += [round(downtime_ns * slower) for downtime_ns in found]
    return found


def _by_zero_pages(model: SampledModel) -> list[SampledModel]:
    most = replace(model, zero_share=model.most_zero_share)
    return [model] if most == model else [model, most]


def _simulate(path: Path, model: SampledModel, bandwidth_bytes_s: float, overrides: Overrides) -> Reckoned:
    scenario = build_scenario(tables(model, bandwidth_bytes_s), path, overrides)
    return reckon(scenario) if can_reckon(scenario) else Reckoned.of(run(scenario, traced=False))


def tables(model: SampledModel, bandwidth_bytes_s: float) -> dict[str, Any]:
    """The migration as a scenario file would put it: where its speed changed, with a limit that changes."""
    dirtying = model.dirtying
    workload: dict[str, Any] = {"kind": "idle"}
    if dirtying.working_set_pages:
        size = min(dirtying.working_set_pages * PAGE_BYTES, model.memory_bytes)
        workload = {
            "kind": "uniform",
            "working_set": f"{size} B",
            "rate": f"{round(dirtying.pages_s * PAGE_BYTES)} B/s",
        }
    factor = bandwidth_bytes_s / model.bandwidth_bytes_s
    speeds = [(since_ms, speed * factor) for since_ms, speed in model.stretches] or [(0, bandwidth_bytes_s)]
    fastest = max(speed for _, speed in speeds)
    limits = [
        (since_ms, f"{max(1, round(speed))} B/s" if speed < fastest else "unlimited") for since_ms, speed in speeds
    ]
    return {
        "guest": {
            "memory": f"{model.memory_bytes} B",
            "device_state": f"{UNKNOWN_DEVICE_STATE_BYTES} B",
            "zero_fraction": model.zero_share,
            "workload": workload,
        },
        "link": {"bandwidth": f"{max(1000, round(8 * fastest))} bit/s", "latency": "1 us"},
        "host": {"connect": f"{model.setup_ms} ms", "zero_test_page": f"{1e9 * model.zero_page_s:.3f} ns"},
        "migration": {
            "transport": "tcp",
            "downtime_limit": f"{max(1, model.downtime_limit_ms)} ms",
            "max_rounds": _PATIENCE,
            "max_bandwidth": limits[0][1],
            "change": [{"at": f"{since_ms} ms", "max_bandwidth": limit} for since_ms, limit in limits[1:]],
        },
    }


def _check(path: Path, samples: Sequence[Sample], rates: Sequence[DirtyRate]) -> dict[str, float]:
    """The model of the first half of the time against what the rest tells: predicted over recorded."""
    last = samples[-1] if samples else Sample()
    first = [each for each in samples if each.timed and each.total_ms <= last.total_ms / 2]
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
