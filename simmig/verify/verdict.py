"""What became of one run: its trace, what it was free to do and did, and what did not hold."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from simmig.verify import faults as f
from simmig.verify.choices import Choice


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold, and where.

    Attributes:
        invariant: its name.
        rule: where it comes from: R1 to R45 for a queue pair's rules, or what the subject names.
        words: what happened, for a person.
        t_ns: when, in the trace's time.
        event: the event's number in the trace, from 0.
    """

    invariant: str
    rule: str
    words: str
    t_ns: int
    event: int


@dataclass
class Verdict:
    """What became of a case.

    Attributes:
        status: completed, failed, cancelled, or what else the subject calls its end.
        reason: why, when it is not completed.
        events: the trace.
        choices: the schedule as it was taken.
        points: how often there was a choice.
        happened: the faults that really came about.
        broken: what did not hold.
        occasions: how often a fault could have struck, by what it would have struck at ("source packet",
            "destination call poll" and so on).
    """

    status: str
    reason: str
    events: list[Any]
    choices: tuple[Choice, ...]
    points: int
    happened: tuple[f.Fault, ...]
    broken: list[Violation]
    occasions: dict[str, int]

    def digest(self) -> str:
        """SHA-256 of the trace's canonical lines."""
        return hashlib.sha256(msgspec.json.Encoder().encode_lines(self.events)).hexdigest()
