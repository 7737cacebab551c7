"""A VM's migrations, predicted and carried out, for a person."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table

from simmig.experiment.amounts import format_time
from simmig.experiment.fit.compare_report import calibrated, what_went_wrong
from simmig.experiment.fit.compare_vm import Figure, VmComparison, told_apart


def vm_report(comparison: VmComparison) -> RenderableType:
    """A VM's migrations, predicted and carried out."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("policy")
    for heading in ("downtime: predicted", "measured", "off", "", "total: predicted", "measured", "off", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for row in comparison.rows:
        predicted = row.predicted
        pairs = (row.downtime, predicted.downtime_ns), (row.total_time, predicted.total_time_ns)
        table.add_row(row.policy, *(cell for pair in pairs for cell in _vm_cells(*pair)))
    lines = [
        f"  {row.policy}: no verdict, for {what_went_wrong(run)}."
        for row in comparison.rows
        for run in (row.predicted.result, *(each.result for each in row.measured))
        if not run.good
    ]
    for row in comparison.rows:
        lowest, highest = (format_time(row.predicted.downtimes_ns[each]) for each in (0, -1))
        if lowest != highest:
            where = "by where in its writing the VM is then, a downtime of"
            lines.append(f"  {row.policy}: {where} {lowest} to {highest}.")
    lines += [
        f"  {one} {'has' if kept else 'was NOT predicted to have'} a shorter downtime than {other}, in every run."
        for one, other, kept in told_apart(comparison.rows)
    ]
    runs = [run for row in comparison.rows for run in row.measured]
    if runs and all(run.qemu_downtime_ns is not None for run in runs):
        lines.append("  Downtimes measured are by QEMU's clock, from STOP here to RESUME there.")
    else:
        lines.append("  Downtimes measured are simmig's, until the destination has the last byte.")
    if any(not row.measured for row in comparison.rows):
        lines.append(
            "  One migration was carried out: it takes the VM away. --fresh COMMAND starts another for each."
        )
    return Group(
        calibrated(comparison.model),
        "",
        f"The VM was {comparison.watched.words}.",
        "",
        Padding(table, (0, 2)),
        *lines,
    )


def _vm_cells(figure: Figure | None, predicted_ns: int) -> list[str]:
    if figure is None:
        return [format_time(predicted_ns), "", "", ""]
    verdict = "hit" if figure.hit else "MISS"
    return [
        *(format_time(predicted_ns), format_time(figure.measured_ns)),
        *(f"{100 * figure.off:+.0f} %", verdict),
    ]
