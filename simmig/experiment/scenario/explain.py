"""What pydantic found wrong, in the words of the scenario file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from simmig.experiment.errors import MAX_PROBLEMS, shown
from simmig.experiment.scenario import schema

Key = tuple[str, ...]

_LONGEST = 255
"""A word longer than that resembles none, and it takes long to find that out."""
_LOOKED_AT = 10 * MAX_PROBLEMS

TABLES: dict[Key, type[BaseModel]] = {
    **{("guest", "workload", kind): table for kind, table in schema.WORKLOADS.items()},
    ("guest", "workload", "dirty-rate", "measured"): schema.Measured,
    (): schema.Scenario,
    ("guest",): schema.GuestTable,
    ("guest", "block"): schema.Block,
    ("link",): schema.LinkTable,
    ("host",): schema.HostTable,
    ("destination_host",): schema.HostTable,
    ("device",): schema.DeviceTable,
    ("migration",): schema.Migration,
    ("migration", "change"): schema.ChangedLimits,
}
"""The tables of a scenario by their key; a workload's has its kind as the last part."""


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint: the known word most like `word`, or all of them."""
    near = difflib.get_close_matches(word[:_LONGEST], known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}"


def explain(error: ValidationError) -> Iterator[tuple[Key, str]]:
    """Each problem's key and text. A key that is missing because it was misspelled is told once, as misspelled."""
    found = error.errors(include_url=False)[:_LOOKED_AT]
    meant: set[Key] = set()
    for problem in found:
        if problem["type"] == "extra_forbidden":
            *table, wrong = map(str, problem["loc"])
            near = difflib.get_close_matches(wrong[:_LONGEST], _known(tuple(table)), n=1)
            meant.update((*table, name) for name in near)
    for problem in found:
        loc = tuple(map(str, problem["loc"]))
        if problem["type"] != "missing" or loc not in meant:
            key = (*loc, "kind") if problem["type"].startswith("union_tag") else _without_tag(loc)
            yield key, _text(loc, problem)


def _known(table: Key) -> list[str]:
    """The keys that a table may have."""
    fields = TABLES[tuple(part for part in table if not part.isdigit())].model_fields
    return [field.alias or name for name, field in fields.items()]


def _without_tag(loc: Key) -> Key:
    """pydantic names the kind of workload as if it were a table of its own."""
    return loc[:2] + loc[3:] if loc[:2] == ("guest", "workload") else loc


def _text(loc: Key, problem: ErrorDetails) -> str:
    context, value = problem.get("ctx", {}), problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            kind = f" for kind {shown(loc[2])}" if loc[:2] == ("guest", "workload") else ""
            text = f"unknown key{kind}; {nearest(loc[-1], _known(loc[:-1]))}"
        case "missing":
            text = "missing"
        case "literal_error":
            text = f"{shown(value)} is unknown; {nearest(str(value), _quoted(context['expected']))}"
        case "union_tag_invalid":
            near = nearest(context["tag"], _quoted(context["expected_tags"]))
            text = f"unknown kind {shown(context['tag'])}; {near}"
        case "union_tag_not_found":
            text = f"missing; one of {', '.join(schema.WORKLOADS)}"
        case "model_type" | "model_attributes_type":
            text = f"{shown(value)} is no table with keys of its own"
        case "value_error":
            text = str(context["error"])
        case _:
            text = f"{shown(value)}: {problem['msg'].replace('Input should', 'should')}"
    return text


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)
