"""``simmig explain`` and ``simmig schema``: what a word means, to a person and to an editor."""

from __future__ import annotations

import json

import click

from simmig.cli.words import Explained


@click.command()
@click.argument("words", metavar="[WORD]...", nargs=-1, type=Explained())
def explain(words: tuple[str, ...]) -> int:
    """Say what a scenario's key, a policy, a figure, a rule or a model is.

    \b
    simmig explain migration.slice
    simmig explain per-round downtime_ns
    simmig explain link                 # every key of a table
    simmig explain                      # all words

    Exit status: 0, or 2 for an unknown word, which is told with those near it.
    """
    from simmig.experiment.reference import find, terminal
    from simmig.experiment.reference.page import overview

    entries = [entry for word in words for entry in find(word)]
    click.echo(terminal(dict.fromkeys(entries)) if words else overview())
    return 0


@click.command()
def schema() -> int:
    """Print a JSON schema of scenario files, for editors.

    \b
    simmig schema > scenario.schema.json

    Editors with Even Better TOML (taplo) take it from a scenario's first lines: #:schema ./scenario.schema.json
    """
    from simmig.experiment.reference import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0
