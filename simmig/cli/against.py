"""``simmig run A --against B``: one table and one picture of several simulated runs."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from simmig.cli.show import print_shown, status_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simmig.experiment.output import OutputDir
    from simmig.experiment.scenario.load import Overrides
    from simmig.experiment.studies.against import Ran


def run_against(
    scenario: Path, overrides: Overrides, against: Sequence[str], out: Path | None, as_json: bool
) -> int:
    """Carry them out and show them; exit status 1 when one did not complete or broke an invariant."""
    from simmig.cli.engine import prepare
    from simmig.experiment.output import OutputDir
    from simmig.experiment.reports.report import json_document
    from simmig.experiment.studies.against import carry_out, document, sides, table

    asked = sides(scenario, overrides, against)
    with OutputDir(out) if out is not None else nullcontext() as directory:
        with status_line("simulating") as show:
            ran = carry_out(asked, lambda each: prepare(each, False, show)(each, (), None), show)
        if directory is not None:
            _write(directory, ran)
    if as_json:
        click.echo(json_document(document(ran)), nl=False)
    else:
        print_shown(table(ran), 160)
    if out is not None and not as_json:
        click.echo(
            f"\n  Results are in {out}: comparison.txt, comparison.json and, with matplotlib, comparison.png."
        )
    return 0 if all(each.result.good for each in ran) else 1


def _write(directory: OutputDir, ran: Sequence[Ran]) -> None:
    from simmig.experiment.reports.report import can_plot, json_document
    from simmig.experiment.reports.summary import as_text
    from simmig.experiment.studies.against import document, table

    (directory.work / "comparison.txt").write_text(as_text(table(ran), 160), encoding="utf-8")
    (directory.work / "comparison.json").write_bytes(json_document(document(ran)))
    if can_plot():
        from simmig.experiment.reports.plots.against import figure
        from simmig.experiment.reports.plots.style import save

        save(figure([(each.side.name, each.result) for each in ran]), directory.work / "comparison.png")
    directory.keep()
