"""A scenario's keys and, where they are few, the words that one of them may be."""

from __future__ import annotations

import typing

from pydantic import BaseModel

from simmig.experiment.data import models
from simmig.experiment.explain import TABLES
from simmig.experiment.load import MODELS
from simmig.experiment.schema import WORKLOADS
from simmig.migration import policies

_NO_SETTING = ("guest.block",)
"""An array of tables, of which `--set` takes none."""


def keys() -> list[str]:
    """All that `--set` may name, dotted, in order; of a workload those of every kind."""
    found = {"policy.name": None}
    for table, model in TABLES.items():
        prefix = table[:2] if table[:2] == ("guest", "workload") else table
        for name, field in model.model_fields.items():
            dotted = ".".join((*prefix, field.alias or name))
            if not any(
                other[: len(table) + 1] == (*table, field.alias or name) for other in TABLES if other != table
            ):
                found[dotted] = None
    found.update({f"{'.'.join(key)}.model": None for key in MODELS})
    found.pop("policy", None)
    return sorted(key for key in found if not key.startswith(_NO_SETTING))


def choices(key: str) -> list[str]:
    """The words that a key may be: models, policies, and those of its type; none where it is a quantity."""
    parts = tuple(key.split("."))
    if parts[-1] == "model" and parts[:-1] in MODELS:
        return list(models(MODELS[parts[:-1]]))
    if key == "policy.name":
        return policies.known()
    if key == "guest.workload.kind":
        return list(WORKLOADS)
    for model in (model for table, model in TABLES.items() if table[:2] == parts[:-1] or table == parts[:-1]):
        for name, field in model.model_fields.items():
            if (field.alias or name) == parts[-1]:
                return _words(model, name)
    return []


def _words(model: type[BaseModel], name: str) -> list[str]:
    kind = typing.get_type_hints(model)[name]
    if kind is bool:
        return ["true", "false"]
    asked, words = [kind], []
    while asked:
        each = asked.pop(0)
        if typing.get_origin(each) is typing.Literal:
            words += [str(value) for value in typing.get_args(each)]
        else:
            asked += typing.get_args(each)
    return words
