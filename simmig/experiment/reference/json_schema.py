"""A JSON schema (draft 2020-12) of scenario files, for editors: keys, words, and how a quantity is written."""

from __future__ import annotations

import dataclasses
from typing import Any, get_origin

from pydantic import BaseModel

from simmig.experiment.reference.catalogue import words
from simmig.experiment.reference.keys import Key, key_of, models_in
from simmig.experiment.scenario import schema
from simmig.migration import policies

_NUMBER = r"^\s*\+?(\d{1,24}\.?\d{0,24}|\.\d{1,24})([eE][+-]?\d{1,2})?\s*"
_PREFIX = "(k|M|G|T|Ki|Mi|Gi|Ti)?"
_PATTERNS = {
    "size": rf"{_NUMBER}{_PREFIX}(B|bit)\s*$",
    "rate": rf"{_NUMBER}{_PREFIX}(B|bit)/(s|min|ms|us|ns)\s*$",
    "time": rf"{_NUMBER}([numµμ]?s|min)\s*$",
    "share": rf"{_NUMBER}%\s*$",
}


def json_schema() -> dict[str, Any]:
    """The schema; it takes what simmig takes, bounds of quantities aside, which no JSON schema can read."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "simmig scenario",
        "description": "One experiment: a guest, a link, two hosts, how to migrate and which drain policy.",
        **_table("", schema.Scenario),
    }


def _table(name: str, table: type[BaseModel]) -> dict[str, Any]:
    prefix = f"{name}." if name else ""
    properties: dict[str, Any] = {}
    required = []
    for attribute, field in table.model_fields.items():
        key = field.alias or attribute
        inner = models_in(field.annotation)
        dotted = f"{prefix}{key}".replace("destination_host", "host")
        if dotted == "policy":
            properties[key] = _policy()
        elif len(inner) > 1:
            properties[key] = _workload(f"{prefix}{key}")
        elif inner:
            made = _table(dotted, inner[0])
            properties[key] = {"type": "array", "items": made} if get_origin(field.annotation) is list else made
        else:
            properties[key] = _leaf(key_of(dotted, field)) | _description(dotted)
        if field.is_required():
            required.append(key)
    whole: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return whole | _required(required, "model" in properties)


def _required(names: list[str], by_model: bool) -> dict[str, Any]:
    """What must be there; where a model is named, that has it."""
    if not names:
        return {}
    return {"anyOf": [{"required": ["model"]}, {"required": names}]} if by_model else {"required": names}


def _workload(name: str) -> dict[str, Any]:
    """A table for each kind; where a model is named the kind may be the model's."""
    kinds = []
    for kind, table in schema.WORKLOADS.items():
        made = _table(name, table)
        made["properties"]["kind"] = {"const": kind} | _description(f"{name}.kind")
        made |= _required(sorted({"kind", *_required_of(table)}), True)
        kinds.append(made)
    return {"anyOf": kinds}


def _required_of(table: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in table.model_fields.items() if field.is_required()]


def _policy() -> dict[str, Any]:
    """Any policy with any parameters; the built-in ones with their own."""
    name = {"type": "string", "examples": list(policies.builtin())} | _description("policy.name")
    rules = []
    for policy, chosen in policies.builtin().items():
        parameters = [each for each in dataclasses.fields(chosen) if each.init]  # type: ignore[arg-type]
        units_of = {each.name: str(each.metadata.get("unit", "")) for each in parameters}
        kinds = {"bytes": "size", "time": "time"}
        allowed = {key: _quantity(kinds[unit]) if unit in kinds else {} for key, unit in units_of.items()}
        then = {"properties": {"name": True, **allowed}, "additionalProperties": False}
        rules.append({"if": {"properties": {"name": {"const": policy}}, "required": ["name"]}, "then": then})
    return {"type": "object", "properties": {"name": name}, "allOf": rules}


def _leaf(key: Key) -> dict[str, Any]:
    if key.kind.startswith("list of "):
        each = dataclasses.replace(key, kind=key.kind.removeprefix("list of ").removesuffix("s"))
        return {"type": "array", "items": _leaf(each)}
    low, high = key.bounds
    bounds: dict[str, Any] = {}
    if key.kind in ("number", "whole number", "share"):
        bounds |= {"minimum": float(low)} if low else {}
        bounds |= {"exclusiveMaximum" if key.exclusive else "maximum": float(high)} if high else {}
    types = {"whole number": "integer", "number": "number", "true or false": "boolean", "text": "string"}
    if key.kind == "words":
        return {"enum": list(key.words)}
    if key.kind in types:
        return {"type": types[key.kind], **bounds}
    if key.kind in ("share", "size or share"):
        number = {"type": "number", **(bounds or {"minimum": 0, "maximum": 1})}
        return {"anyOf": [number, *(_quantity(each) for each in key.kind.split(" or "))]}
    if not key.words:
        return _quantity(key.kind)
    zero = [{"const": 0}] if key.name.endswith("max_bandwidth") else []
    return {"anyOf": [{"enum": list(key.words)}, _quantity(key.kind), *zero]}


def _quantity(kind: str) -> dict[str, Any]:
    return {"type": "string", "pattern": _PATTERNS[kind]}


def _description(name: str) -> dict[str, str]:
    said = words()["key"].get(name, {}).get("meaning")
    return {"description": said} if said else {}
