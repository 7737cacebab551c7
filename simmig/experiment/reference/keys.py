"""The scenario's keys, read off the schema: what a value is, its default and its bounds."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from simmig.experiment import units
from simmig.experiment.amounts import format_byte_rate, format_bytes, format_rate, format_time
from simmig.experiment.scenario import schema

_KINDS: dict[Any, tuple[str, Callable[[Any], str]]] = {
    units.size_bytes: ("size", format_bytes),
    units.rate_bit_s: ("rate", format_rate),
    units.rate_bytes_s: ("rate", format_byte_rate),
    schema._rate_limit: ("rate", format_byte_rate),
    units.time_ns: ("time", format_time),
    units.cost_ns: ("time", format_time),
    schema._size_or_fraction: ("size or share", str),
    units.share: ("share", str),
}


@dataclass(frozen=True)
class Key:
    """One key of a scenario.

    Attributes:
        name: dotted, as in --set.
        kind: size, rate, time (or a list of these), size or share, text, whole number, number, true or false,
            words, table, tables.
        words: those that a value may be, all of them or in a quantity's place.
        default: as it would be written; None where the key is required or nothing stands for it.
        required: whether it must be given (a model may give it).
        bounds: least and most, as written; None where there is none.
    """

    name: str
    kind: str
    words: tuple[str, ...]
    default: str | None
    required: bool
    bounds: tuple[str | None, str | None]
    exclusive: bool = False


def keys() -> Iterator[Key]:
    """Every key, in the schema's order; `destination_host` has those of `host` and is not told again."""
    yield from _of_table("", schema.Scenario)


def tables() -> dict[str, tuple[type[BaseModel], ...]]:
    """Every table by its dotted name; the workload's are one for each kind."""
    return dict(_tables("", schema.Scenario))


def _tables(prefix: str, table: type[BaseModel]) -> Iterator[tuple[str, tuple[type[BaseModel], ...]]]:
    for attribute, field in table.model_fields.items():
        name = f"{prefix}{field.alias or attribute}"
        if inner := models_in(field.annotation):
            yield name, inner
            for each in inner:
                yield from _tables(f"{name}.", each)


def models_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The tables that a value may be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(model for each in get_args(annotation) for model in models_in(each))


def _of_table(prefix: str, table: type[BaseModel]) -> Iterator[Key]:
    for attribute, field in table.model_fields.items():
        name = f"{prefix}{field.alias or attribute}"
        inner = models_in(field.annotation)
        if name == "destination_host":
            continue
        if inner and get_origin(field.annotation) is list:
            yield Key(name, "tables", (), None, False, (None, None))
        if inner:
            seen: set[str] = set()
            for each in inner:
                for key in _of_table(f"{name}.", each):
                    if key.name not in seen:
                        seen.add(key.name)
                        yield _kinds_of_workload(key)
        else:
            yield key_of(name, field)


def _kinds_of_workload(key: Key) -> Key:
    if key.name != "guest.workload.kind":
        return key
    return Key(key.name, "words", tuple(schema.WORKLOADS), '"idle"', False, (None, None))


def key_of(name: str, field: FieldInfo) -> Key:
    """What the schema says of a field."""
    metadata = list(_metadata(field))
    kind, tell = _kind(field.annotation, metadata)
    words = _words(field.annotation)
    low = high = None
    exclusive = False
    for each in metadata:
        if isinstance(each, BeforeValidator) and isinstance(each.func, schema.OrWord):
            words = tuple(each.func.words)
        if isinstance(each, AfterValidator) and isinstance(each.func, schema.Between):
            low, high = each.func.tell(each.func.low), each.func.tell(each.func.high)
        if isinstance(each, annotated_types.Ge):
            low = tell(each.ge)
        if isinstance(each, annotated_types.Le):
            high = tell(each.le)
        if isinstance(each, annotated_types.Lt):
            high, exclusive = tell(each.lt), True
    if kind == "time" and low is None:
        low = "0 ns"
    default = _default(field, kind, tell, words)
    if get_origin(field.annotation) is list:
        kind = f"list of {kind}s"
    return Key(name, kind, words, default, field.is_required(), (low, high), exclusive)


def _metadata(field: FieldInfo) -> Iterator[Any]:
    yield from field.metadata
    for each in get_args(field.annotation):
        if get_origin(each) is typing.Annotated:
            yield from each.__metadata__


def _kind(annotation: Any, metadata: list[Any]) -> tuple[str, Callable[[Any], str]]:
    for each in metadata:
        if isinstance(each, BeforeValidator):
            parse = each.func.parse if isinstance(each.func, schema.OrWord) else each.func
            if parse in _KINDS:
                return _KINDS[parse]
    plain = [each for each in get_args(annotation) or (annotation,) if each is not types.NoneType]
    if _words(annotation):
        return "words", str
    named = {bool: "true or false", int: "whole number", float: "number", str: "text"}
    return named.get(plain[0], "text"), str


def _words(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return tuple(get_args(annotation))
    return ()


def _default(field: FieldInfo, kind: str, tell: Callable[[Any], str], words: tuple[str, ...]) -> str | None:
    value = field.default
    if isinstance(value, list):
        return None
    if value is PydanticUndefined or field.is_required():
        return None
    if value is None:
        return f'"{words[-1]}"' if "unlimited" in words else None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return f'"{tell(value)}"' if kind in ("size", "rate", "time") else str(value)
