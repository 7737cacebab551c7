"""A message-sequence chart of a trace in text: two lifelines, arrows between them, and what broke.

A lifeline is thick while what both sides are about runs there. Time goes down, in the order of the trace.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from simmig.verify.story import Step, Story, time_text

WIDTH = 100
_TIME = 12
_MARKS = {"guest": "*", "fault": "!", "error": "!", "end": "#"}


class Finding(Protocol):
    """A violation: `simmig.verify.invariants.Violation`, or what tells as much."""

    @property
    def invariant(self) -> str:
        """The name of what does not hold."""

    @property
    def rule(self) -> str:
        """Where it comes from."""

    @property
    def words(self) -> str:
        """What happened."""

    @property
    def t_ns(self) -> int:
        """When."""

    @property
    def event(self) -> int:
        """Number of the event in the trace."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a chart: a step of the trace, or (None) the violation, and on which sides it runs from then on."""

    step: Step | None
    runs: tuple[bool, bool]


def rows(story: Story, events: Sequence[Any], violation: Finding | None = None) -> list[Row]:
    """The chart's rows; the violation's follows what broke it. How many there are is how long the story is."""
    steps = story.steps(events, None if violation is None else violation.event)
    runs = list(story.runs)
    found: list[Row] = []
    marked = violation is None
    for step in steps:
        if not marked and violation is not None and step.event > violation.event:
            found.append(Row(None, (runs[0], runs[1])))
            marked = True
        if step.kind == "guest":
            runs[step.side == "destination"] = step.text == "guest resumes"
        elif step.kind == "fault" and step.text == "its host is dead":
            runs[step.side == "destination"] = False
        found.append(Row(step, (runs[0], runs[1])))
    if not marked:
        found.append(Row(None, (runs[0], runs[1])))
    return found


def title(violation: Finding) -> str:
    """A violation in a line."""
    rule = f" ({violation.rule})" if violation.rule else ""
    return f"BROKEN {violation.invariant}{rule}: {violation.words}"


def chart(story: Story, events: Sequence[Any], violation: Finding | None = None, *, width: int = WIDTH) -> str:
    """The trace as text, `width` columns wide, ending in a newline."""
    inner = max(width, 60) - _TIME - 2
    left, right = story.names
    lines = [" " * _TIME + left + " " * (inner + 2 - len(left) - len(right)) + right]
    for row in rows(story, events, violation):
        left, right = ("┃" if runs else "│" for runs in row.runs)
        if row.step is None:
            assert violation is not None
            lines += _boxed(title(violation), violation.t_ns, inner)
            continue
        when = time_text(row.step.t_ns)
        for index, text in enumerate(_draw(row.step, inner)):
            lines.append(f"{when if not index else '':>{_TIME - 1}} {left}{text}{right}")
    return "\n".join(lines) + "\n"


def _boxed(text: str, t_ns: int, inner: int) -> list[str]:
    wrapped = textwrap.wrap(text, inner - 2)
    margin = " " * (_TIME - 1)
    return [
        f"{margin} ╔{'═' * inner}╗",
        *(
            f"{time_text(t_ns) if not index else '':>{_TIME - 1}} ║ {line:<{inner - 2}} ║"
            for index, line in enumerate(wrapped)
        ),
        f"{margin} ╚{'═' * inner}╝",
    ]


def _draw(step: Step, inner: int) -> list[str]:
    """What stands between the lifelines."""
    if step.arrow:
        return _arrow(step, inner)
    mark = f"{_MARKS[step.kind]} " if step.kind in _MARKS else ""
    text = f"FAULT {step.text}" if step.kind == "fault" else step.text
    wrapped = textwrap.wrap(mark + text, inner - 2, subsequent_indent="  ") or [""]
    if step.side == "source":
        return [f" {line:<{inner - 2}} " for line in wrapped]
    return [f" {line:>{inner - 2}} " for line in wrapped]


def _arrow(step: Step, inner: int) -> list[str]:
    """An arrow with its text upon it; the text of a long one above it."""
    line = "┄" if step.kind == "routine" else "━" if step.kind == "writes" else "─"
    room = inner - 8
    above = textwrap.wrap(step.text, room)
    label = f" {above.pop()} "
    shaft = label.center(inner - 2, line)
    if step.arrow == "both":
        drawn = f"◀{shaft}▶"
    elif step.lost:
        drawn = f"{line}{shaft}✗" if step.side == "source" else f"✗{shaft}{line}"
    else:
        drawn = f"{line}{shaft}▶" if step.side == "source" else f"◀{shaft}{line}"
    return [*(text.center(inner) for text in above), drawn]
