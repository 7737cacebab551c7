"""Play a case: the same case, the same trace and the same verdict, anywhere."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from simmig.migration import policies
from simmig.migration.policies import Policy
from simmig.migration.policies.own_code import prints_aside
from simmig.trace.events import AnyEvent
from simmig.verify import faults as f
from simmig.verify.asked import Asked
from simmig.verify.case import Case, Choice
from simmig.verify.choices import Choices
from simmig.verify.invariants import Invariants, Violation
from simmig.verify.judge import excuse, judge, unanswered, unasked
from simmig.verify.patience import patience
from simmig.verify.watch import SIDES, Watch
from simmig.verify.wire import CheckedDirection
from simmig.verify.world import World


@dataclass
class Verdict:
    """What became of a case.

    `choices` is the schedule as it was taken, `points` how often there was a choice, `happened` the faults that
    really came about, `broken` what did not hold.
    """

    status: str
    reason: str
    events: list[AnyEvent]
    choices: tuple[Choice, ...]
    points: int
    happened: tuple[f.Fault, ...]
    broken: list[Violation]
    answers: list[tuple[str, int, Any]]
    """What the policy was asked, where, with how many bytes pending, and its answer."""
    occasions: dict[str, int]
    """How often each thing happened to which a fault could have: "source packet", "destination call poll", ..."""

    def digest(self) -> str:
        """SHA-256 of the trace's canonical lines."""
        return hashlib.sha256(msgspec.json.Encoder().encode_lines(self.events)).hexdigest()


_load = functools.cache(policies.load)


def play(case: Case, choices: Choices | None = None, policy: Policy | None = None) -> Verdict:
    """Run a case to its end; `choices` and `policy` replace the case's own schedule and policy.

    Raises PolicyError for a policy that cannot be found, ValueError for a guest that cannot be.
    """
    if choices is None:
        choices = Choices(case.schedule)
    if policy is None:
        policy = _load(case.migration.policy)(**case.migration.policy_parameters)
    watch = Watch(case.faults, choices, case.migration.streams)
    invariants = Invariants()
    watch.readers.append(invariants)
    asked = Asked(policy, watch.events)
    world = World(case.migration, watch, policy)
    world.plan_packets(case.faults)
    answered = patience(lambda: (asked.answering.calls, world.env._now, len(watch.events)), asked.stuck)
    with answered, prints_aside():
        world.run()
    happened = tuple(dict.fromkeys(watch.happened))
    broken = [*unanswered(asked, watch.events), *judge(world, watch.events), *unasked(asked, watch.events)]
    named = {each.invariant for each in broken}
    broken += [
        each for each in invariants.violations if each.invariant not in named and not excuse(each.invariant, world)
    ]
    outcome = world.outcomes.get("source")
    if outcome is not None and outcome.status == "completed":
        outcome = world.outcomes.get("destination")
    return Verdict(
        "unfinished" if outcome is None else outcome.status,
        "" if outcome is None else outcome.reason,
        watch.events,
        tuple(choices.taken),
        choices.points,
        happened,
        broken,
        asked.answers,
        _occasions(world),
    )


def _occasions(world: World) -> dict[str, int]:
    """How often there was a chance for each kind of fault."""
    counts = {f"{side} call {call}": number for (side, call), number in world.watch.called.items()}
    for side, direction in zip(SIDES, world.link.directions, strict=True):
        counts[f"{side} packet"] = cast(CheckedDirection, direction).seen
        counts[f"{side} message"] = world.watch.messages[side]
        counts[f"{side} not-ready"] = world.watch.asked[side]
    counts["event"] = len(world.watch.events)
    return counts
