"""The migration as a subject: what the explorers need to know of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import msgspec

from simmig.verify import faults as f
from simmig.verify.choices import Choices, Drawn
from simmig.verify.invariants import CATALOGUE
from simmig.verify.migration.case import Case, Small
from simmig.verify.migration.generate import generate
from simmig.verify.migration.judge import RULES
from simmig.verify.migration.play import Played, play
from simmig.verify.migration.repeat import differing, is_ones_own
from simmig.verify.migration.steps import STORY
from simmig.verify.verdict import Verdict
from simmig.verify.watch import SIDES

_TWICE = 4
"""Of a policy of one's own every fourth seed is played a second time."""
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
_USUAL = Small()
_SMALLER_PAGES = ((1,), (2,), (256,), (257,), (512,), (300, 100))


@dataclass(frozen=True)
class Migrations:
    """The shipped protocol, under the policy (name, parameters), or under those that seeds choose."""

    policy: tuple[str, dict[str, Any]] | None = None

    kind = "migration"
    command = ""
    story = STORY
    case_type = Case
    can_cancel = True
    must_repeat = (
        "A policy keeps no state outside of itself and draws no unseeded chance: else nothing can be replayed."
    )
    bound = "2 chunks (the first in two runs), 2 rounds, 2 queue slots, both registration modes"

    @property
    def invariants(self) -> Mapping[str, str]:
        """Those of the trace, and what is outside of it."""
        return {kind.name: kind.words for kind in CATALOGUE} | RULES

    def generate(self, seed: int) -> tuple[Case, Drawn]:
        """The case of a seed, and who draws its schedule."""
        return generate(seed, self.policy)

    def play(self, case: Case, choices: Choices | None = None) -> Played:
        """See `play.play`."""
        return play(case, choices)

    def differing(self, seed: int, verdict: Verdict) -> str:
        """Of a policy of one's own, some seeds are played twice."""
        if self.policy is None or seed % _TWICE or not is_ones_own(self.policy[0]):
            return ""
        assert isinstance(verdict, Played)
        return differing(verdict, play(*generate(seed, self.policy)))

    def roots(self) -> list[Case]:
        """The migrations of the bound: one for each registration mode."""
        named = {} if self.policy is None else {"policy": self.policy[0], "policy_parameters": self.policy[1]}
        return [Case(msgspec.structs.replace(_SMALL, pin_all=pin_all, **named)) for pin_all in (False, True)]

    def more_faults(self, occasions: Mapping[str, int]) -> Iterator[f.Fault]:
        """Control messages that are not what they should be."""
        for side in SIDES:
            for number in range(occasions[f"{side} message"]):
                for offset, value in product(range(0, 40, 4), _HOSTILE_WORDS):
                    yield f.Hostile(side, number, offset, value)
                for length_bytes in _HOSTILE_LENGTHS:
                    yield f.Hostile(side, number, length_bytes=length_bytes)

    def plainer(self, case: Case) -> Iterator[Case]:
        """With one more of the migration's figures as usual, or a smaller guest."""
        small = case.migration
        for name in small.__struct_fields__:
            usual: Any = getattr(_USUAL, name)
            # Never back to the usual number of pages: the smaller ones were played before, and would not be again.
            if name not in {"policy_parameters", "pages"} and getattr(small, name) != usual:
                changes = {name: usual} | ({"policy_parameters": {}} if name == "policy" else {})
                yield msgspec.structs.replace(case, migration=msgspec.structs.replace(small, **changes))
        for pages in _SMALLER_PAGES:
            if sum(pages) < sum(small.pages):
                yield msgspec.structs.replace(case, migration=msgspec.structs.replace(small, pages=pages))

    def told(self, case: Case) -> str:
        """What of a migration is not as usual."""
        small = case.migration
        return ", ".join(
            f"{name} {getattr(small, name)}"
            for name in small.__struct_fields__
            if getattr(small, name) != getattr(_USUAL, name)
        )


MIGRATION = Migrations()
