"""Every word that `simmig explain` knows, from where it is defined: schema, policies, figures, invariants."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from simmig.experiment.amounts import format_bytes, format_time
from simmig.experiment.errors import InputError, cut
from simmig.experiment.reference.keys import Key, keys
from simmig.experiment.scenario import schema
from simmig.experiment.scenario.data import models
from simmig.experiment.scenario.load import MODELS
from simmig.experiment.scenario.toml_file import read_toml
from simmig.migration import policies
from simmig.verify.invariants import CATALOGUE
from simmig.verify.migration.judge import RULES

Kind = Literal["key", "policy", "figure", "column", "rule", "model", "topic"]
_LONGEST = 100
_MOST_SAID = 8
"""More of them are no hint any more."""


@dataclass(frozen=True)
class Entry:
    """A word and what is to be said of it: `text` in a sentence or more, `facts` as name and value."""

    kind: Kind
    name: str
    text: str
    facts: tuple[tuple[str, str], ...] = ()


@functools.cache
def words() -> dict[str, Any]:
    """What code and schema do not say of themselves (`words.toml`)."""
    return tomllib.loads(resources.files(__package__).joinpath("words.toml").read_text(encoding="utf-8"))


@functools.cache
def catalogue() -> tuple[Entry, ...]:
    """All entries, kind by kind."""
    return (*_keys(), *_policies(), *_figures(), *_rules(), *_models(), *_topics())


def find(word: str) -> list[Entry]:
    """The entries of a word: its whole name, else a last part (`slice`), a table (`link`), a kind (`policies`).

    Raises InputError, with what is near, for a word that is none.
    """
    entries = catalogue()
    word = word.replace("destination_host", "host")
    ways = (
        [each for each in entries if each.name == word],
        [each for each in entries if each.name.rpartition(".")[2] == word],
        [each for each in entries if f".{word}." in f".{each.name}"],
        [each for each in entries if word in (each.kind, f"{each.kind}s", "policies" * (each.kind == "policy"))],
        [each for each in entries if f"parameter {word.removeprefix('policy.')}" in dict(each.facts)],
    )
    for found in ways if word else ():
        if found:
            return found
    known = {each.name for each in entries} | {each.name.rpartition(".")[2] for each in entries}
    near = difflib.get_close_matches(word[:_LONGEST], sorted(known), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`simmig explain` lists all words"
    if said := _saying(word):
        hint = f"it is said of {', '.join(said)}; {hint}"
    raise InputError(f"explain: {cut(word)!r} is no key, policy, figure or rule; {hint}")


def _saying(word: str) -> list[str]:
    """The first entries in whose names and texts a word stands."""
    pattern = re.compile(rf"\b{re.escape(word[:_LONGEST])}\b", re.IGNORECASE)
    entries = (each for each in catalogue() if word and pattern.search(f"{each.name} {each.text} {each.facts}"))
    return list(dict.fromkeys(each.name for each in entries))[:_MOST_SAID]


def _keys() -> Iterator[Entry]:
    said = words()["key"]
    for key in keys():
        about = said.get(key.name, {})
        yield Entry("key", key.name, about.get("meaning", ""), tuple(_facts(key, about)))


def _facts(key: Key, about: dict[str, str]) -> Iterator[tuple[str, str]]:
    yield "value", _value(key)
    yield "default", key.default or ("required" if key.required else "none")
    low, high = key.bounds
    if low or high:
        most = f"below {high}" if key.exclusive else high
        yield "bounds", f"{low or 'any'} to {most}" if high else f"at least {low}"
    if kinds := _workloads(key.name):
        yield "kinds", kinds
    yield "QEMU", about.get("qemu", "has no such setting")
    if "compiled" in about:
        yield "compiled engine", about["compiled"]
    if "devices" in about:
        yield "on devices", about["devices"]


def _workloads(name: str) -> str:
    """Which kinds of workload have that key; empty for one that is no workload's, or that all have."""
    table, _, attribute = name.rpartition(".")
    if table != "guest.workload":
        return ""
    fields = {
        kind: {field.alias or each: field for each, field in model.model_fields.items()}
        for kind, model in schema.WORKLOADS.items()
    }
    having = {kind: own[attribute].is_required() for kind, own in fields.items() if attribute in own}
    if len(having) == len(fields):
        return ""
    needed = ", ".join(kind for kind, required in having.items() if required)
    free = ", ".join(kind for kind, required in having.items() if not required)
    return "; ".join(filter(None, (needed and f"needed by {needed}", free and f"may be given to {free}")))


def _value(key: Key) -> str:
    listed = ", ".join(f'"{word}"' for word in key.words)
    if key.kind == "words":
        return listed
    return f"{key.kind}, or {listed}" if listed else key.kind


def _policies() -> Iterator[Entry]:
    for name, policy in policies.builtin().items():
        facts = [("asks for", _said(policy.drain))]
        parameters: list[Any] = list(dataclasses.fields(policy)) if dataclasses.is_dataclass(policy) else []
        for parameter in (each for each in parameters if each.init):
            unit = parameter.metadata.get("unit", "")
            tell = {"bytes": format_bytes, "time": format_time}.get(unit, str)
            facts.append(
                (f"parameter {parameter.name}", f'{unit or "a number"}, default "{tell(parameter.default)}"')
            )
        facts.append(("when", words()["policy"].get(name, {}).get("when", "")))
        yield Entry("policy", name, _said(policy), tuple(facts))


def _said(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").split())


def _figures() -> Iterator[Entry]:
    for name, text in words()["figure"].items():
        yield Entry("figure", name, text)
    for name, text in words()["parquet"].items():
        yield Entry("column", name, text)


def _rules() -> Iterator[Entry]:
    named = {kind.name: Entry("rule", kind.name, kind.words, (("from", kind.rule),)) for kind in CATALOGUE}
    yield from named.values()
    for name, text in RULES.items():
        if name not in named:
            yield Entry("rule", name, text, (("looked at by", "simmig verify"),))


def _models() -> Iterator[Entry]:
    for directory in dict.fromkeys(MODELS.values()):
        for name, path in models(directory).items():
            lines = path.read_text(encoding="utf-8").splitlines()
            said = [
                line.lstrip("# ") for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")]
            ]
            raw = {key: value for key, value in read_toml(path).items() if key != "source"}
            facts = (("of", directory), *((key, str(value)) for key, value in raw.items()))
            yield Entry("model", name, " ".join(said), facts)


def _topics() -> Iterator[Entry]:
    for name, topic in words()["topic"].items():
        yield Entry("topic", name, topic["text"].strip("\n"), (("about", topic["about"]),))
