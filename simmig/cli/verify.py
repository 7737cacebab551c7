"""``simmig verify``: try to break the protocol, or state exactly what has been checked."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simmig.cli.show import status_line
from simmig.cli.words import PolicyText
from simmig.experiment.errors import InputError

if TYPE_CHECKING:
    from simmig.verify.explore import Tally, Unfinished
    from simmig.verify.own import Own
    from simmig.verify.subject import Subject

DEFAULT_BUDGET_S = 60.0
DEFAULT_OUT = Path("counterexamples")
_SEED_LIMIT = 1 << 32
_FOR_EVER = 1 << 62


@click.command(short_help="Try to break the protocol under faults and odd schedules.")
@click.argument("protocol", required=False, metavar="[FILE.py[:NAME]]")
@click.option("--seeds", type=click.IntRange(1), metavar="N", help="Check that many random cases.")
@click.option("--seed", type=click.IntRange(0), metavar="FIRST", help="The first seed. Default: a fresh one.")
@click.option("--exhaustive", is_flag=True, help="Check every fault and every schedule within the bound.")
@click.option(
    "--deviations",
    type=click.IntRange(0, 3),
    default=1,
    show_default=True,
    help="With --exhaustive: how often a schedule may differ from the usual one.",
)
@click.option(
    "--policy",
    type=PolicyText(),
    metavar="NAME[,KEY=VALUE]...",
    help="Check this drain policy, or path/to/file.py:Name.",
)
@click.option(
    "--devices",
    metavar="NAME,NAME",
    help="Run a protocol of your own once, unharmed, on these two RDMA devices, instead of exploring it.",
)
@click.option("--replay", type=click.Path(path_type=Path), metavar="FILE", help="Play a counterexample again.")
@click.option("--jobs", type=click.IntRange(1), help="Processes. Default: one a core.")
@click.option("--budget", metavar="TIME", help='Stop after that time, e.g. "60 s".')
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=DEFAULT_OUT,
    show_default=True,
    metavar="DIR",
    help="Where a counterexample is written, beside those that are there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def verify(
    protocol: str | None,
    seeds: int | None,
    seed: int | None,
    exhaustive: bool,
    deviations: int,
    policy: str | None,
    devices: str | None,
    replay: Path | None,
    jobs: int | None,
    budget: str | None,
    out: Path,
    as_json: bool,
) -> int:
    """Run the protocol, as it ships, under faults and schedules, and hold every run to the invariants.

    With FILE.py a protocol of your own in its place: the first one in it, or NAME. `simmig init ring_rpc` copies
    one to start from, with a mistake in it to be found (ring_rpc.py:EagerCredit).

    Without options: a minute of fresh seeds. A failure is shrunk, drawn as a chart, and written to DIR as a
    replay file and a picture.

    \b
    simmig verify --seeds 1000
    simmig verify --exhaustive
    simmig verify --policy my_policy.py:MyPolicy
    simmig verify ring_rpc.py --seeds 500
    simmig verify ring_rpc.py --devices rxe0,rxe1
    simmig verify --replay counterexamples/one_side_runs-1a2b3c4d.json
    """
    if replay is not None:
        if seeds is not None or seed is not None or exhaustive or policy or protocol or devices:
            raise click.UsageError("--replay stands alone: the file says what to play.")
        return _replay(replay, as_json)
    if protocol is not None and policy is not None:
        raise click.UsageError("--policy is the migration's: a protocol of your own has none.")
    if devices is not None:
        if protocol is None or seeds is not None or seed is not None or exhaustive:
            raise click.UsageError("--devices runs a protocol of your own once: name its FILE.py, and no seeds.")
        return _on_devices(protocol, devices, as_json)
    if exhaustive and (seeds is not None or seed is not None):
        raise click.UsageError("--exhaustive checks all within its bound: --seeds and --seed go without it.")
    from simmig.experiment.output import require_place

    require_place(out, "--out")
    cores = jobs or os.cpu_count() or 1
    deadline = _deadline(budget, seeds is None and not exhaustive)
    from simmig.verify.explore import Unfinished

    first = secrets.randbelow(_SEED_LIMIT) if seed is None else seed
    try:
        subject = _subject(protocol, policy)
        if exhaustive:
            return _exhaustive(subject, deviations, cores, deadline, out, as_json)
        return _seeds(subject, first, seeds, policy, cores, deadline, out, as_json)
    except Unfinished as unfinished:
        return _tell_unfinished(unfinished, policy, as_json)


def _seeds(
    subject: Subject,
    first: int,
    seeds: int | None,
    policy: str | None,
    jobs: int,
    deadline: float | None,
    out: Path,
    as_json: bool,
) -> int:
    from simmig.verify.explore import by_seed

    wanted = range(first, first + (_FOR_EVER if seeds is None else seeds))
    if not as_json:
        click.echo(f"seeds from {first}")
    began = time.monotonic()
    with _progress(seeds) as progress:
        tally = by_seed(subject, wanted, jobs, deadline, progress)
    head = {"explorer": "seeds", "first_seed": first, "seeds": tally.cases}
    checked = f"seeds {first} to {first + tally.cases - 1}" if tally.cases else "no seed"
    text = f"{checked} in {time.monotonic() - began:.1f} s"
    return _tell(subject, tally, head, text, out, as_json, deadline, policy)


def _exhaustive(
    subject: Subject,
    deviations: int,
    jobs: int,
    deadline: float | None,
    out: Path,
    as_json: bool,
) -> int:
    from simmig.verify.exhaustive import BOUND, tasks
    from simmig.verify.explore import spread

    allowed = f"{deviations} deviation{'s' if deviations != 1 else ''}"
    bound = f"{subject.bound}; {BOUND.format(deviations=allowed)}"
    began = time.monotonic()
    work = tasks(subject, deviations, deadline)
    with _progress(None) as progress:
        tally = spread(work, jobs, deadline, progress)
    complete = not tally.found and not tally.cut and next(work, None) is None
    head = {"explorer": "exhaustive", "bound": bound, "complete": complete, "pruned": tally.pruned}
    took = f"{time.monotonic() - began:.1f} s"
    if complete:
        text = f"complete in {took}, nothing left to run within the bound: {bound} ({tally.pruned} schedules)"
    else:
        text = f"NOT complete after {took}; the bound: {bound} ({tally.pruned} schedules)"
    return _tell(subject, tally, head, text, out, as_json, deadline)


def _replay(path: Path, as_json: bool) -> int:
    """Exit status 1 when the case still breaks something, or does not do what the file says."""
    import simmig
    from simmig.verify.replay import ReplayError, read
    from simmig.verify.report import described, reorder

    try:
        replay, subject = read(path, _named)
        verdict = reorder(subject.play(replay.case), replay.broken)
    except (ReplayError, ValueError) as error:
        raise InputError(str(error) if isinstance(error, ReplayError) else f"{path}: {error}") from error
    same = verdict.digest() == replay.trace_sha256
    broken = [each.invariant for each in verdict.broken]
    lines = described(subject, replay.case, verdict)
    if not same:
        lines.append(
            f"NOT reproduced: another trace (written by simmig {replay.simmig}, this is {simmig.__version__})"
        )
    elif replay.broken not in ("", *broken):
        lines.append(f"NOT reproduced: the same trace, and {replay.broken} holds")
    else:
        lines.append("reproduced: the same trace, event for event")
    if as_json:
        document = {"replay": str(path), "same_trace": same, "expected": replay.broken, "broken": broken}
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo("\n".join(lines))
    return 1 if broken or not same else 0


def _named(subject: str) -> Subject:
    """What a replay file calls a subject; the migration needs no name."""
    from simmig.verify.migration.subject import MIGRATION

    return _own(subject) if subject else MIGRATION


def _again(subject: Subject, seed: int, policy: str | None, out: Path) -> list[str]:
    """The command line that checks one seed again, as it was checked."""
    words = ["simmig", "verify", *([subject.command] if subject.command else [])]
    words += ["--seed", str(seed), "--seeds", "1"]
    words += ["--policy", policy] if policy is not None else []
    return words if out == DEFAULT_OUT else [*words, "--out", str(out)]


def _subject(protocol: str | None, policy: str | None) -> Subject:
    """What is to be checked; raises InputError."""
    from simmig.verify.migration.subject import Migrations

    if protocol is None:
        return Migrations(_chosen(policy))
    return _own(protocol)


def _own(protocol: str) -> Own:
    from simmig.verify.own import Own, ProtocolError, load

    try:
        load(protocol)
    except ProtocolError as error:
        raise InputError(str(error)) from error
    return Own(protocol)


def _on_devices(protocol: str, devices: str, as_json: bool) -> int:
    """Exit status 1 when it did not complete, or something did not hold."""
    from simmig.verbs.rdma.errors import RdmaUnavailable
    from simmig.verify.own_devices import play_on_devices
    from simmig.verify.report import described

    own = _own(protocol)
    names = devices.split(",")
    if len(names) != 2:
        raise InputError(f"--devices {devices}: two names with a comma between them, the one that dials first")
    case = own.case_type()
    try:
        verdict = play_on_devices(own, case, (names[0], names[1]))
    except (RdmaUnavailable, OSError) as error:
        raise InputError(f"--devices {devices}: {error}") from error
    broken = [each.invariant for each in verdict.broken]
    if as_json:
        document = {"status": verdict.status, "reason": verdict.reason, "broken": broken}
        click.echo(json.dumps(document | {"events": len(verdict.events)}, indent=2))
    else:
        click.echo("\n".join(described(own, case, verdict)))
        held = ", ".join(kind.name for kind in own.protocol.invariants)
        click.echo(f"on {names[0]} and {names[1]}: {'FAILED' if broken else f'{held}: held'}")
    return 0 if verdict.status == "completed" and not broken else 1


def _tell(
    subject: Subject,
    tally: Tally,
    head: dict[str, Any],
    text: str,
    out: Path,
    as_json: bool,
    deadline: float | None,
    policy: str | None = None,
) -> int:
    """Print what was checked and, if something broke, the counterexample; the exit status."""
    from simmig.verify.report import as_json as as_figures
    from simmig.verify.report import counterexample, coverage

    figures, lines = counterexample(subject, tally.found[0], out, deadline) if tally.found else (None, [])
    if as_json:
        document = (
            head
            | as_figures(subject, tally)
            | {"held": figures is None and tally.cases > 0, "counterexample": figures}
        )
        click.echo(json.dumps(document, indent=2))
    else:
        for line in (*lines, text, *coverage(subject, tally)):
            click.echo(line)
        if tally.found and tally.found[0].seed is not None:
            click.echo(f"again: {shlex.join(_again(subject, tally.found[0].seed, policy, out))}")
        click.echo(
            ("all invariants hold" if tally.cases else "nothing was checked") if figures is None else "FAILED"
        )
    return 0 if figures is None and tally.cases else 1


def _tell_unfinished(unfinished: Unfinished, policy: str | None, as_json: bool) -> int:
    """There is no verdict, and the budget is over."""
    words = unfinished.words + (f", under policy {policy}" if policy else "")
    if as_json:
        click.echo(json.dumps({"held": False, "runs": unfinished.tally.cases, "unfinished": words}, indent=2))
    else:
        click.echo(f"{words}\nFAILED")
    return 1


def _chosen(policy: str | None) -> tuple[str, dict[str, Any]] | None:
    """The policy that the option names, with its parameters; it must be one that can be made."""
    if policy is None:
        return None
    from simmig.experiment.scenario.load import policy_table
    from simmig.experiment.scenario.policy_choice import PolicyChoiceError, make_policy, parameters_of

    table = policy_table(policy, f"--policy {policy}")
    name = table.pop("name")
    try:
        return name, parameters_of(make_policy(name, table))
    except PolicyChoiceError as error:
        raise InputError(f"--policy {policy}: {f'{error.key}: ' if error.key else ''}{error}") from error


def _deadline(budget: str | None, needed: bool) -> float | None:
    if budget is None:
        return time.monotonic() + DEFAULT_BUDGET_S if needed else None
    from simmig.experiment.units import QuantityError, time_ns

    try:
        return time.monotonic() + time_ns(budget) / 1e9
    except QuantityError as error:
        raise InputError(f"--budget: {error}") from error


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[Tally], None]]:
    """Tells how far it is."""
    of = "" if total is None else f" of {total}"
    with status_line("checking") as show:
        yield lambda tally: show(f"{tally.cases}{of} runs, {tally.with_fault} with faults")
