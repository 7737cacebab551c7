"""Reading a sweep file: which scenario, which axes, and whether every value is one that its key can have."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from simmig.experiment.errors import InputError, shown
from simmig.experiment.scenario.data import shipped
from simmig.experiment.scenario.explain import nearest
from simmig.experiment.scenario.load import Key, policy_table, put, rebase
from simmig.experiment.scenario.schema import DirtyRates, RecordedTable, Scenario
from simmig.experiment.scenario.toml_file import read_text, read_toml
from simmig.experiment.studies.sweep.axis import MAX_VALUES, is_range, values_of
from simmig.experiment.studies.sweep.plan import Axis, Plan

MAX_POINTS = 10_000_000

_WHOLE: dict[Key, frozenset[str]] = {
    ("policy",): frozenset({"name"}),
    ("guest", "workload"): frozenset({"kind", "model"}),
}
"""A table that has one of these keys takes the place of the base scenario's."""

_TABLES = ("scenario", "set", "axes", "variants")


@dataclass(frozen=True)
class SweepSpec:
    """A sweep that can be run.

    Attributes:
        plan: its points.
        text: the sweep file.
        scenario_text: the base scenario's file.
        samples: scenarios in which every value of every axis occurs.
    """

    plan: Plan
    text: str
    scenario_text: str
    samples: tuple[Scenario, ...]

    def sha256(self) -> str:
        """What all of it comes to: base and axes, models, recordings and policy files included."""
        digest = hashlib.sha256(repr(self.plan).encode())
        for scenario in self.samples:
            digest.update(b"\0" + repr(scenario).encode())
            workload = scenario.guest.workload
            policy_file, _, _ = scenario.policy.name.rpartition(":")
            for file in (policy_file, workload.file if isinstance(workload, RecordedTable | DirtyRates) else ""):
                if file and Path(file).is_file():
                    digest.update(b"\0" + Path(file).read_bytes())
        return digest.hexdigest()


def load_sweep(path: Path) -> SweepSpec:
    """Read a sweep file. Raises InputError naming file, key and, where one is near, the right spelling."""
    raw = read_toml(path)
    if not isinstance(raw.get("scenario"), str):
        raise InputError(f'{path}: scenario: missing; name the base scenario\'s file, e.g. scenario = "base.toml"')
    beside = path.parent / raw["scenario"]
    scenario = beside if beside.is_file() else shipped().get(raw["scenario"], beside)
    return make_sweep(raw, path, scenario, read_text(path))


def make_sweep(raw: Mapping[str, Any], place: Path, scenario: Path, text: str) -> SweepSpec:
    """As `load_sweep`, from tables that were read already; paths in them are relative to `place`."""
    for key, value in raw.items():
        if key not in _TABLES:
            raise InputError(f"{place}: {key}: unknown key; {nearest(key, _TABLES)}")
        if key != "scenario" and not isinstance(value, Mapping):
            raise InputError(f"{place}: {key}: {shown(value)} is no table with keys of its own")
    base = read_toml(scenario)
    fixed = tuple((key, placed(key, value, place.parent)) for key, value in _flat(raw.get("set", {})))
    axes = (*_variants(raw.get("variants", {}), place), *_axes(raw.get("axes", {}), place))
    _check_order(axes, place)
    if not axes:
        raise InputError(f"{place}: axes: missing: a sweep has at least one, e.g. [axes] seed = [1, 2, 3]")
    plan = Plan(str(place), base, scenario, fixed, axes)
    if plan.points > MAX_POINTS:
        raise InputError(f"{place}: {plan.points} points; a sweep has {MAX_POINTS} at most")
    samples = tuple(_sample(plan, *steps) for steps in plan.samples())
    return SweepSpec(plan, text, read_text(scenario), samples)


def _sample(plan: Plan, steps: list[int], otherwise: list[int]) -> Scenario:
    """A scenario with a value; values that only some of the others go with are the points' own trouble."""
    try:
        return plan.scenario_at(steps)
    except InputError as error:
        try:
            return plan.scenario_at(otherwise)
        except InputError:
            raise error from None


def _flat(table: Mapping[str, Any], key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Settings: dotted keys in quotes, or tables in tables; a policy or workload with its name is one, whole."""
    for name, value in table.items():
        inner = (*key, *name.split("."))
        if (
            isinstance(value, Mapping)
            and not is_range(value)
            and not _WHOLE.get(inner, frozenset()) & value.keys()
        ):
            yield from _flat(value, inner)
        else:
            yield inner, value


def _axes(table: Mapping[str, Any], place: Path) -> Iterator[Axis]:
    for key, spec in _flat(table):
        name = ".".join(key)
        values = values_of(spec, f"{place}: axes.{name}")
        if key == ("policy",):
            values = _all_policies(values, f"{place}: axes.policy")
        yield Axis(name, tuple(((key, placed(key, value, place.parent)),) for value in values))


def _all_policies(values: Sequence[Any], place: str) -> list[Any]:
    """The values of a policy axis; raises InputError before there are too many."""
    found: list[Any] = []
    for value in values:
        found += _policies(value, place)
        if len(found) > MAX_VALUES:
            raise InputError(
                f"{place}: an axis has {MAX_VALUES} values at most, and its policies' parameters give more"
            )
    return found


def _policies(value: Any, place: str) -> Iterator[dict[str, Any]]:
    """A policy's table; more than one where a parameter has several values."""
    table = policy_table(value, place) if isinstance(value, str) else value
    if not isinstance(table, Mapping):
        raise InputError(
            f"{place}: {shown(value)} is neither a policy's name nor a table with its name and parameters"
        )
    choices = [
        values_of(each, f"{place}.{key}") if isinstance(each, list) or is_range(each) else [each]
        for key, each in table.items()
    ]
    count = math.prod(len(values) for values in choices)
    if count > MAX_VALUES:
        raise InputError(
            f"{place}: its parameters have {count} combinations; an axis has {MAX_VALUES} values at most"
        )
    for chosen in product(*choices):
        yield dict(zip(table, chosen, strict=True))


def _variants(table: Mapping[str, Any], place: Path) -> Iterator[Axis]:
    for name, variants in table.items():
        where = f"{place}: variants.{name}"
        if not isinstance(variants, Mapping) or not variants:
            raise InputError(f"{where}: {shown(variants)} is no table of named settings")
        for label, settings in variants.items():
            if not isinstance(settings, Mapping):
                raise InputError(f"{where}.{label}: {shown(settings)} is no table of settings")
        values = tuple(
            tuple((key, placed(key, value, place.parent)) for key, value in _flat(settings))
            for settings in variants.values()
        )
        yield Axis(name, values, tuple(variants))


def placed(key: Key, value: Any, directory: Path) -> Any:
    """A key's value with the paths in it, which are relative to this directory, absolute."""
    if not isinstance(value, str | Mapping):
        return value
    raw: dict[str, Any] = {}
    put(raw, key, copy.deepcopy(value), "")
    rebase(raw, directory.absolute())
    found: Any = raw
    for part in key:
        found = found[part]
    return found


def _check_order(axes: Sequence[Axis], place: Path) -> None:
    """Raise InputError where an axis undoes what one before it sets, whose values would all give the same."""
    before: dict[Key, Axis] = {}
    for axis in axes:
        keys = {key for settings in axis.values for key, _ in settings}
        for key, earlier in before.items():
            if any(key[: len(mine)] == mine for mine in keys):
                told, undone = (f"{'variants' if each.labels else 'axes'}.{each.name}" for each in (axis, earlier))
                raise InputError(
                    f"{place}: {told}: undoes {'.'.join(key)}, which {undone} sets; "
                    "leave that to one of them, or name the whole table before the key in it"
                )
        before.update(dict.fromkeys(keys, axis))
