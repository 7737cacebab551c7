"""Every fault and every schedule within a bound, and the proof that none was left out.

A schedule is the list of points at which the world did not take the usual option. Runs begin with the usual
schedule; each run tells all its points, and every option at every point behind its last deviation is a run of its
own, until there are as many deviations as the bound allows: a depth-first search by re-running with prefixes,
complete when nothing is left to run. Two schedules after which each side saw the same events in the same order and
which offer the same points are one interleaving: what comes behind the second is not run again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import product
from typing import Any, Literal

import msgspec

from simmig.verify import faults as f
from simmig.verify.choices import (
    ACK_DELAYS_NS,
    COMPLETION_DELAYS_NS,
    NOTIFY_DELAYS_NS,
    PREEMPTIONS_NS,
    Choice,
    Logged,
)
from simmig.verify.environment import MOST_SIMULTANEOUS
from simmig.verify.explore import Tally
from simmig.verify.subject import Subject
from simmig.verify.watch import SIDES

BOUND = (
    "one fault anywhere with the usual schedule, and without a fault every schedule with up to {deviations}. "
    f"Of simultaneous events one of the first {MOST_SIMULTANEOUS} comes next; a delay is one of those listed in "
    f"docs/verify.md ({len(PREEMPTIONS_NS) - 1} of a task, {len(COMPLETION_DELAYS_NS) - 1} of a completion, "
    f"{len(NOTIFY_DELAYS_NS) - 1} of an event, {len(ACK_DELAYS_NS) - 1} of an acknowledgement). Pruned: behind a "
    "schedule after which each side saw the same events in the same order, whenever, and the same choices were "
    "open, as after one before, nothing is run again"
)
"""What `tasks` does to a subject's roots, in words."""

_LATE_NS = 50_000
_PACKETS: tuple[Literal["drop", "delay", "duplicate", "reorder"], ...] = ("drop", "delay", "duplicate", "reorder")
_PIECE = 40


def tasks(subject: Subject, deviations: int, deadline: float | None = None) -> Iterator[tuple[Any, ...]]:
    """The bound cut into pieces of work (see `explore.spread`), the same whatever the number of processes."""
    for root in subject.roots():
        yield (search, subject, root, 0, deadline)
        planned = list(faults(subject, root))
        for start in range(0, len(planned), _PIECE):
            yield (each, subject, root, planned[start : start + _PIECE], deadline)
        if deviations:
            for choice in first_choices(subject, root):
                deviant = msgspec.structs.replace(root, schedule=(choice,))
                yield (search, subject, deviant, deviations - 1, deadline)


def faults(subject: Subject, root: Any) -> Iterator[f.Fault]:
    """Every fault at every place where the usual run of that case has one for it."""
    occasions = subject.play(root).occasions
    for side in SIDES:
        for number, what in product(range(occasions[f"{side} packet"]), _PACKETS):
            yield f.Packet(side, number, what, 0 if what == "drop" else _LATE_NS)
        for call, codes in f.VERBS_CALLS.items():
            for number, code in product(range(occasions.get(f"{side} call {call}", 0)), codes):
                yield f.Call(side, call, number, code)
        for number in range(occasions[f"{side} not-ready"]):
            yield f.NotReady(side, number)
    yield from subject.more_faults(occasions)
    for event in range(occasions["event"]):
        for side in SIDES:
            yield from (f.Dies(side, event), f.Hangs(side, event), f.Disconnect(side, event))
            if subject.can_cancel:
                yield f.Cancel(side, event)
        yield from (f.LinkDown(event), f.LinkDown(event, 1_000_000))


def first_choices(subject: Subject, root: Any) -> list[Choice]:
    """Every single deviation from the usual run."""
    logged = Logged()
    subject.play(root, logged)
    return [Choice(kind, number, option) for kind, number, options in logged.log for option in range(1, options)]


def each(subject: Subject, root: Any, planned: list[f.Fault], deadline: float | None = None) -> Tally:
    """The usual schedule with each of these faults."""
    tally = Tally()
    for fault in planned:
        case = msgspec.structs.replace(root, faults=(fault,))
        tally.count(None, case, subject.play(case))
        if tally.over(deadline):
            break
    return tally


def search(subject: Subject, root: Any, deviations: int, deadline: float | None = None) -> Tally:
    """A case's schedule and all that deviate from it behind its last choice, up to that many times more."""
    tally = Tally()
    seen: set[bytes] = set()
    frontier = [(root, deviations)]
    while frontier:
        case, left = frontier.pop()
        logged = Logged(case.schedule)
        verdict = subject.play(case, logged)
        tally.count(None, case, verdict)
        if tally.over(deadline):
            break
        if not left:
            continue
        key = _interleaving(verdict.events, logged)
        if key in seen:
            tally.pruned += 1
            continue
        seen.add(key)
        for kind, number, options in _behind(case.schedule, logged):
            for option in range(1, options):
                deeper = (*case.schedule, Choice(kind, number, option))
                frontier.append((msgspec.structs.replace(case, schedule=deeper), left - 1))
    return tally


def _behind(schedule: tuple[Choice, ...], logged: Logged) -> list[tuple[str, int, int]]:
    """The points behind the last deviation."""
    if not schedule:
        return logged.log
    last = schedule[-1]
    for index, (kind, number, _) in enumerate(logged.log):
        if (kind, number) == (last.kind, last.number):
            return logged.log[index + 1 :]
    return []


def _interleaving(events: list[Any], logged: Logged) -> bytes:
    """What tells interleavings apart: each side's events in order, without their times, and the points."""
    encode = msgspec.json.Encoder().encode_lines
    digest = hashlib.sha256()
    for side in SIDES:
        mine = [msgspec.structs.replace(event, t_ns=0) for event in events if event.side == side]
        digest.update(encode(mine))
    digest.update(msgspec.json.encode(logged.log))
    return digest.digest()
