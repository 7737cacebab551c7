"""What a chart tells: steps, and whose lifelines they stand between. Which steps there are, a subject knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from simmig.trace import events as ev

Kind = Literal["routine", "message", "writes", "note", "guest", "fault", "error", "end"]


@dataclass(slots=True)
class Step:
    """One step.

    Attributes:
        t_ns: when it began.
        event: number of the trace's event that it began with.
        kind: what it is.
        text: what happened.
        side: whose step; with an `arrow`, the side that it goes out from.
        arrow: it goes over to the other side, or back and forth.
        lost: it never arrived there.
        phase: the part of the migration that it belongs to.
        tally: what it adds up to when it is only counted.
    """

    t_ns: int
    event: int
    kind: Kind
    text: str
    side: ev.Side
    arrow: Literal["", "over", "both"] = ""
    lost: bool = False
    phase: str = ""
    tally: Counter[str] = field(default_factory=Counter)
    count: int = 1
    bytes: int = 0

    @property
    def ordinary(self) -> bool:
        """Whether it may be told with others in one step."""
        return self.kind in ("message", "writes", "note") and not self.lost


def size_text(size_bytes: int) -> str:
    """A size in words, exact: "768 KiB"."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size_bytes >= unit and size_bytes % unit == 0:
            return f"{size_bytes // unit} {name}"
    return f"{size_bytes} B"


def time_text(t_ns: int) -> str:
    """A time in words, to a thousandth of its unit: "6.807 ms"."""
    for unit, name in ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")):
        if t_ns >= unit:
            return f"{t_ns / unit:.3f} {name}"
    return f"{t_ns} ns"


@dataclass(frozen=True)
class Story:
    """How a subject's traces are told.

    Attributes:
        names: the two sides, as they stand over their lifelines.
        steps: the steps of a trace; those that led up to the event of that number, if any, in full.
        runs: on which side what both are about (a guest, say) runs at first: that lifeline is thick.
        caption: what a thick lifeline means; empty where none is.
    """

    names: tuple[str, str]
    steps: Callable[[Sequence[Any], int | None], list[Step]]
    runs: tuple[bool, bool] = (False, False)
    caption: str = ""
