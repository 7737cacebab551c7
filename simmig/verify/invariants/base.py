"""What an invariant is: a small class over the trace, with a name, the rule it comes from and words for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from simmig.trace import events as ev
from simmig.verify.invariants.ledger import Ledger
from simmig.verify.verdict import Violation

Check = Callable[[Any], None]
Key = type | tuple[type, str]
"""What a check wants to see: a type of events, or work events of one opcode."""


class Invariant:
    """Base of all: shown the events it asks for; notes its first violation when that happens.

    A check must not rely on the order of two sides' events by their times: only what one side did because of the
    other is in order in a trace.
    """

    name: ClassVar[str]
    rule: ClassVar[str]
    words: ClassVar[str]
    """What holds, as a sentence for a table."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.violation: Violation | None = None

    def checks(self) -> Mapping[Key, Check]:
        """Which events to be shown, and to what."""
        raise NotImplementedError

    def applies(self) -> bool:
        """Whether the trace so far carries what this is about; a recording of one side may not."""
        return True

    def conclude(self) -> str:
        """What is wrong if the trace ends here, in words; empty when nothing is."""
        return ""

    def broken(self, event: ev.Event, words: str) -> None:
        """Note that it does not hold, from this event on."""
        if self.violation is None:
            self.violation = Violation(self.name, self.rule, words, event.t_ns, self.ledger.index)
