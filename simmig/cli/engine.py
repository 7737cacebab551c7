"""Which engine simulates a run, and what is said of it: compiled code for big guests, if it can."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from simmig.cli.progress import Progress
from simmig.experiment import leap
from simmig.experiment.leap.envelope import outside
from simmig.experiment.runs.memory_need import require_memory
from simmig.experiment.runs.run import MOST_EVENTS, run
from simmig.experiment.scenario.machine import machine_of

if TYPE_CHECKING:
    from simmig.experiment.reports.report import CarryOut
    from simmig.experiment.result import Result
    from simmig.experiment.scenario.schema import Scenario
    from simmig.trace.readers import Reader
    from simmig.trace.recorder import Sink

BIG_IDLE_BYTES, BIG_BUSY_BYTES = 128 << 30, 4 << 30
"""Guests from which on the event model takes longer than compiling: idle ones, and those that write."""
BUSY_BYTES_S = 64 << 20
_GIVE_UP_EARLY = "; --set migration.stop_when_flat=true gives up once rounds have stopped to shrink"


def prepare(scenario: Scenario, whole: bool, show: Callable[[str], None] | None) -> CarryOut:
    """How to simulate it; for a big guest compiles first what is not compiled, and says so on standard error.

    `whole`: with its trace, however long that is. Raises InputError when memory does not suffice.
    """
    if is_big(scenario):
        beyond = outside(scenario)
        if beyond is not None:
            _say(
                f"this runs event by event, for {beyond} is beyond the compiled engine: it may take long"
                + ("" if scenario.migration.stop_when_flat else _GIVE_UP_EARLY)
            )
        elif not leap.has_numba():
            _say("without numba this runs event by event, which may take long: pip install 'simmig[fast]'")
        elif not leap.is_ready():
            require_memory(machine_of(scenario))  # before a minute goes into compiling
            at_once = show if show is not None and sys.stderr.isatty() else _say
            at_once("compiling the fast engine, once for this version of simmig: it takes a minute")
            leap.prepare()
    return functools.partial(_simulate, None if whole else MOST_EVENTS, show or (lambda _: None))


def is_big(scenario: Scenario) -> bool:
    """Whether the event model would take more than a minute or so."""
    busy = getattr(scenario.guest.workload, "rate_bytes_s", 0) >= BUSY_BYTES_S
    return scenario.guest.memory_bytes >= (BIG_BUSY_BYTES if busy else BIG_IDLE_BYTES)


def _simulate(
    most_events: int | None,
    show: Callable[[str], None],
    scenario: Scenario,
    readers: Sequence[Reader],
    sink: Sink | None,
) -> Result:
    progress = Progress(show)
    result = run(scenario, [*readers, progress], sink, most_events=most_events, watch=progress.at)
    if result.engine == "compiled" and result.trace_sha256 is None:
        _say(
            f"no trace was made and no invariant checked, for the trace would have more than "
            f"{MOST_EVENTS // 10**6} million events; --out DIR or --report FILE have both done, which takes longer"
        )
    return result


def _say(text: str) -> None:
    click.echo(f"simmig: {text}", err=True)
