"""What a migration under check shares beside what any run does: hostile messages, and pages touched meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from simmig.trace.events import Side
from simmig.verify import faults as f
from simmig.verify.choices import Choices
from simmig.verify.migration.hostile import illegal
from simmig.verify.watch import Watch


class MigrationWatch(Watch):
    """Knows of the control messages which are to be altered, and which must not be taken then."""

    def __init__(self, plan: Sequence[f.Fault], choices: Choices, streams: bool) -> None:
        super().__init__(plan, choices, streams)
        self.touch: Callable[[Any, int, bool], None] = lambda segment, offset, clear: None
        self.messages: dict[Side, int] = {"source": 0, "destination": 0}
        self.blocks: Sequence[tuple[int, int]] = ()
        """The destination's RAM blocks in the source's order: offset and length in bytes."""
        self.illegal: dict[Side, str] = {}
        """Who sent a control message that the other side must not take, and why not."""
        self._hostile = [fault for fault in plan if isinstance(fault, f.Hostile)]
        self._of_kind: dict[tuple[Side, int], int] = {}

    def hostile(self, side: Side, kind: int) -> f.Hostile | None:
        """What is to become of the side's next control message, which has that type."""
        number = self.messages[side]
        self.messages[side] = number + 1
        of_kind = self._of_kind.get((side, kind), 0)
        self._of_kind[side, kind] = of_kind + 1
        for fault in self._hostile:
            if (fault.side, fault.number) == (side, number if fault.kind is None else of_kind) and fault.kind in (
                None,
                kind,
            ):
                self.happened.append(fault)
                return fault
        return None

    def said(self, side: Side, meant: bytes, sent: bytes) -> None:
        """A control message of the side's went out altered."""
        reason = illegal(meant, sent, self.blocks)
        if reason:
            self.illegal.setdefault(side, reason)
