"""What `--set` takes, for a shell to complete: a scenario's keys and, where they are few, their words."""

from __future__ import annotations

from collections.abc import Iterator

from simmig.experiment.reference.keys import Key
from simmig.experiment.reference.keys import keys as all_keys
from simmig.experiment.scenario.data import models
from simmig.experiment.scenario.load import MODELS
from simmig.migration import policies


def keys() -> list[str]:
    """All that `--set` may name, dotted, in order; of a workload those of every kind."""
    named = (key.name for key in _settable())
    return sorted({*named, *(f"{'.'.join(table)}.model" for table in MODELS)})


def choices(key: str) -> list[str]:
    """The words that a key may be: models, policies, and those of its type; none where it is a quantity."""
    table, _, name = key.rpartition(".")
    if name == "model" and tuple(table.split(".")) in MODELS:
        return list(models(MODELS[tuple(table.split("."))]))
    if key == "policy.name":
        return policies.known()
    for known in _settable():
        if known.name == key:
            return ["true", "false"] if known.kind == "true or false" else list(known.words)
    return []


def _settable() -> Iterator[Key]:
    """Every key but those of arrays of tables; the destination's host has those of the host."""
    every = list(all_keys())
    arrays = tuple(f"{key.name}." for key in every if key.kind == "tables")
    for key in every:
        if key.kind != "tables" and not key.name.startswith(arrays):
            yield key
            if key.name.startswith("host."):
                yield Key(f"destination_{key.name}", key.kind, key.words, key.default, key.required, key.bounds)
