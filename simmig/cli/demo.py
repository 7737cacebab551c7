"""``simmig demo``: the drain question, answered for one guest and one link."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from simmig.experiment.studies.demo import Comparison


WIDTH = 140


@click.command(short_help="Compare all policies on one guest and one link.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out"),
    show_default=True,
    metavar="DIR",
    help="Where table and pictures go; never over results that are there.",
)
def demo(out: Path) -> int:
    """Migrate an 8 GiB guest over QEMU's published link (26.5 Gbit/s) under every built-in policy.

    Each runs on QEMU's wire as it is, and with the freedoms that the protocol leaves a sender. Leaves a table, a
    trade-off plot and a timeline.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise click.ClickException(
            "the demo draws pictures, and there is no matplotlib: pip install 'simmig[plot]'"
        )
    from simmig.experiment.output import OutputDir
    from simmig.experiment.reports.summary import as_text
    from simmig.experiment.scenario.data import data_dir
    from simmig.experiment.studies.demo import LEGEND, compare, draw, findings, good, runs, table, write_csv

    scenario = data_dir("scenarios") / "quickstart.toml"
    with OutputDir(out) as directory:
        rows = list(_watched(compare(scenario, directory.work / "timeline.png"), len(runs())))
        sentences = "\n".join(findings(rows))
        text = f"{as_text(table(rows), WIDTH)}\n{LEGEND}\n\n{sentences}\n"
        (directory.work / "comparison.txt").write_text(text, encoding="utf-8")
        write_csv(rows, directory.work / "comparison.csv")
        draw(rows, scenario, directory.work / "tradeoff.png")
        directory.keep()
    click.echo(text)
    _tell_next(out)
    return 0 if all(good(row) for row in rows) else 1


def _watched(rows: Iterator[Comparison], count: int) -> Iterator[Comparison]:
    """On a terminal, tell how many runs are done."""
    if not sys.stderr.isatty():
        yield from rows
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(rows, "simulating", total=count, console=Console(stderr=True), transient=True)


def _tell_next(out: Path) -> None:
    """Where things are, and what to type next."""
    for name, what in (
        ("comparison.txt", "the table above; comparison.csv has every figure of every run"),
        ("tradeoff.png", "downtime against total time, one point a policy"),
        ("timeline.png", "one of the migrations over time"),
    ):
        click.echo(f"  {out / name}: {what}")
    program = "simmig" if shutil.which("simmig") else shlex.quote(str(_from_here(Path(sys.argv[0]))))
    click.echo("\nNext, ask a question of your own, of the same scenario or of a copy that you edit:")
    click.echo(
        f"  {program} run quickstart --policy pending-limit,limit='16 MiB' --out {shlex.quote(str(out / 'mine'))}"
    )
    click.echo(f"  {program} init quickstart")


def _from_here(path: Path) -> Path:
    """The path as somebody in this directory would type it."""
    here = Path.cwd()
    return path.absolute().relative_to(here) if path.absolute().is_relative_to(here) else path
