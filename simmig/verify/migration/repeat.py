"""Whether a policy answers the same in the same migration: what a seed or a replay file says rests on it."""

from __future__ import annotations

from itertools import zip_longest

from simmig.migration import policies
from simmig.verify.migration.play import Played


def is_ones_own(policy: str) -> bool:
    """Whether it is a policy that simmig does not know."""
    return policy not in policies.builtin()


def differing(first: Played, second: Played) -> str:
    """Of two runs of a case, each with a new policy, the first pair of answers that differs, in words.

    Empty when the runs are the same.
    """
    for number, (one, other) in enumerate(zip_longest(first.answers, second.answers), 1):
        if one != other:
            return (
                f"runs under this policy do not repeat: played twice, each time with a new one, to question "
                f"{number} {_told(one)} the first time, {_told(other)} the second"
            )
    if first.digest() != second.digest():
        return (
            "runs under this policy do not repeat: played twice, they differ, and not in what the policy answered"
        )
    return ""


def _told(asked: tuple[str, int, object] | None) -> str:
    if asked is None:
        return "(not asked)"
    point, pending_bytes, answer = asked
    return f"({point}, {pending_bytes} bytes pending) it answers {answer!r}"
