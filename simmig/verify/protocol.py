"""A protocol of one's own: two sides in `async def`, the events they tell of, and what must hold of these.

The file that `simmig verify FILE.py` takes has a class derived from `Protocol`: see docs/own-protocol.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from simmig.trace.events import Event
from simmig.verify.end import Arrival, End, Lost

__all__ = ["Arrival", "End", "Invariant", "Lost", "Protocol", "Told"]


class Told(Event):
    """Base of a protocol's own events; fields are numbers and texts. `side` and `t_ns` come with `End.tell`."""

    over: ClassVar[bool] = False
    """Whether it goes over to the other side, and so is an arrow in the chart."""

    def words(self) -> str:
        """What a chart says of it: its name and its fields, unless told otherwise."""
        fields = (f"{name} {getattr(self, name)}" for name in self.__struct_fields__[2:])
        return f"{type(self).__name__.lower()} {', '.join(fields)}".strip()


class Invariant:
    """Something that must hold, checked as the trace is made. One object sees one run.

    `name` is what a counterexample is called by, `words` what holds, as a sentence.
    """

    name: ClassVar[str]
    words: ClassVar[str]

    def __init__(self, given: Any) -> None:
        self.given = given

    def check(self, event: Any) -> str:
        """What is wrong with this event, after those before it; empty for nothing."""
        return ""


class Protocol:
    """Two sides. The first dials, the second listens; each returns when it is done, or raises what stopped it.

    `scenario` names what may differ from run to run and its values, the usual one first: a side finds them in
    `end.given`. A side that is done lingers until the other is, so that neither breaks off the other's work.
    """

    sides: ClassVar[tuple[str, str]] = ("dialling", "listening")
    scenario: ClassVar[Mapping[str, Sequence[Any]]] = {}
    invariants: ClassVar[Sequence[type[Invariant]]] = ()

    async def first(self, end: End) -> None:
        """The side that dials."""
        raise NotImplementedError

    async def second(self, end: End) -> None:
        """The side that listens."""
        raise NotImplementedError
