"""Play a case: the same case, the same trace and the same verdict, anywhere."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from simmig.migration import policies
from simmig.migration.policies import Policy
from simmig.own_code import RAISED, prints_aside, told
from simmig.verify.choices import Choices
from simmig.verify.invariants import Invariants
from simmig.verify.migration.asked import Asked
from simmig.verify.migration.case import Case, Small
from simmig.verify.migration.judge import excuse, judge, unanswered, unasked
from simmig.verify.migration.watch import MigrationWatch
from simmig.verify.migration.world import MigrationWorld
from simmig.verify.patience import patience
from simmig.verify.verdict import Verdict


@dataclass
class Played(Verdict):
    """What became of a migration."""

    answers: list[tuple[str, int, Any]]
    """What the policy was asked, where, with how many bytes pending, and its answer."""


_load = functools.cache(policies.load)


def play(case: Case, choices: Choices | None = None, policy: Policy | None = None) -> Played:
    """Run a case to its end; `choices` and `policy` replace the case's own schedule and policy.

    Raises PolicyError for a policy that is not there, ValueError for one or a guest that cannot be made.
    """
    if choices is None:
        choices = Choices(case.schedule)
    if policy is None:
        policy = _made(case.migration)
    watch = MigrationWatch(case.faults, choices, case.migration.streams)
    invariants = Invariants()
    watch.readers.append(invariants)
    asked = Asked(policy, watch.events)
    world = MigrationWorld(case.migration, watch, policy)
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
    return Played(
        "unfinished" if outcome is None else outcome.status,
        "" if outcome is None else outcome.reason,
        watch.events,
        tuple(choices.taken),
        choices.points,
        happened,
        broken,
        world.occasions(),
        asked.answers,
    )


def _made(small: Small) -> Policy:
    chosen = _load(small.policy)
    try:
        return chosen(**small.policy_parameters)
    except RAISED as error:
        raise ValueError(f"policy {small.policy} cannot be made: {told(error)}") from error
