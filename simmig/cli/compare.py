"""``simmig compare``: a migration predicted by simulation, and carried out on the devices it was predicted for."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from simmig.cli.calibrate import device_option, devices_of
from simmig.cli.show import output_options, scenario_options, status_line
from simmig.experiment.errors import InputError

if TYPE_CHECKING:
    from simmig.experiment.compare import Comparison
    from simmig.experiment.output import OutputDir


@click.command(short_help="Predict a migration, carry it out on RDMA devices, show both.")
@scenario_options
@device_option
@click.option("--repeats", type=click.IntRange(1, 100), default=1, show_default=True, help="Real migrations.")
@output_options
def compare(
    scenario: Path,
    policy: str | None,
    settings: tuple[str, ...],
    seed: int | None,
    names: tuple[str, ...],
    repeats: int,
    out: Path | None,
    as_json: bool,
) -> int:
    """Measure two RDMA devices of this host, simulate SCENARIO with that, carry it out, and show both.

    The scenario's own link, hosts and device are put aside. A prediction hits when the total time is within 5 %
    and the downtime within 15 % or 20 ms of the median measured. Exit status 0 when both hit.

    \b
    simmig lab --rate '100 Mbit/s' --delay '2 ms' -- simmig compare scenarios/lab-small.toml --out out/compared
    """
    from simmig.experiment import compare as comparing
    from simmig.experiment.load import Overrides, load_scenario
    from simmig.experiment.output import OutputDir
    from simmig.experiment.pair import PeerFailed
    from simmig.verbs.rdma.errors import RdmaUnavailable

    loaded = load_scenario(scenario, Overrides(settings, policy, seed))
    devices = devices_of(names)
    with OutputDir(out) if out is not None else nullcontext() as directory:
        try:
            with status_line("starting") as show:
                comparison = comparing.compare(loaded, devices, repeats, show or (lambda _: None))
        except RdmaUnavailable as error:
            raise InputError(str(error)) from None
        except (PeerFailed, OSError) as error:
            click.echo(f"simmig: {error}", err=True)
            return 1
        if directory is not None:
            _write(directory, comparison)
    _show(comparison, out, as_json)
    return 0 if comparison.good else 1


def _write(directory: OutputDir, comparison: Comparison) -> None:
    from simmig.experiment.compare_report import report
    from simmig.experiment.model_file import write_model
    from simmig.experiment.report import can_plot, json_document
    from simmig.experiment.summary import as_text, headline

    (directory.work / "comparison.txt").write_text(as_text(report(comparison)), encoding="utf-8")
    (directory.work / "comparison.json").write_bytes(json_document(comparison.document()))
    write_model(comparison.model, directory.work / "model.toml")
    if can_plot():
        from simmig.experiment.plots.compare import plot_compare

        measured = comparison.typical()
        title = headline(measured, comparison.scenario).plain
        plot_compare(comparison.predicted.metrics, measured.metrics, title, directory.work / "comparison.png")
    directory.keep()


def _show(comparison: Comparison, out: Path | None, as_json: bool) -> None:
    from rich.console import Console

    from simmig.experiment.compare_report import report
    from simmig.experiment.report import json_document
    from simmig.experiment.summary import as_text

    if as_json:
        click.echo(json_document(comparison.document()), nl=False)
        return
    if sys.stdout.isatty():
        Console(highlight=False).print(report(comparison))
    else:
        click.echo(as_text(report(comparison)), nl=False)
    if out is not None:
        click.echo(f"\n  Results are in {out}: comparison.txt, .json and .png, and the model as model.toml.")
