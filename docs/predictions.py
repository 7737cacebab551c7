"""Predicts every recording of the tests' data, prints how near that comes, and judges the ranges.

    python docs/predictions.py             print the table
    python docs/predictions.py --write     and write docs/predictions.md and the errors that ranges are made of

A recording's range is made without its own error: what it would be, had that recording not been there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from simmig.experiment.fit.predict import predict
from simmig.experiment.fit.predict_range import Errors, range_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "predictions.md"
ERRORS = ROOT / "simmig" / "experiment" / "fit" / "prediction_errors.toml"
SUFFIX = ".src.trace.gz"


class Row(NamedTuple):
    """One recording beside its prediction; times in ns, the resampled runs' figures as well."""

    recording: str
    first_round_error: float
    recorded: tuple[int, int]
    predicted: tuple[int, int]
    totals: list[int]
    downtimes: list[int]

    @property
    def errors(self) -> Errors:
        """Recorded over the resampled runs' mean."""
        means = [sum(figures) / len(figures) for figures in (self.totals, self.downtimes)]
        return Errors(self.recording, self.recorded[0] / means[0], self.recorded[1] / means[1])


def main() -> None:
    """See the module."""
    rows = []
    for path in sorted(ROOT.glob(f"tests/data/qemu-*-rxe/*{SUFFIX}")):
        rows.append(measure(path))
        print(rows[-1].recording, rows[-1].errors[1:], file=sys.stderr, flush=True)
    text = "\n".join(page(rows)) + "\n"
    print(text)
    if "--write" in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        ERRORS.write_text("\n".join(errors(rows)) + "\n", encoding="utf-8")


def measure(path: Path) -> Row:
    """Predict one."""
    prediction = predict(path)
    recorded, forecast = prediction.recorded.metrics, prediction.predicted
    simulated = forecast.result.metrics
    return Row(
        f"{path.parent.name.removesuffix('-rxe')}/{path.name.removesuffix(SUFFIX)}",
        prediction.lacking.error,
        (recorded.total_time_ns, recorded.downtime_ns),
        (simulated.total_time_ns, simulated.downtime_ns),
        [total_ns for total_ns, _ in forecast.resampled],
        [downtime_ns for _, downtime_ns in forecast.resampled],
    )


def page(rows: list[Row]) -> Iterator[str]:
    """The table and what it comes to, in Markdown."""
    yield "# Recorded migrations, and what simmig predicts of them"
    yield ""
    yield "Made by `python docs/predictions.py --write`. Costs come from each recording's setup and first round,"
    yield "the guest from its bitmap syncs; first round: how far the simulated one is off. A range is made of the"
    yield "errors of all other recordings."
    yield ""
    columns = ["recorded", "predicted", "error", "range", ""]
    yield f"| recording | first round | total: {' | '.join(columns)} | downtime: {' | '.join(columns)} |"
    yield f"| --- {'| ---: ' * (1 + 2 * len(columns))}|"
    inside = [0, 0]
    near = [0, 0]
    for row in rows:
        others = [other.errors for other in rows if other is not row]
        cells = [row.recording, f"{100 * row.first_round_error:+.1f} %"]
        ranges = (
            range_of(row.totals, [each.total_time for each in others]),
            range_of(row.downtimes, [each.downtime for each in others]),
        )
        for which, (low, high) in enumerate(ranges):
            recorded, predicted = row.recorded[which], row.predicted[which]
            error = predicted / recorded - 1
            is_inside = low <= recorded <= high
            inside[which] += is_inside
            near[which] += abs(error) <= (0.10, 0.25)[which]
            cells += [f"{recorded / 1e6:.0f} ms", f"{predicted / 1e6:.0f} ms", f"{100 * error:+.1f} %"]
            cells += [f"{low / 1e6:.0f} to {high / 1e6:.0f} ms", "" if is_inside else "outside"]
        yield f"| {' | '.join(cells)} |"
    yield ""
    share = 100 * sum(inside) / (2 * len(rows))
    yield f"Of {len(rows)} recordings, total time is within 10 % in {near[0]} and inside its range in {inside[0]},"
    yield f"downtime is within 25 % in {near[1]} and inside its range in {inside[1]}."
    yield f"{share:.0f} % of the ranges hold. {CAVEAT}"


CAVEAT = """By construction, nearly: made of all other recordings' errors, a range leaves out
the two that are furthest off. Held from one version's recordings to the other's, 17 of 24 ranges contained the
truth, which is too few to call them calibrated."""


def errors(rows: list[Row]) -> Iterator[str]:
    """What ranges are made of."""
    yield "# Recorded over predicted, for every recording of the tests' data (python docs/predictions.py --write)."
    for row in rows:
        yield ""
        yield "[[recording]]"
        yield f'name = "{row.recording}"'
        yield f"total_time = {row.errors.total_time:.4f}"
        yield f"downtime = {row.errors.downtime:.4f}"


if __name__ == "__main__":
    main()
