"""A calibration and a comparison for a person."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from simmig.experiment.amounts import format_bytes, format_time
from simmig.experiment.fit.calibrate import Model
from simmig.experiment.fit.compare import Comparison, Row
from simmig.experiment.fit.model_file import amount
from simmig.experiment.reports.summary import headline
from simmig.experiment.result import Result


def calibrated(model: Model) -> RenderableType:
    """What was measured of the devices, and from what."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("measured")
    table.add_column("value", justify="right")
    table.add_column("samples", justify="right")
    table.add_column("from")
    for figure in model.figures:
        table.add_row(figure.name, amount(figure), str(figure.events), figure.source)
    devices = model.devices
    head = Text(f"{devices.source} to {devices.destination}", style="bold")
    head.append(f", kernel {model.kernel}, {model.made}", style="default")
    return Group(head, "", Padding(table, (0, 2)))


def report(comparison: Comparison) -> RenderableType:
    """Predicted beside measured."""
    repeats = len(comparison.measured)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading, justify in (("", "left"), ("predicted", "right"), ("measured", "right"), ("difference", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    if repeats > 1:
        table.add_column("range", justify="right")
    table.add_column("")
    for row in comparison.rows():
        table.add_row(*_cells(row, repeats > 1))
    parts: list[RenderableType] = [
        calibrated(comparison.model),
        "",
        headline(comparison.typical(), comparison.scenario),
        "",
        Padding(table, (0, 2)),
    ]
    parts += [f"  No verdict, for {what_went_wrong(each)}." for each in _bad(comparison)]
    return Group(*parts)


def what_went_wrong(result: Result) -> str:
    """Why there is no verdict on a run."""
    run = "the prediction" if result.backend == "sim" else "a migration"
    if result.status != "completed":
        return f"{run} ended {result.status}: {result.reason}"
    return f"{run} broke {', '.join(name for name, held in result.invariants.items() if not held)}"


def _cells(row: Row, ranged: bool) -> list[str]:
    verdict = {True: "hit", False: "MISS", None: ""}[row.hit]
    difference = "" if row.off is None else f"{100 * row.off:+.1f} %"
    cells = [row.name, _tell(row, row.predicted), _tell(row, row.typical), difference]
    if ranged:
        cells.append(f"{_tell(row, min(row.measured))} to {_tell(row, max(row.measured))}")
    return [*cells, verdict]


def _tell(row: Row, value: float) -> str:
    if row.key.endswith("_ns"):
        return format_time(round(value))
    return format_bytes(round(value)) if row.key.startswith("bytes") else f"{value:g}"


def _bad(comparison: Comparison) -> list[Result]:
    return [each for each in (comparison.predicted, *comparison.measured) if not each.good]
