"""Entries as a person reads them: on a terminal, and as the page docs/reference.md."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from simmig.experiment.reference.catalogue import Entry, Kind, catalogue

_TITLES: dict[Kind, str] = {
    "key": "Keys of a scenario",
    "policy": "Policies",
    "figure": "Figures",
    "column": "Further columns of a sweep's Parquet",
    "rule": "What must hold of every migration",
    "model": "Models that come with simmig",
    "topic": "Formats and terms",
}
_INTRODUCTIONS: dict[Kind, str] = {
    "key": (
        "`--set KEY=VALUE` replaces any. `destination_host` has the keys of `host`, where the ends differ. "
        "Where nothing is said of the compiled engine, it knows the key."
    ),
    "policy": "`--policy NAME[,PARAMETER=VALUE]...`, or the table `[policy]`. From waiting least to waiting most.",
    "figure": (
        "In `--json` of a run and, by the same names, in a sweep's Parquet (whose parts of the downtime are "
        "`downtime_parts.drain_ns` and so on)."
    ),
    "column": "Beside them, and every input by its dotted key with the base unit: [sweeps.md](sweeps.md).",
    "rule": "[verify.md](verify.md) says how it is checked.",
    "model": "`simmig calibrate` makes others.",
    "topic": "",
}
_WIDTH = 100
_LATER = {"bounds": 1, "kinds": 2, "QEMU": 3, "on devices": 4, "compiled engine": 5, "when": 1}
"""Columns that come after others, which stay in the order in which entries have them."""


def terminal(entries: Iterable[Entry]) -> str:
    """Entries in plain text, a blank line between them."""
    return "\n\n".join("\n".join(_lines(entry)) for entry in entries)


def overview() -> str:
    """All words, kind by kind."""
    lines = []
    for kind, title in _TITLES.items():
        names = ", ".join(entry.name for entry in catalogue() if entry.kind == kind)
        lines += [f"{title}:", *textwrap.wrap(names, _WIDTH - 2, initial_indent="  ", subsequent_indent="  ")]
    return "\n".join(lines)


def _lines(entry: Entry) -> Iterator[str]:
    yield f"{entry.name} ({entry.kind})"
    if entry.kind == "topic":
        yield textwrap.indent(entry.text, "  ")
        return
    yield from textwrap.wrap(entry.text, _WIDTH - 2, initial_indent="  ", subsequent_indent="  ")
    width = max((len(name) for name, _ in entry.facts), default=0)
    for name, fact in entry.facts:
        indent = " " * (width + 4)
        yield from textwrap.wrap(
            f"  {name:<{width}}  {fact}", _WIDTH, subsequent_indent=indent, drop_whitespace=True
        )


def page() -> str:
    """docs/reference.md, whole."""
    lines = [
        "# Reference",
        "",
        "Every key, policy, figure and rule. `simmig explain WORD` says the same at the terminal, `simmig schema`",
        "gives a JSON schema of scenarios to an editor. `python docs/reference.py` makes this page.",
    ]
    for kind, title in _TITLES.items():
        lines += ["", f"## {title}", ""]
        lines += [_INTRODUCTIONS[kind], ""] if _INTRODUCTIONS[kind] else []
        lines += _table(kind, [entry for entry in catalogue() if entry.kind == kind])
    return "\n".join([*lines, ""])


def _table(kind: Kind, entries: list[Entry]) -> Iterator[str]:
    if kind == "topic":
        for number, entry in enumerate(entries):
            yield from ([""] if number else [])
            yield from (f"### {entry.name}: {dict(entry.facts)['about']}", "", entry.text)
        return
    if kind == "key":  # a table for each of a scenario's
        tables = list(dict.fromkeys(each.name.rpartition(".")[0] for each in entries))
        for number, table in enumerate(tables):
            own = [each for each in entries if each.name.rpartition(".")[0] == table]
            yield from ([""] if number else [])
            yield from (f"### {f'[{table}]' if table else 'Outside of all tables'}", "", *_rows(own))
        return
    yield from _rows(entries, joined=kind == "model")


def _rows(entries: list[Entry], joined: bool = False) -> Iterator[str]:
    """A table with a column for each fact that one of them has, or with all of them in one."""
    told = [_gathered(entry) for entry in entries]
    names = dict.fromkeys(name for facts in told for name in facts)
    heads = ["facts"] if joined else sorted(names, key=lambda name: _LATER.get(name, 0))
    yield f"| {' | '.join(['name', 'meaning', *heads])} |"
    yield f"|{' --- |' * (2 + len(heads))}"
    for entry, facts in zip(entries, told, strict=True):
        cells = [facts.get(head, "") for head in heads]
        if joined:
            cells = ["; ".join(f"{name}: {fact}" for name, fact in facts.items())]
        yield f"| {' | '.join(_cell(text) for text in (f'`{entry.name}`', entry.text, *cells))} |"


def _gathered(entry: Entry) -> dict[str, str]:
    """Its facts, with those of all parameters in one."""
    facts: dict[str, str] = {}
    for name, fact in entry.facts:
        word, _, parameter = name.partition(" ")
        if word == "parameter":
            facts["parameters"] = "; ".join(filter(None, (facts.get("parameters"), f"`{parameter}`: {fact}")))
        else:
            facts[name] = fact
    return facts


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
