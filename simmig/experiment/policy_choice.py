"""From a policy's name and parameters, as a user writes them, to the policy."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any

from simmig.experiment import units
from simmig.experiment.amounts import format_bytes, format_time
from simmig.migration import policies

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
    parameters = {key: _value(chosen, fields[key], value) for key, value in given.items()}
    try:
        return chosen(**parameters)
    except Exception as error:  # a user's own constructor may raise anything
        raise PolicyChoiceError("", f"policy {spec} cannot be made: {type(error).__name__}: {error}") from error


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
    return {field.name: field for field in dataclasses.fields(chosen) if field.init}


def _unknown(spec: str, key: str, known: list[str]) -> str:
    if not known:
        return f"unknown key: policy {spec} takes no parameters"
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"policy {spec} takes {', '.join(known)}"
    return f"unknown key; {hint}"


def _example(field: dataclasses.Field[Any]) -> str:
    examples = {"bytes": "64 MiB", "time": "50 ms"}
    example = examples.get(field.metadata.get("unit", ""))
    return f', e.g. {field.name} = "{example}"' if example else ""


def _value(chosen: type, field: dataclasses.Field[Any], value: Any) -> Any:
    parse = _PARSERS.get(field.metadata.get("unit") or "")
    if parse is not None:
        try:
            return parse(value)
        except units.QuantityError as error:
            raise PolicyChoiceError(field.name, str(error)) from error
    wanted = typing.get_type_hints(chosen).get(field.name)
    if wanted is float and type(value) is int:
        return float(value)
    if wanted in (int, float, bool, str) and type(value) is not wanted:
        raise PolicyChoiceError(field.name, f"{value!r} is no {wanted.__name__}")
    return value
