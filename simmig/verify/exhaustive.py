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

from simmig.trace.events import AnyEvent
from simmig.verify import faults as f
from simmig.verify.case import Case, Choice, Small
from simmig.verify.choices import (
    ACK_DELAYS_NS,
    COMPLETION_DELAYS_NS,
    NOTIFY_DELAYS_NS,
    PREEMPTIONS_NS,
    Logged,
)
from simmig.verify.environment import MOST_SIMULTANEOUS
from simmig.verify.explore import Tally
from simmig.verify.play import play
from simmig.verify.watch import SIDES

BOUND = (
    "2 chunks (the first in two runs), 2 rounds, 2 queue slots, both registration modes; "
    "one fault anywhere with the usual schedule, and without a fault every schedule with up to {deviations}. "
    f"Of simultaneous events one of the first {MOST_SIMULTANEOUS} comes next; a delay is one of those listed in "
    f"docs/verify.md ({len(PREEMPTIONS_NS) - 1} of a task, {len(COMPLETION_DELAYS_NS) - 1} of a completion, "
    f"{len(NOTIFY_DELAYS_NS) - 1} of an event, {len(ACK_DELAYS_NS) - 1} of an acknowledgement). Pruned: behind a "
    "schedule after which each side saw the same events in the same order, whenever, and the same choices were "
    "open, as after one before, nothing is run again"
)
"""What `tasks` covers, in words."""

_SMALL = Small(
    pages=(258,),
    ballooned_pages=252,
    ballooned_from=2,
    workload="sweep",
    working_set_pages=2,
    rate_bytes_s=20 << 20,
    max_rounds=3,
    downtime_limit_ns=10_000,
    send_queue_depth=2,
    bandwidth_bit_s=1_000_000_000,
)
_HOSTILE_WORDS = (0, 1, 0xFFFFFFFF)
_HOSTILE_LENGTHS = (0, 15, 524_289)
_LATE_NS = 50_000
_PACKETS: tuple[Literal["drop", "delay", "duplicate", "reorder"], ...] = ("drop", "delay", "duplicate", "reorder")
_PIECE = 40


def migrations(policy: tuple[str, dict[str, Any]] | None = None) -> list[Small]:
    """The migrations of the bound: one for each registration mode."""
    named = {} if policy is None else {"policy": policy[0], "policy_parameters": policy[1]}
    return [msgspec.structs.replace(_SMALL, pin_all=pin_all, **named) for pin_all in (False, True)]


def tasks(
    policy: tuple[str, dict[str, Any]] | None, deviations: int, deadline: float | None = None
) -> Iterator[tuple[Any, ...]]:
    """The bound cut into pieces of work (see `explore.spread`), the same whatever the number of processes."""
    for small in migrations(policy):
        yield (search, Case(small), 0, deadline)
        planned = list(faults(small))
        for start in range(0, len(planned), _PIECE):
            yield (each, small, planned[start : start + _PIECE], deadline)
        if deviations:
            for choice in first_choices(small):
                yield (search, Case(small, (), (choice,)), deviations - 1, deadline)


def faults(small: Small) -> Iterator[f.Fault]:
    """Every fault at every place where the usual run of that migration has one for it."""
    occasions = play(Case(small)).occasions
    for side in SIDES:
        for number, what in product(range(occasions[f"{side} packet"]), _PACKETS):
            yield f.Packet(side, number, what, 0 if what == "drop" else _LATE_NS)
        for call, codes in f.VERBS_CALLS.items():
            for number, code in product(range(occasions.get(f"{side} call {call}", 0)), codes):
                yield f.Call(side, call, number, code)
        for number in range(occasions[f"{side} not-ready"]):
            yield f.NotReady(side, number)
        for number in range(occasions[f"{side} message"]):
            for offset, value in product(range(0, 40, 4), _HOSTILE_WORDS):
                yield f.Hostile(side, number, offset, value)
            for length_bytes in _HOSTILE_LENGTHS:
                yield f.Hostile(side, number, length_bytes=length_bytes)
    for event in range(occasions["event"]):
        for side in SIDES:
            yield from (
                f.Dies(side, event),
                f.Hangs(side, event),
                f.Disconnect(side, event),
                f.Cancel(side, event),
            )
        yield from (f.LinkDown(event), f.LinkDown(event, 1_000_000))


def first_choices(small: Small) -> list[Choice]:
    """Every single deviation from the usual run."""
    logged = Logged()
    play(Case(small), logged)
    return [Choice(kind, number, option) for kind, number, options in logged.log for option in range(1, options)]


def each(small: Small, planned: list[f.Fault], deadline: float | None = None) -> Tally:
    """The usual schedule with each of these faults."""
    tally = Tally()
    for fault in planned:
        case = Case(small, (fault,))
        tally.count(None, case, play(case))
        if tally.over(deadline):
            break
    return tally


def search(root: Case, deviations: int, deadline: float | None = None) -> Tally:
    """A case's schedule and all that deviate from it behind its last choice, up to that many times more."""
    tally = Tally()
    seen: set[bytes] = set()
    frontier = [(root, deviations)]
    while frontier:
        case, left = frontier.pop()
        logged = Logged(case.schedule)
        verdict = play(case, logged)
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


def _interleaving(events: list[AnyEvent], logged: Logged) -> bytes:
    """What tells interleavings apart: each side's events in order, without their times, and the points."""
    encode = msgspec.json.Encoder().encode_lines
    digest = hashlib.sha256()
    for side in SIDES:
        mine = [msgspec.structs.replace(event, t_ns=0) for event in events if event.side == side]
        digest.update(encode(mine))
    digest.update(msgspec.json.encode(logged.log))
    return digest.digest()
