"""``simmig init``: what comes with simmig to be copied and edited."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from simmig.cli.words import StarterName


@click.command(short_help="List what comes with simmig, or copy some of it to edit.")
@click.argument("name", type=StarterName(), required=False)
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), required=False)
def init(name: str | None, directory: Path | None) -> int:
    """Copy the scenario, model, policy, protocol or project NAME into DIR, or here; without NAME, list them all.

    A scenario can be run by its name as well, without a copy. Nothing is ever overwritten.

    \b
    simmig init
    simmig init quickstart
    simmig init roce-100g my-nic
    simmig init my_policy
    simmig init ring_rpc
    simmig init my-policy
    """
    from simmig.experiment.scenario.starters import copy, starters

    if name is None:
        from rich.table import Table

        from simmig.experiment.reports.summary import as_text

        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for each in starters().values():
            table.add_row(each.kind, each.name, each.purpose)
        click.echo(as_text(table, 120), nl=False)
        click.echo("\nsimmig init NAME copies one here; simmig run NAME runs a scenario without a copy.")
        return 0
    starter, path = copy(name, directory or Path())
    click.echo(f"{path}: a {starter.kind} to edit. Then:\n\n  {shlex.join(starter.next_command(path))}")
    return 0
