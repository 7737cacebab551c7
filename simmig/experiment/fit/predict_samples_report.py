"""A prediction from samples, for reading and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from simmig.experiment.amounts import format_byte_rate, format_bytes, format_time
from simmig.experiment.fit.predict_samples import SampledPrediction
from simmig.experiment.fit.sampled_model import PAGE_BYTES

_MS = 1_000_000


def figures(prediction: SampledPrediction) -> dict[str, Any]:
    """The object that ``--json`` prints; what no sample told is null."""
    recorded = {name: None if value in (-1, "") else value for name, value in asdict(prediction.recorded).items()}
    return {
        "samples": prediction.samples,
        "other_migrations": prediction.other_migrations,
        "model": asdict(prediction.model),
        "check": prediction.check,
        "predicted": prediction.predicted.figures()
        | {
            "may_not_complete": prediction.may_not_complete,
            "total_time_range_ns": list(prediction.total_range_ns),
            "downtime_range_ns": list(prediction.downtime_range_ns),
        },
        "recorded": recorded,
    }


def report(prediction: SampledPrediction) -> str:
    """The same for a person."""
    return "\n".join([*_model(prediction), "", *_table(prediction), "", *_checks(prediction)]) + "\n"


def _model(prediction: SampledPrediction) -> Iterator[str]:
    model, dirtying = prediction.model, prediction.model.dirtying
    low, high = model.bandwidth_range_bytes_s
    yield f"Sampled: {prediction.samples} samples of a {format_bytes(model.memory_bytes)} guest's migration"
    between = f"{format_byte_rate(round(low))} to {format_byte_rate(round(high))}"
    yield f"  bandwidth       {format_byte_rate(round(model.bandwidth_bytes_s))} ({between})"
    for since_ms, speed in model.stretches:
        yield f"    from {format_time(since_ms * _MS):>8} on {format_byte_rate(round(speed))}"
    if dirtying.working_set_pages:
        size = format_bytes(dirtying.working_set_pages * PAGE_BYTES)
        rate = format_byte_rate(round(dirtying.pages_s * PAGE_BYTES))
        counted = f"{dirtying.intervals} interval{'s' if dirtying.intervals > 1 else ''}"
        yield f"  dirtying        {rate} of page writes to {size}, from {counted}"
    else:
        yield "  dirtying        none was told: the guest is taken to be idle"
    yield f"  zero pages      {100 * model.zero_share:.0f} %"
    yield f"  setup           {model.setup_ms} ms"
    yield f"  downtime limit  {model.downtime_limit_ms} ms (--set migration.downtime_limit=... for another)"


def _table(prediction: SampledPrediction) -> Iterator[str]:
    recorded, predicted = prediction.recorded, prediction.predicted
    done = recorded.status == "completed"
    yield f"{'':16}{'recorded':>14}{'predicted':>14}   range"
    rows = (
        ("total time", recorded.total_ms if done else -1, predicted.total_time_ns, prediction.total_range_ns),
        ("downtime", recorded.downtime_ms, predicted.downtime_ns, prediction.downtime_range_ns),
    )
    for name, told_ms, predicted_ns, (low, high) in rows:
        told = format_time(told_ms * _MS) if told_ms >= 0 else "not told"
        forecast = format_time(predicted_ns) if predicted_ns else "none"
        between = f"{format_time(low)} to {format_time(high)}" if high else f"{format_time(low)} or more"
        between = between if low else ""
        yield f"{name:16}{told:>14}{forecast:>14}   {between}".rstrip()
    if prediction.predicted.status != "completed":
        yield f"The predicted migration does not complete: {prediction.predicted.reason}."
    elif prediction.may_not_complete:
        yield (
            "The samples do not rule out a guest that never converges."
            if not prediction.model.tells_of_the_guest
            else "With another bandwidth or guest that the samples allow as well, it does not complete."
        )


def _checks(prediction: SampledPrediction) -> Iterator[str]:
    if prediction.check:
        off = ", ".join(
            f"{name.replace('_', ' ')} {100 * (value - 1):+.0f} %" for name, value in prediction.check.items()
        )
        yield f"- Made of the first half of the time alone, the model is off from what the rest tells by: {off}."
    else:
        yield "- The samples do not suffice to hold the model against those it was made without."
    for what in prediction.model.untold:
        yield f"- Not told: {what}."
    if prediction.other_migrations:
        yield f"- The file tells of {prediction.other_migrations} more; the one with most samples is taken."
    yield "- Samples do not tell the transport: what it costs is in the bandwidth, nothing else is charged for it."
    yield "- They do not tell what stopping the guest and its device state takes: the range is to contain it."
