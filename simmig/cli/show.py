"""What commands that migrate have in common: their options, a line of progress, and how a result is shown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simmig.cli.words import PolicyText, Setting, Shipped

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simmig.experiment.result import Result
    from simmig.experiment.scenario.schema import Scenario

_SCENARIO = (
    click.argument("scenario", type=Shipped()),
    click.option(
        "--policy",
        type=PolicyText(),
        metavar="NAME[,KEY=VALUE]...",
        help="Drain policy; replaces the scenario's.",
    ),
    click.option(
        "--set",
        "settings",
        type=Setting(),
        metavar="TABLE.KEY=VALUE",
        multiple=True,
        help="Replace a value of the scenario, e.g. guest.memory='4 GiB'; may be given again.",
    ),
    click.option("--seed", type=int, help="Replace the scenario's seed."),
)
_OUTPUT = (
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Write summary, figures, trace, Perfetto timeline and plot there; never over another run's.",
    ),
    click.option(
        "--json", "as_json", is_flag=True, help="Print the figures as one JSON object instead of a summary."
    ),
)


def scenario_options(function: Callable[..., int]) -> Callable[..., int]:
    """SCENARIO, and what replaces parts of it."""
    return _apply(_SCENARIO, function)


def optional_scenario_options(function: Callable[..., int]) -> Callable[..., int]:
    """The same, for a command that can do without."""
    optional = click.argument("scenario", type=Shipped(), required=False)
    return _apply((optional, *_SCENARIO[1:]), function)


def settings_options(function: Callable[..., int]) -> Callable[..., int]:
    """What replaces parts of a scenario, but for its policy."""
    return _apply(_SCENARIO[2:], function)


def output_options(function: Callable[..., int]) -> Callable[..., int]:
    """Where results go."""
    return _apply(_OUTPUT, function)


def _apply(options: tuple[Any, ...], function: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(options):
        function = option(function)
    return function


def require_qemu() -> None:
    """Raise InputError where the extra that speaks to a QEMU is missing."""
    from importlib.util import find_spec

    from simmig.experiment.errors import InputError

    if find_spec("qemu") is None:
        raise InputError("--qemu needs qemu.qmp, which is optional: pip install 'simmig[qemu]'")


def show_result(result: Result, scenario: Scenario, out: Path | None, as_json: bool) -> int:
    """Print it, and where its files are; returns the exit status."""
    if as_json:
        from simmig.experiment.reports.report import json_document

        click.echo(json_document(result.figures()), nl=False)
    else:
        _print_summary(result, scenario, out)
    return 0 if result.good else 1


def print_shown(shown: RenderableType, width: int | None = None, whole_lines: bool = False) -> None:
    """Print what rich can draw: in colours on a terminal, elsewhere as plain text of `width` columns.

    With `whole_lines` what is wider than the terminal stays on its line: a command that is to be pasted.
    """
    from rich.console import Console

    from simmig.experiment.reports.summary import WIDTH, as_text, wide_enough

    if sys.stdout.isatty():
        console = Console(highlight=False, soft_wrap=whole_lines)
        console.width = wide_enough(shown, console.width)
        console.print(shown)
    else:
        click.echo(as_text(shown, width or WIDTH), nl=False)


def _print_summary(result: Result, scenario: Scenario, out: Path | None) -> None:
    from simmig.experiment.reports.report import can_plot
    from simmig.experiment.reports.summary import summary

    print_shown(summary(result, scenario))
    if out is not None:
        picture = "timeline.png to look at" if can_plot() else "no timeline.png without pip install 'simmig[plot]'"
        click.echo(f"\n  Results are in {out}: {picture}, timeline.json to open in ui.perfetto.dev.")


@contextmanager
def status_line(first: str) -> Iterator[Callable[[str], None]]:
    """What tells how far it is: on a terminal by a line that it replaces, elsewhere by a line now and then."""
    from simmig.cli.progress import LogLine

    if not sys.stderr.isatty():
        yield LogLine()
        return
    from rich.console import Console

    with Console(stderr=True).status(first) as status:
        yield status.update


@contextmanager
def counter(first: str) -> Iterator[Callable[[str, int, int | None], None]]:
    """What tells how many of how many are done: by a bar on a terminal, elsewhere by a line now and then."""
    if not sys.stderr.isatty():
        from simmig.cli.progress import Counted, LogLine

        yield Counted(LogLine())
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True)
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(first, total=None)
        yield lambda what, done, of: progress.update(task, description=what, completed=done, total=of)
