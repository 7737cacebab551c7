"""``simmig advise``: which policy, with which parameters, for this guest on this link."""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from simmig.cli.show import counter, print_shown
from simmig.cli.words import PolicyText, Setting, Shipped
from simmig.experiment.errors import InputError

if TYPE_CHECKING:
    from simmig.experiment.studies.advise.search import Advice


@click.command(short_help="Find the policy with the shortest migration that keeps a downtime.")
@click.argument("scenario", type=Shipped())
@click.option("--downtime", required=True, metavar="TIME", help="What to keep, e.g. '50 ms'.")
@click.option(
    "--set", "settings", type=Setting(), metavar="TABLE.KEY=VALUE", multiple=True, help="Replace a value."
)
@click.option(
    "--policies",
    type=PolicyText(several=True),
    metavar="NAME[,NAME]...",
    help="Only these; default: all built-in ones.",
)
@click.option("--freedoms", is_flag=True, help="Use what the wire leaves a sender free to do, too.")
@click.option(
    "--trials",
    type=click.IntRange(1, 100_000),
    help="How many to try.  [default: 64; of a big guest what about a minute allows]",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 10_000),
    help="To test the best with.  [default: 20; of a big guest what about a minute allows]",
)
@click.option(
    "--confidence", type=click.FloatRange(0.5, 0.999999), default=0.95, show_default=True, help="To say how sure."
)
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Processes; default: one a core.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Leave report and picture there.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as one JSON object.")
def advise(
    scenario: Path,
    downtime: str,
    settings: tuple[str, ...],
    policies: str | None,
    freedoms: bool,
    trials: int | None,
    seeds: int | None,
    confidence: float,
    jobs: int | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Search policies and their parameters for the shortest migration of SCENARIO that keeps a downtime.

    The migration's own downtime limit is searched as well, up to the downtime asked for. The best found are tested
    with seeds that the search has not seen. The same answer on any machine. Where nothing keeps it, the reason is
    told, and whether it helps to pin all memory.

    \b
    simmig advise quickstart --downtime '50 ms'
    simmig advise quickstart --downtime '20 ms' --freedoms --seeds 59 --out out/advice

    Exit status: 0 when a policy keeps it, 1 when none does, 2 bad input.
    """
    if importlib.util.find_spec("optuna") is None:
        raise click.ClickException("the search is Optuna's: pip install 'simmig[advise]'")
    from simmig.cli.engine import prepare
    from simmig.experiment.output import OutputDir
    from simmig.experiment.reports.report import json_document
    from simmig.experiment.scenario.toml_file import read_toml
    from simmig.experiment.studies.advise.report import figures, report
    from simmig.experiment.studies.advise.search import search
    from simmig.experiment.studies.advise.space import Space, chosen_policies, free
    from simmig.experiment.studies.advise.trial import Question, giving_up
    from simmig.experiment.studies.sweep.pool import cores, processes

    left_free = free(settings)
    space = Space(chosen_policies(policies), _downtime_ns(downtime), left_free if freedoms else ())
    question = Question(read_toml(scenario), scenario, settings)
    with (
        OutputDir(out) if out is not None else nullcontext() as directory,
        processes(jobs or cores(), threads=True) as workers,
        counter("searching") as tell,
    ):
        prepare(giving_up(question.scenario(None)), False, None)
        advice = search(question, space, workers, trials, seeds, confidence, tell)
        if directory is not None:
            _write(advice, directory.work, scenario, settings)
            directory.keep()
    if as_json:
        click.echo(json_document(figures(advice, scenario, settings)), nl=False)
    else:
        print_shown(report(advice, scenario, settings), 160, whole_lines=True)
    return 0 if advice.winner is not None else 1


def _downtime_ns(text: str) -> int:
    from simmig.experiment import units

    try:
        downtime_ns = units.time_ns(text)
    except units.QuantityError as error:
        raise InputError(f"--downtime: {error}") from None
    if not 10_000 <= downtime_ns <= 2 * 10**12:
        raise InputError(f'--downtime: "{text}" is out of bounds: from 10 us to 2000 s')
    return downtime_ns


def _write(advice: Advice, directory: Path, scenario: Path, settings: tuple[str, ...]) -> None:
    from simmig.experiment.reports.report import can_plot, json_document
    from simmig.experiment.reports.summary import as_text
    from simmig.experiment.studies.advise.report import draw, figures, report

    (directory / "advice.txt").write_text(as_text(report(advice, scenario, settings), 160), encoding="utf-8")
    (directory / "advice.json").write_bytes(json_document(figures(advice, scenario, settings)))
    if can_plot() and advice.front:
        draw(advice, directory / "front.png")
