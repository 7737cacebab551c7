"""Several runs of one question side by side: other scenarios, policies or settings against the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.padding import Padding
from rich.table import Table

from simmig.experiment.amounts import format_bytes, format_rate, format_time
from simmig.experiment.errors import InputError
from simmig.experiment.result import Result
from simmig.experiment.scenario.data import find
from simmig.experiment.scenario.load import Overrides, load_scenario
from simmig.experiment.scenario.schema import Scenario
from simmig.migration import policies

MOST_RUNS = 10
"""More than that are no picture any more, but a sweep."""


@dataclass(frozen=True)
class Side:
    """One of the runs: what it is called, and what is simulated."""

    name: str
    scenario: Scenario


@dataclass(frozen=True)
class Ran:
    """One that has been simulated."""

    side: Side
    result: Result


def sides(path: Path, overrides: Overrides, against: Sequence[str]) -> list[Side]:
    """The scenario as it is and, each in its turn, what is put in its place. Raises InputError.

    Each of `against` is another scenario (a file, or a shipped one's name), a policy ("NAME[,key=value]...") or
    settings of the same scenario ("table.key=value", several of them with semicolons between).
    """
    if len(against) >= MOST_RUNS:
        raise InputError(
            f"--against: {len(against)} runs to compare with are a sweep; write one (simmig init quick)"
        )
    first = load_scenario(path, overrides)
    return [Side(path.stem, first), *(_side(path, overrides, each) for each in against)]


def _side(path: Path, overrides: Overrides, what: str) -> Side:
    key, equals, _ = what.partition("=")
    if equals and "," not in key and ".py:" not in key:
        settings = [part.strip() for part in what.split(";") if part.strip()]
        changed = Overrides([*overrides.settings, *settings], overrides.policy, overrides.seed)
        return Side(what, load_scenario(path, changed))
    name = what.partition(",")[0]
    if name in policies.known() or ".py:" in name:
        return Side(what, load_scenario(path, Overrides(overrides.settings, what, overrides.seed)))
    try:
        other = find(Path(what))
    except InputError as error:
        raise InputError(
            f"--against {what}: no policy, no table.key=value, and as a scenario: {'; '.join(error.problems)}"
        ) from None
    return Side(other.stem, load_scenario(other, overrides))


def carry_out(
    asked: Sequence[Side], simulate: Callable[[Scenario], Result], tell: Callable[[str], None]
) -> list[Ran]:
    """Simulate them, one after the other."""
    ran = []
    for number, side in enumerate(asked, 1):
        tell(f"simulating {number} of {len(asked)}: {side.name}")
        ran.append(Ran(side, simulate(side.scenario)))
    return ran


def document(ran: Sequence[Ran]) -> dict[str, Any]:
    """The object that ``--json`` prints: each run's figures under what it is called."""
    return {"runs": [{"name": each.side.name} | each.result.figures() for each in ran]}


def table(ran: Sequence[Ran]) -> Padding:
    """A row a run."""
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    shown.add_column(
        "run", overflow="fold", min_width=min(24, max(len(each.side.name) for each in ran)), max_width=36
    )
    for heading in ("total", "downtime", "limit", "RAM sent", "on the wire", "throughput", "rounds"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("")
    for each in ran:
        metrics, result = each.result.metrics, each.result
        downtime_ns = result.figures()["downtime_ns"]
        limit_ns = each.side.scenario.migration.downtime_limit_ns
        shown.add_row(
            each.side.name,
            format_time(metrics.total_time_ns),
            "none" if downtime_ns is None else format_time(downtime_ns),
            format_time(limit_ns),
            format_bytes(metrics.counts.posted_bytes),
            format_bytes(metrics.bytes_on_wire),
            format_rate(metrics.throughput_bit_s),
            str(len(metrics.rounds)),
            _remark(result, downtime_ns, limit_ns),
        )
    return Padding(shown, (0, 0, 0, 2))


def _remark(result: Result, downtime_ns: int | None, limit_ns: int) -> str:
    broken = [name for name, holds in result.invariants.items() if not holds]
    if broken:
        return f"BROKEN: {', '.join(broken)}"
    if downtime_ns is None:
        flat = result.flat_since_round
        return result.status + (f", no smaller rounds from {flat} on" if flat is not None else "")
    return "exceeds its limit" if downtime_ns > limit_ns else ""
