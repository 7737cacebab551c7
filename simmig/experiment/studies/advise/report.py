"""Advice as a person reads it, as JSON, and as a picture."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from simmig.experiment.amounts import format_bytes, format_time
from simmig.experiment.scenario.data import spelled
from simmig.experiment.studies.advise.confidence import seeds_for
from simmig.experiment.studies.advise.search import Advice, Choice
from simmig.experiment.studies.advise.space import NEVER_WAITS
from simmig.experiment.studies.advise.trial import PIN_ALL

_SHARES = (0.9, 0.99)


def _pasted(choice: Choice, scenario: Path, settings: Sequence[str]) -> Text:
    """The command on a line of its own, however long."""
    return Text(f"  {command(choice, scenario, settings)}", no_wrap=True, overflow="ignore")


def command(choice: Choice, scenario: Path, settings: Sequence[str]) -> str:
    """The command line that runs a choice."""
    given = [*settings, *(f"migration.{key}={value}" for key, value in choice.candidate.settings)]
    words = ["simmig", "run", spelled(scenario), "--policy", choice.candidate.policy_text]
    words += [word for setting in given for word in ("--set", setting)]
    return shlex.join(words)


def figures(advice: Advice, scenario: Path, settings: Sequence[str]) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    return {
        "downtime_asked_ns": advice.downtime_ns,
        "winner": None if advice.winner is None else _figures(advice.winner),
        "command": None if advice.winner is None else command(advice.winner, scenario, settings),
        "confidence": advice.confidence,
        "kept_share_at_least": advice.kept_share if advice.winner is not None else None,
        "depends_on_seed": not advice.certain,
        "seeds": advice.seeds,
        "finalists": advice.finalists,
        "tested": advice.tested,
        "nearest": None if advice.nearest is None else _figures(advice.nearest),
        "front": [_figures(choice) for choice in advice.front],
        "tried": advice.tried,
        "completed": advice.completed,
        "trials": advice.effort.trials,
        "search_seeds": 1 if advice.certain else advice.effort.search_seeds,
        "ties": [_figures(choice) for choice in advice.ties],
        "pace": None if advice.pace is None else advice.pace.figures(),
        "pinned": None if advice.pinned is None else figures(advice.pinned, scenario, _pinned(settings)),
    }


def _pinned(settings: Sequence[str]) -> list[str]:
    return [*settings, f"{PIN_ALL}=true"]


def _figures(choice: Choice) -> dict[str, Any]:
    return {
        "policy": choice.candidate.policy,
        "parameters": dict(choice.candidate.parameters),
        "migration": dict(choice.candidate.settings),
        "total_time_ns": choice.outcome.total_time_ns,
        "downtime_ns": choice.outcome.downtime_ns,
    }


def report(advice: Advice, scenario: Path, settings: Sequence[str]) -> RenderableType:
    """What to run, how sure that is, and what else there was."""
    parts: list[RenderableType] = []
    asked = format_time(advice.downtime_ns)
    if advice.winner is not None:
        outcome = advice.winner.outcome
        parts += [
            f"[bold]{_name(advice.winner)}[/] keeps {asked}: downtime {format_time(outcome.downtime_ns)} at most, "
            f"total time {format_time(outcome.total_time_ns)}",
            *_sureness(advice),
            *_tied(advice),
            "",
            _pasted(advice.winner, scenario, settings),
        ]
    elif advice.nearest is not None:
        outcome = advice.nearest.outcome
        unfinished = "" if outcome.completed else ", but it did not complete with every seed"
        parts += [
            f"[bold red]{_none(advice)}[/]; the nearest is {_name(advice.nearest)}: downtime "
            f"{format_time(outcome.downtime_ns)}, total time {format_time(outcome.total_time_ns)}{unfinished}",
            "",
            _pasted(advice.nearest, scenario, settings),
        ]
    elif advice.tried:
        parts.append(f"[bold red]none of {advice.tried} completes[/]")
    else:
        parts.append(f"[bold red]nothing keeps {asked}[/]: not even {NEVER_WAITS} converges, which never waits")
    if advice.winner is None:
        if advice.pace is not None and not advice.completed:
            parts += [Text(line, no_wrap=True, overflow="ignore") for line in advice.pace.told()]
        parts += _with_all_pinned(advice, scenario, settings)
    if advice.front:
        counts = f"{advice.tried} tried and {advice.completed} completed"
        parts += ["", f"The front of the search, of {counts}:", _table(advice)]
    if advice.tried and advice.effort.reduced:
        parts += ["", _fewer(advice)]
    return Group(*parts)


def _with_all_pinned(advice: Advice, scenario: Path, settings: Sequence[str]) -> list[RenderableType]:
    """Whether it helps to pin all memory at the start."""
    pinned, setting = advice.pinned, f"{PIN_ALL}=true"
    if pinned is None:
        return []
    if pinned.winner is not None:
        outcome = pinned.winner.outcome
        return [
            "",
            f"[bold]With {setting} {_name(pinned.winner)} keeps it[/]: downtime "
            f"{format_time(outcome.downtime_ns)} at most, total time {format_time(outcome.total_time_ns)}",
            *_sureness(pinned),
            "",
            _pasted(pinned.winner, scenario, _pinned(settings)),
        ]
    if pinned.nearest is not None:
        came = f"the nearest, {_name(pinned.nearest)}, has {format_time(pinned.nearest.outcome.downtime_ns)}"
    elif pinned.pace is not None:
        came = f"rounds stop to shrink there as well, at {format_bytes(pinned.pace.left_bytes)}"
    else:
        came = "none completes"
    return ["", f"{setting} does not help: {came}."]


def _tied(advice: Advice) -> list[str]:
    """Who is as short, as far as repeats can tell."""
    if not advice.ties:
        return []
    names = ", ".join(_name(choice) for choice in advice.ties)
    return [f"In the search as short within 1 % or what repeats differ by: {names}."]


def _fewer(advice: Advice) -> str:
    """What a big guest left room for."""
    much = advice.effort
    seeds = (
        "" if advice.certain else f" with {much.search_seeds} seeds each, and {much.seeds} fresh ones for the best"
    )
    return (
        f"This guest takes long to simulate. For an answer in about a minute it was at most {much.trials} trials"
        f"{seeds}; --trials and --seeds take more."
    )


def _none(advice: Advice) -> str:
    """That nothing keeps the downtime, and how that is known."""
    asked = format_time(advice.downtime_ns)
    if not advice.tested:
        return f"none of {advice.tried} keeps {asked}"
    return f"none of the {advice.tested} tested kept {asked} with all of {advice.seeds} seeds"


def _sureness(advice: Advice) -> list[str]:
    if advice.certain:
        return ["Nothing in the scenario depends on the seed, so that one run says all that the model can."]
    more = ", ".join(
        f"{seeds_for(share, advice.confidence, advice.finalists)} for {share:.0%}" for share in _SHARES
    )
    test = "the first of the search's best" if advice.tested == 1 else f"the {advice.tested}. of the search's best"
    return [
        f"It did with all of {advice.seeds} seeds that the search had not seen ({test} put to that test): with "
        f"{advice.confidence:.0%} confidence",
        f"at least {advice.kept_share:.1%} of all seeds keep it (Clopper-Pearson, one-sided). "
        f"Seeds needed: {more}.",
    ]


def _name(choice: Choice) -> str:
    """A candidate in words."""
    return " ".join([choice.candidate.policy, *(f"{key} {value}" for key, value in choice.candidate.parameters)])


def _table(advice: Advice) -> Padding:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("total", "downtime", ""):
        table.add_column(heading, justify="right")
    table.add_column("policy")
    table.add_column("migration")
    for choice in advice.front:
        keeps = "keeps it" if choice.outcome.downtime_ns <= advice.downtime_ns else ""
        table.add_row(
            format_time(choice.outcome.total_time_ns),
            format_time(choice.outcome.downtime_ns),
            keeps,
            _name(choice),
            ", ".join(f"{key} {value}" for key, value in choice.candidate.settings),
        )
    return Padding(table, (0, 0, 0, 2))


def draw(advice: Advice, path: Path) -> None:
    """The front as a picture."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # optional

    figure = Figure(figsize=(7, 4.4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    x = [choice.outcome.total_time_ns / 1e9 for choice in advice.front]
    y = [choice.outcome.downtime_ns / 1e6 for choice in advice.front]
    axes.step(x, y, where="post", color="#0072B2", lw=1)
    axes.plot(x, y, "o", color="#0072B2", label="no other has less of both")
    axes.axhline(advice.downtime_ns / 1e6, color="#444444", ls="--", lw=1, label="downtime asked for")
    if advice.searched is not None:
        outcome = advice.searched.outcome
        place = (outcome.total_time_ns / 1e9, outcome.downtime_ns / 1e6)
        axes.plot(*place, "*", color="#D55E00", ms=14, label=f"advised: {_name(advice.searched)}")
    axes.set_ylim(0, 1.15 * max(*y, advice.downtime_ns / 1e6))
    axes.set_xlabel("mean total time (s)")
    axes.set_ylabel("longest downtime of the search's seeds (ms)")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside upper left", frameon=False, fontsize=8, ncols=2)
    figure.savefig(path, metadata={"Software": None})
