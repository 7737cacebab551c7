"""How sure a prediction is: the range in which nine of ten recordings should lie.

What makes a migration differ from its prediction is for the most part not in the log before it happens: what the
last slice leaves, what stopping the guest and gathering its device state takes. So the range is taken from how far
predictions were off before: `prediction_errors.toml` has recorded over predicted of each recording that there is
(`python docs/predictions.py` makes it anew). The most extreme of n such ratios on either side, together with what
resampling the calibration gives, hold a further one in about (n - 1) of (n + 1) cases, whatever their distribution
(split conformal prediction; Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005).
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Errors(NamedTuple):
    """A recording, and recorded over predicted: total time and downtime."""

    recording: str
    total_time: float
    downtime: float


def range_of(predicted: Sequence[int], ratios: Collection[float]) -> tuple[int, int]:
    """From the figures of the resampled runs and the ratios of other recordings: lowest and highest."""
    low, high = min(predicted), max(predicted)
    middle = sum(predicted) / len(predicted)
    return (
        round(min(low, middle * min(ratios, default=1.0))),
        round(max(high, middle * max(ratios, default=1.0))),
    )


def known_errors() -> tuple[Errors, ...]:
    """Those of all recordings that predictions from their logs have been held against."""
    return _errors("recording")


def sampled_errors() -> tuple[Errors, ...]:
    """The same of predictions from what polling would have shown of these recordings, once a second."""
    return _errors("sampled")


@cache
def _errors(kind: str) -> tuple[Errors, ...]:
    text = files("simmig.experiment.fit").joinpath("prediction_errors.toml").read_text("utf-8")
    rows = tomllib.loads(text).get(kind, [])
    return tuple(Errors(row["name"], row["total_time"], row["downtime"]) for row in rows)
