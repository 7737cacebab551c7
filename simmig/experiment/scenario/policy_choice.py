"""From a policy's name and parameters, as a user writes them, to the policy."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import os
import re
import typing
from collections.abc import Mapping
from typing import Any

import msgspec

from simmig.experiment import units
from simmig.experiment.amounts import format_bytes, format_time
from simmig.experiment.errors import shown
from simmig.migration import policies
from simmig.own_code import RAISED, prints_aside, told

_PARSERS = {"bytes": units.size_bytes, "time": units.time_ns}


class PolicyChoiceError(ValueError):
    """A policy that cannot be had as asked; `key` is the parameter at fault, empty for the policy itself."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def make_policy(spec: str, given: Mapping[str, Any]) -> policies.Policy:
    """A policy of its own for one migration; raises PolicyChoiceError."""
    try:
        chosen = policies.load(spec)
    except policies.PolicyError as error:
        raise PolicyChoiceError("", str(error)) from error
    fields = _fields(chosen)
    for key in given:
        if key not in fields:
            raise PolicyChoiceError(key, _unknown(spec, key, list(fields)))
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in given:
            raise PolicyChoiceError(name, f"missing: policy {spec} needs it{_example(field)}")
    types = _types(chosen, spec) if fields else {}
    parameters = {key: _value(fields[key], types.get(key), value) for key, value in given.items()}
    try:
        with prints_aside():
            policy = chosen(**parameters)
            usable = callable(policy.drain)
            policies.promise_of(policy)
    except RAISED as error:  # a user's own constructor may raise anything
        raise PolicyChoiceError("", f"policy {spec} cannot be made: {told(error)}") from error
    if not usable:
        raise PolicyChoiceError("", f"policy {spec} has no drain(point, sender) method once it is made")
    _require_plain(spec, policy)
    return policy


def _require_plain(spec: str, policy: policies.Policy) -> None:
    """Results say what a policy was made with: raises PolicyChoiceError where they could not."""
    for name in _fields(type(policy)):
        try:
            msgspec.json.encode(getattr(policy, name))
        except RAISED as error:
            raise PolicyChoiceError(
                name, f"policy {spec}: its value cannot be written down: {told(error)}"
            ) from error


def parameters_of(policy: policies.Policy) -> dict[str, Any]:
    """What a policy was made with, defaults included; sizes in bytes, times in ns."""
    return {name: getattr(policy, name) for name in _fields(type(policy))}


def units_of(policy: policies.Policy) -> dict[str, str]:
    """The unit of each of a policy's parameters: "bytes", "time" or, of a plain number or word, ""."""
    return {name: field.metadata.get("unit") or "" for name, field in _fields(type(policy)).items()}


def policy_text(name: str, policy: policies.Policy) -> str:
    """A policy in words: "pending-limit (limit 64 MiB)"."""
    tell = {"bytes": format_bytes, "time": format_time}
    told = [
        f"{key} {tell.get(field.metadata.get('unit') or '', str)(getattr(policy, key))}"
        for key, field in _fields(type(policy)).items()
    ]
    return f"{name} ({', '.join(told)})" if told else name


def _fields(chosen: type) -> dict[str, dataclasses.Field[Any]]:
    """A policy's parameters: the init fields of a dataclass."""
    if not dataclasses.is_dataclass(chosen):
        return {}
    fields = {field.name: field for field in dataclasses.fields(chosen) if field.init}
    for name, field in fields.items():
        unit = field.metadata.get("unit")
        if unit is not None and not isinstance(unit, str):
            raise PolicyChoiceError(
                name, f'its unit is {shown(unit)}{_line_of(chosen, name)}; write "bytes" or "time"'
            )
    return fields


def _types(chosen: type, spec: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(chosen)
    except RAISED as error:  # an annotation may name, or be, anything
        named = next((each for each in _fields(chosen) if not _resolves(chosen, each)), "")
        line = _line_of(chosen, named)
        raise PolicyChoiceError(
            named, f"its annotation in {spec} cannot be resolved: {told(error)}{line}"
        ) from error


def _resolves(chosen: type, name: str) -> bool:
    alone = type(chosen.__name__, (), {"__annotations__": {name: chosen.__annotations__.get(name)}})
    alone.__module__ = chosen.__module__
    try:
        typing.get_type_hints(alone)
    except RAISED:
        return False
    return True


def _line_of(chosen: type, name: str) -> str:
    """Where a parameter is declared; empty when that cannot be found."""
    try:
        lines, first = inspect.getsourcelines(chosen)
        file = inspect.getsourcefile(chosen)
    except (OSError, TypeError):
        return ""
    found = (number for number, line in enumerate(lines, first) if re.match(rf"\s+{re.escape(name)}\s*:", line))
    number = next(found, None)
    return "" if number is None or file is None else f" ({os.path.basename(file)}, line {number})"


def _unknown(spec: str, key: str, known: list[str]) -> str:
    if not known:
        return f"unknown key: policy {spec} takes no parameters"
    near = difflib.get_close_matches(key[:255], known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"policy {spec} takes {', '.join(known)}"
    return f"unknown key; {hint}"


def _example(field: dataclasses.Field[Any]) -> str:
    examples = {"bytes": "64 MiB", "time": "50 ms"}
    example = examples.get(field.metadata.get("unit", ""))
    return f', e.g. {field.name} = "{example}"' if example else ""


def _value(field: dataclasses.Field[Any], wanted: Any, value: Any) -> Any:
    parse = _PARSERS.get(field.metadata.get("unit") or "")
    if parse is not None:
        try:
            return parse(value)
        except units.QuantityError as error:
            raise PolicyChoiceError(field.name, str(error)) from error
    if wanted is float and type(value) is int:
        return float(value)
    if wanted in (int, float, bool, str) and type(value) is not wanted:
        raise PolicyChoiceError(field.name, f"{shown(value)} is no {wanted.__name__}")
    return value
