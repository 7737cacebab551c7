"""From a policy's name and parameters, as a user writes them, to the policy."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any

from simmig.experiment import units
from simmig.migration import policies

_PARSERS = {"bytes": units.size_bytes, "time": units.time_ns}


class PolicyChoiceError(ValueError):
    """A policy that cannot be had as asked; `key` is the parameter at fault, empty for the policy itself."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def policy_parameters(spec: str, given: Mapping[str, Any]) -> tuple[type[policies.Policy], dict[str, Any]]:
    """The class that `spec` names and its parameters as integers; raises PolicyChoiceError."""
    try:
        chosen = policies.load(spec)
    except policies.PolicyError as error:
        raise PolicyChoiceError("", str(error)) from error
    fields: dict[str, dataclasses.Field[Any]] = {}
    if dataclasses.is_dataclass(chosen):
        fields = {f.name: f for f in dataclasses.fields(chosen) if f.init}
    for key in given:
        if key not in fields:
            raise PolicyChoiceError(key, _unknown(spec, key, list(fields)))
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in given:
            raise PolicyChoiceError(name, f"missing: policy {spec} needs it{_example(field)}")
    return chosen, {key: _value(chosen, fields[key], value) for key, value in given.items()}


def make_policy(spec: str, given: Mapping[str, Any]) -> policies.Policy:
    """A policy of its own for one migration; raises PolicyChoiceError."""
    chosen, parameters = policy_parameters(spec, given)
    try:
        return chosen(**parameters)
    except Exception as error:  # a user's own constructor may raise anything
        raise PolicyChoiceError("", f"policy {spec} cannot be made: {type(error).__name__}: {error}") from error


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
