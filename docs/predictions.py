"""Predicts every recording of the tests' data, prints how near that comes, and judges the ranges.

    python docs/predictions.py             print the page
    python docs/predictions.py --write     and write docs/predictions.md, the errors that ranges are made of, and
                                           docs/images/coverage.png

A recording's range is made without its own error: what it would be, had that recording not been there.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from polled import SUFFIX, final, polled, write
from range_coverage import draw, table

from simmig.experiment.fit.predict import predict
from simmig.experiment.fit.predict_range import Errors, range_of
from simmig.experiment.fit.predict_samples import predict_samples
from simmig.experiment.scenario.load import Overrides

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "predictions.md"
_MS = 1_000_000
ERRORS = ROOT / "simmig" / "experiment" / "fit" / "prediction_errors.toml"

STOP = """\
## The stop

Of a recorded downtime the pages that were left took 72 % (median; 24 to 92 %). How many are left is decided by
where the last slice ends, anything from none to the threshold: 172 KiB to 35 MiB here. What followed the last page
took 41 to 100 ms. Of what the logs have before the stop only one thing goes with that: what a slice spends beside
its writes, 6.5 to 26.5 ms (correlation 0.89). Those are the same messages, and they are simulated. The rest, about
28 ms whatever the slices took, is stopping the guest and gathering its device state. No line before the stop tells
it, all 12 guests were of one kind on one emulated processor, and so it is no constant here: the range is to
contain it.
"""


class Row(NamedTuple):
    """One recording beside its prediction; times in ns, those of the resampled or varied runs as well.

    `predicted` is None where it does not complete. Without `bounded` the total time's range has no upper end.
    """

    recording: str
    note: str
    recorded: tuple[int, int]
    predicted: tuple[int, int] | None
    totals: list[int]
    downtimes: list[int]
    bounded: bool = True

    @property
    def errors(self) -> Errors | None:
        """Recorded over the runs' mean; None where the prediction does not complete."""
        if self.predicted is None:
            return None
        means = [sum(figures) / len(figures) for figures in (self.totals, self.downtimes)]
        return Errors(self.recording, self.recorded[0] / means[0], self.recorded[1] / means[1])


def main() -> None:
    """See the module."""
    logs = sorted(ROOT.glob(f"tests/data/qemu-*-rxe/*{SUFFIX}"))
    samples = [measure_polled(path) for path in logs]
    rows = []
    for path in logs:
        rows.append(measure(path))
        print(rows[-1].recording, rows[-1].errors, file=sys.stderr, flush=True)
    writing = "--write" in sys.argv[1:]
    if writing:
        ERRORS.write_text("\n".join(errors(rows, samples)) + "\n", encoding="utf-8")
        draw(*(told(each) for each in (rows, samples)))
    text = "\n".join(page(rows, samples)) + "\n"
    print(text)
    if writing:
        PAGE.write_text(text, encoding="utf-8")


def measure(path: Path) -> Row:
    """Predict one from its log."""
    prediction = predict(path)
    recorded, forecast = prediction.recorded.metrics, prediction.predicted
    simulated = forecast.result.metrics
    return Row(
        name_of(path),
        f"{100 * prediction.lacking.error:+.1f} %",
        (recorded.total_time_ns, recorded.downtime_ns),
        (simulated.total_time_ns, simulated.downtime_ns),
        [total_ns for total_ns, _ in forecast.resampled],
        [downtime_ns for _, downtime_ns in forecast.resampled],
    )


def measure_polled(path: Path) -> Row:
    """Predict one from what polling it once a second would have shown while it ran."""
    told = final(path)
    replies = polled(path)
    with tempfile.TemporaryDirectory() as place:
        prediction = predict_samples(write(Path(place) / "polled.jsonl", replies), Overrides())
    predicted = prediction.predicted
    return Row(
        name_of(path),
        f"{len(replies)}, of {replies[-1]['ram']['dirty-sync-count']} of {told['bitmap_syncs']} syncs",
        (told["total_time_ms"] * _MS, told["downtime_ms"] * _MS),
        (predicted.total_time_ns, predicted.downtime_ns) if predicted.good else None,
        [total_ns for total_ns, _ in prediction.variants],
        [downtime_ns for _, downtime_ns in prediction.variants],
        prediction.model.tells_of_the_guest,
    )


def name_of(path: Path) -> str:
    """Version and run."""
    return f"{path.parent.name.removesuffix('-rxe')}/{path.name.removesuffix(SUFFIX)}"


def page(rows: list[Row], samples: list[Row]) -> Iterator[str]:
    """All of it, in Markdown."""
    yield "# Recorded migrations, and what simmig predicts of them"
    yield ""
    yield "Made by `python docs/predictions.py --write`. Costs come from each recording's setup and first round,"
    yield "the guest from its bitmap syncs; first round: how far the simulated one is off. A range is made of the"
    yield "errors of all other recordings."
    yield ""
    yield from judged("first round", rows)
    yield ""
    yield from STOP.splitlines()
    yield ""
    yield "## From samples alone"
    yield ""
    yield "The same migrations, from what polling `query-migrate` once a second would have shown while they ran"
    yield "(reckoned from the logs by docs/polled.py), held against what QEMU's own last reply said. Where the"
    yield "polls have seen nothing of the guest's writes, the total time has a lower end alone."
    yield ""
    yield from judged("polls", samples)
    yield ""
    yield "## What the ranges are worth"
    yield ""
    yield "By construction, nearly, a range made of all other errors of a set leaves out the two cases that are"
    yield "furthest off. So here ranges are made of what shares no circumstances with the case: recordings of the"
    yield "other version, cells on other links; and at several levels. Off: further than chance explains, 19 of 20"
    yield "times (were the cases independent, which the cells of a link are not)."
    yield ""
    yield "![Observed against nominal coverage](images/coverage.png)"
    yield ""
    yield from table(told(rows), told(samples))


def told(rows: list[Row]) -> list[Errors]:
    """The errors of those that there are any of."""
    return [row.errors for row in rows if row.errors is not None]


def judged(note: str, rows: list[Row]) -> Iterator[str]:
    """A table of predictions and what it comes to."""
    columns = ["recorded", "predicted", "error", "range", ""]
    yield f"| recording | {note} | total: {' | '.join(columns)} | downtime: {' | '.join(columns)} |"
    yield f"| --- {'| ---: ' * (1 + 2 * len(columns))}|"
    inside = [0, 0]
    near = [0, 0]
    for row in rows:
        others = [other.errors for other in rows if other is not row and other.errors is not None]
        ranges = (
            range_of(row.totals or [0], [each.total_time for each in others]),
            range_of(row.downtimes or [0], [each.downtime for each in others]),
        )
        cells = [row.recording, row.note]
        for which, (low, high) in enumerate(ranges):
            recorded = row.recorded[which]
            open_end = not row.bounded and not which
            is_inside = row.predicted is not None and low <= recorded and (open_end or recorded <= high)
            inside[which] += is_inside
            cells.append(f"{recorded / _MS:.0f} ms")
            if row.predicted is None:
                cells += ["does not complete", "", "", "outside"]
                continue
            error = row.predicted[which] / recorded - 1
            near[which] += abs(error) <= (0.10, 0.25)[which]
            cells += [f"{row.predicted[which] / _MS:.0f} ms", f"{100 * error:+.1f} %"]
            cells.append(f"{low / _MS:.0f} ms or more" if open_end else f"{low / _MS:.0f} to {high / _MS:.0f} ms")
            cells.append("" if is_inside else "outside")
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield f"Of {len(rows)} recordings, total time is within 10 % in {near[0]} and inside its range in {inside[0]},"
    yield f"downtime is within 25 % in {near[1]} and inside its range in {inside[1]}."


def errors(rows: list[Row], samples: list[Row]) -> Iterator[str]:
    """What ranges are made of."""
    yield "# Recorded over predicted, for every recording of the tests' data (python docs/predictions.py --write)."
    for kind, judged_rows in (("recording", rows), ("sampled", samples)):
        for off in (row.errors for row in judged_rows):
            if off is not None:
                yield ""
                yield f"[[{kind}]]"
                yield f'name = "{off.recording}"'
                yield f"total_time = {off.total_time:.4f}"
                yield f"downtime = {off.downtime:.4f}"


if __name__ == "__main__":
    main()
