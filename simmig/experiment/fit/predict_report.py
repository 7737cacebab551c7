"""A prediction for reading and as JSON: what was calibrated, what is predicted, what was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import zip_longest
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from simmig.experiment.amounts import format_byte_rate, format_bytes, format_rate, format_time
from simmig.experiment.fit.calibrate_log import Figure
from simmig.experiment.fit.calibrate_round import REPRODUCTION_AIM
from simmig.experiment.fit.link_speed import link_speeds
from simmig.experiment.fit.predict import RESAMPLES, Forecast, Prediction
from simmig.experiment.fit.predict_limit import limit_of
from simmig.experiment.output import OutputDir
from simmig.experiment.reports.report import json_document, run_into
from simmig.experiment.reports.summary import as_text
from simmig.experiment.result import Result
from simmig.experiment.runs.run import run
from simmig.guest.api import PAGE_BYTES
from simmig.trace.metrics import Stretch
from simmig.trace.qemu_recording import Recording

TOTAL_TIME_AIM, DOWNTIME_AIM = 0.10, 0.25
"""How near a prediction should come to the recording."""
_UNKNOWN = ("memory_identical", "destination_running", "bytes_on_wire", "trace_sha256", "seed", "invariants")
"""What a source's log cannot tell of the run contract's figures."""
_AT_THE_END = ("status", "reason", "total_time_ns", "downtime_ns", "downtime_parts", "pending_bytes_at_stop")
"""What is known when the migration has ended."""
_REMARKS_SHOWN = 10
_ROUNDS_SHOWN = 12

_SOURCES = (
    "Calibrated: every cost in the table above, from the setup and the first round alone.\n"
    "Taken from the whole log: the guest, that is its memory, which pages it dirtied when (later bitmap syncs and "
    "writes) and how many messages its device state fills.\n"
    "Predicted: everything in the comparison, by simulating QEMU's protocol, slices, estimate and drain policy."
)
_NOTES = (
    "Downtime is the source's own, as QEMU counts it. Nothing in a log before the stop tells what it takes to "
    "stop the guest and to gather its device state, nor what the last slice will leave, anything from nothing to "
    "the threshold: the range is to contain them.",
    f"Ranges: {RESAMPLES} resamples of the calibrating events, and the most that predictions of other recordings "
    "were off by; nine of ten should lie inside (docs/predictions.md).",
    "Setup counts from the request; QEMU's own setup-time begins later, when it has connected.",
)


def figures(prediction: Prediction) -> dict[str, Any]:
    """The object that ``--json`` prints; `calibrated` in the units its figures name."""
    recorded = prediction.recorded.figures()
    recorded.update(dict.fromkeys((*_UNKNOWN, *_untold(prediction.recording))))
    notes = prediction.logged.notes
    document: dict[str, Any] = {
        "log": {
            "version": prediction.logged.version,
            "events": notes.events,
            "not_understood": notes.strange,
            "first_not_understood": [{"line": line, "text": text} for line, text in notes.shown],
            "remarks": notes.remarks,
        },
        "first_round": {
            "recorded_ns": prediction.lacking.recorded_ns or None,
            "simulated_ns": prediction.lacking.simulated_ns or None,
            "reproduced": prediction.lacking.good if prediction.lacking.recorded_ns else None,
        },
        "rate_limit": _limit(prediction),
        "link_speeds": [
            {"from_ns": at_ns, "bytes_s": round(speed)} for at_ns, speed in link_speeds(prediction.recording)
        ],
        "calibrated": {
            each.name.replace(" ", "_"): {
                "value": each.value,
                "unit": each.unit,
                "events": each.events,
                "source": each.source,
            }
            for each in prediction.calibration.figures
        },
        "predicted": _forecast(prediction.answer),
        "recorded": recorded | {"round_table": prediction.recorded.tables()["round_table"]},
    }
    if prediction.varied is not None:
        document["predicted_as_recorded"] = _forecast(prediction.predicted)
    return document


def _limit(prediction: Prediction) -> dict[str, Any]:
    limit = limit_of(prediction.logged)
    return {
        "max_bandwidth_bytes_s": limit.bytes_s,
        "kept_as": limit.kept_as,
        "between_bytes_s": [limit.low_bytes_s, limit.high_bytes_s] if limit.pauses else None,
        "changes": [{"at_ns": each.at_ns, "max_bandwidth_bytes_s": each.bytes_s} for each in limit.changes],
        "pauses": limit.pauses,
        "paused_ns": limit.paused_ns,
    }


def _untold(recording: Recording) -> tuple[str, ...]:
    """Figures that a log which begins late or ends early does not tell."""
    total = ("total_time_ns", "setup_time_ns") if recording.began_late else ()
    return total if recording.complete else (*_AT_THE_END, *total)


def _forecast(forecast: Forecast) -> dict[str, Any]:
    result, spread = forecast.result, forecast.spread
    return result.figures() | {
        "round_table": result.tables()["round_table"],
        "resamples": RESAMPLES,
        "incomplete": forecast.incomplete,
        "on_edge": forecast.on_edge,
        "total_time_range_ns": list(spread.total_time_ns),
        "downtime_range_ns": list(spread.downtime_ns),
    }


def write_into(directory: OutputDir, prediction: Prediction) -> None:
    """Leave the prediction and the files of the simulated run (see `run_into`) in a directory of results."""
    (directory.work / "prediction.txt").write_text(as_text(report(prediction)), encoding="utf-8")
    (directory.work / "prediction.json").write_bytes(json_document(figures(prediction)))
    run_into(directory, prediction.answer.scenario, carry_out=partial(run, subject=prediction.subject))


def report(prediction: Prediction) -> RenderableType:
    """The same for a person."""
    parts: list[RenderableType] = [
        _headline(prediction),
        "",
        Padding(_calibrated(prediction.calibration.figures), (0, 2)),
        "",
        Padding(_SOURCES, (0, 2)),
        "",
        Padding(_comparison(prediction), (0, 2)),
        "",
        Padding(_rounds(prediction), (0, 2)),
        "",
        *(Padding(line, (0, 2)) for line in _log_notes(prediction)),
    ]
    parts += [Padding(f"- {line}", (0, 2)) for line in _checks(prediction)]
    parts += [Padding(f"- {note}", (0, 2)) for note in (*_NOTES, *edge(prediction.answer), *_misses(prediction))]
    return Group(*parts)


def _headline(prediction: Prediction) -> Text:
    recording = prediction.recording
    memory = format_bytes(recording.pages * PAGE_BYTES)
    how = "pin-all" if recording.pin_all else "dynamic registration"
    text = Text("Recorded", style="bold")
    text.append(f": {memory} guest over RDMA, {how}, {len(recording.syncs)} bitmap syncs", style="default")
    if prediction.varied is not None:
        text.append("\nVaried", style="bold")
        policy = [f"policy {prediction.asked.policy}"] if prediction.asked.policy else []
        text.append(f": {', '.join([*policy, *prediction.asked.settings])}", style="default")
    return text


def _log_notes(prediction: Prediction) -> Iterator[str]:
    """What the log is, and what of it was not understood."""
    logged = prediction.logged
    yield f"- The log is of {logged.version}: {logged.notes.events} events."
    if logged.notes.strange:
        yield f"- {logged.notes.strange} lines were not understood and are left out; the first:"
        for number, text in logged.notes.shown:
            yield f"    line {number}: {text}"
    for remark in logged.notes.remarks[:_REMARKS_SHOWN]:
        yield f"- {remark[0].upper()}{remark[1:]}."


def _calibrated(found: list[Figure]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("calibrated")
    table.add_column("value", justify="right")
    table.add_column("events", justify="right")
    table.add_column("from")
    for each in found:
        if each.events and each.value:
            table.add_row(each.name, _amount(each), str(each.events), each.source)
    return table


def _amount(figure: Figure) -> str:
    if figure.unit == "bit/s":
        return format_rate(figure.value)
    value = figure.value
    sign = "-" if value < 0 else ""
    return f"{sign}{format_time(round(abs(value)))}" if abs(value) >= 1000 else f"{value:.3g} ns"


def _comparison(prediction: Prediction) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    for heading in ("recorded", "predicted", "error", "range"):
        table.add_column(heading, justify="right")
    if prediction.varied is not None:
        table.add_column("varied", justify="right")
        table.add_column("range", justify="right")
    for row in _rows(prediction):
        table.add_row(*row)
    return table


def _rows(prediction: Prediction) -> Iterator[list[str]]:
    untold = _untold(prediction.recording)
    columns = [prediction.recorded, prediction.predicted.result]
    forecasts = [prediction.predicted]
    if prediction.varied is not None:
        columns.append(prediction.varied.result)
        forecasts.append(prediction.varied)

    def row(
        name: str, values: list[int], tell: Any, ranges: list[tuple[int, int]] | None = None, key: str = ""
    ) -> list[str]:
        known = key not in untold
        cells = [name, tell(values[0]) if known else "not in the log"]
        for place, value in enumerate(values[1:]):
            cells.append(tell(value))
            if place == 0:
                cells.append(f"{100 * (value / values[0] - 1):+.1f} %" if values[0] and known else "")
            cells.append(" to ".join(tell(bound) for bound in ranges[place]) if ranges else "")
        return cells

    metrics = [result.metrics for result in columns]
    total_ns, downtime_ns = [m.total_time_ns for m in metrics], [m.downtime_ns for m in metrics]
    yield row(
        "total time", total_ns, format_time, [each.spread.total_time_ns for each in forecasts], "total_time_ns"
    )
    yield row("downtime", downtime_ns, format_time, [each.spread.downtime_ns for each in forecasts], "downtime_ns")
    yield row(
        "  RAM left at the stop", [_left_bytes(result) for result in columns], format_bytes, key="downtime_ns"
    )
    yield row("  after the last page", [_behind_ns(result) for result in columns], format_time, key="downtime_ns")
    yield row("setup", [m.setup_time_ns for m in metrics], format_time, key="setup_time_ns")
    yield row("RAM sent", [m.counts.posted_bytes for m in metrics], format_bytes)
    yield row("zero pages", [m.counts.zero_pages for m in metrics], str)
    yield row("rounds", [len(m.rounds) for m in metrics], str)
    yield row("slices", [len(m.slices) for m in metrics], str)
    yield row("waited for the policy", [m.counts.drain_ns for m in metrics], format_time)
    yield row("  for the control channel", [m.counts.forced_drain_ns for m in metrics], format_time)


def _left_bytes(result: Result) -> int:
    """Dirty when the last round, that of the stopped guest, began."""
    rounds = result.metrics.rounds
    return rounds[-1].dirty_pages * PAGE_BYTES if rounds and result.metrics.stopped_ns is not None else 0


def _behind_ns(result: Result) -> int:
    """From the end of the last round until the migration was over."""
    metrics = result.metrics
    if not metrics.rounds or metrics.stopped_ns is None:
        return 0
    return max(0, metrics.stopped_ns + metrics.downtime_ns - metrics.rounds[-1].ended_ns)


def _rounds(prediction: Prediction) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    columns = {"recorded": prediction.recorded, "predicted": prediction.predicted.result}
    if prediction.varied is not None:
        columns["varied"] = prediction.varied.result
    table.add_column("round", justify="right")
    for name in columns:
        for what in ("took", "dirty", "sent"):
            table.add_column(f"{name} {what}" if what == "took" else what, justify="right")
    rows = list(zip_longest(*(result.metrics.rounds for result in columns.values())))
    half = _ROUNDS_SHOWN // 2
    for index, stretches in enumerate(rows):
        if half <= index < len(rows) - half:
            if index == half:
                table.add_row("...")
            continue
        table.add_row(str(index + 1), *(cell for stretch in stretches for cell in _round(stretch)))
    return table


def _round(stretch: Stretch | None) -> tuple[str, str, str]:
    if stretch is None:
        return "", "", ""
    sent = format_bytes(stretch.counts.posted_bytes)
    return format_time(stretch.duration_ns), format_bytes(stretch.dirty_pages * PAGE_BYTES), sent


def _checks(prediction: Prediction) -> Iterator[str]:
    """Whether the calibration reproduces its own round, and what was made of the rate limit."""
    lacking = prediction.lacking
    if not lacking.recorded_ns:
        yield "The log does not have all of the first round: the calibration could not be held against it."
    else:
        verdict = "" if lacking.good else "NOT REPRODUCED, doubt what is predicted. "
        yield (
            f"{verdict}The first round, simulated with what was calibrated from it, takes "
            f"{format_time(lacking.simulated_ns)} where {format_time(lacking.recorded_ns)} were recorded, "
            f"{100 * lacking.error:+.1f} % (aim {100 * REPRODUCTION_AIM:.0f} %)."
        )
    if speeds := link_speeds(prediction.recording):
        told = ", ".join(
            f"{format_byte_rate(round(speed))} from {format_time(at_ns)} on" for at_ns, speed in speeds
        )
        yield (
            f"THE LINK'S SPEED CHANGED on the way: {told}. Costs are the first round's; the ranges contain what "
            "the same migration takes at each of these speeds."
        )
    yield f"Rate limit: {limit_of(prediction.logged).tell()}."


def edge(forecast: Forecast) -> Iterator[str]:
    """Whether it converges by chance, for a person."""
    if forecast.on_edge:
        totals = [total_ns for total_ns, _ in forecast.resampled]
        never = f", and {forecast.incomplete} do not complete" if forecast.incomplete else ""
        yield (
            f"ON THE EDGE: with costs that agree with the log as well, it takes {format_time(min(totals))} to "
            f"{format_time(max(totals))}{never}. The guest dirties pages about as fast as they are sent: in which "
            "round few enough are left is a matter of chance, and a migration of it that completed does not mean "
            "that the next one does."
        )


def _misses(prediction: Prediction) -> Iterator[str]:
    """Where the prediction is further off than it should be, and why."""
    if not prediction.recording.complete or prediction.recording.began_late:
        return
    recorded, forecast = prediction.recorded.metrics, prediction.predicted
    total = forecast.result.metrics.total_time_ns / recorded.total_time_ns - 1
    if abs(total) > TOTAL_TIME_AIM:
        first = recorded.rounds[0].duration_ns - forecast.result.metrics.rounds[0].duration_ns
        rest = recorded.total_time_ns - forecast.result.metrics.total_time_ns - first
        yield (
            f"MISSED: total time is off by {100 * total:+.0f} % (aim {100 * TOTAL_TIME_AIM:.0f} %), of which "
            f"{_signed(-first)} in the first round and {_signed(-rest)} in all else."
        )
    downtime = forecast.result.metrics.downtime_ns / recorded.downtime_ns - 1 if recorded.downtime_ns else 0.0
    if abs(downtime) > DOWNTIME_AIM:
        low, high = forecast.spread.downtime_ns
        inside = "within" if low <= recorded.downtime_ns <= high else "outside"
        left = _left_bytes(forecast.result) - _left_bytes(prediction.recorded)
        behind = _behind_ns(forecast.result) - _behind_ns(prediction.recorded)
        yield (
            f"MISSED: downtime is off by {100 * downtime:+.0f} % (aim {100 * DOWNTIME_AIM:.0f} %), the recorded "
            f"one is {inside} the range: {format_bytes(abs(left))} {'more' if left > 0 else 'less'} than recorded "
            f"was left at the stop, and what followed the last page took {_signed(behind)}."
        )


def _signed(duration_ns: int) -> str:
    return f"{format_time(abs(duration_ns))} {'more' if duration_ns > 0 else 'less'}"
