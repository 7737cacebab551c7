"""The columns of a sweep's results: every input of a scenario, every figure of its run, one row a point.

Inputs are named as in the scenario file, dotted, with the base unit at the end: ``link.bandwidth_bit_s``.
Figures have the names of the object that ``simmig run --json`` prints. What does not apply is null: a limit of
"unlimited", a parameter that another policy has.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from simmig.experiment.errors import InputError
from simmig.experiment.result import Result
from simmig.experiment.scenario import schema
from simmig.experiment.scenario.policy_choice import make_policy, parameters_of, units_of
from simmig.experiment.scenario.schema import Scenario, key_of
from simmig.experiment.studies.sweep.plan import Plan
from simmig.guest.api import PAGE_BYTES

Type = Literal["int", "float", "bool", "text"]

_TABLES: dict[str, type[BaseModel]] = {
    "link": schema.LinkTable,
    "host": schema.HostTable,
    "destination_host": schema.HostTable,
    "device": schema.DeviceTable,
    "migration": schema.Migration,
}
_GUEST: dict[str, Type] = {
    "guest.memory_bytes": "int",
    "guest.block": "text",
    "guest.device_state_bytes": "int",
    "guest.zero_fraction": "float",
    "guest.ballooned_bytes": "int",
    "guest.dirty_log_page_bytes": "int",
}
_FIGURES: dict[str, Type] = {
    "status": "text",
    "reason": "text",
    "backend": "text",
    "engine": "text",
    "total_time_ns": "int",
    "downtime_ns": "int",
    "downtime_parts.residual_pages_ns": "int",
    "downtime_parts.drain_ns": "int",
    "downtime_parts.device_state_ns": "int",
    "downtime_parts.switch_ns": "int",
    "setup_time_ns": "int",
    "rounds": "int",
    "flat_since_round": "int",
    "slices": "int",
    "drains": "int",
    "drain_time_ns": "int",
    "forced_drain_time_ns": "int",
    "protocol_drain_time_ns": "int",
    "bytes_posted": "int",
    "bytes_on_wire": "int",
    "zero_pages": "int",
    "pages_written": "int",
    "throughput_bit_s": "int",
    "max_pending_bytes": "int",
    "pending_bytes_at_stop": "int",
    "memory_identical": "bool",
    "source_running": "bool",
    "destination_running": "bool",
    "trace_sha256": "text",
}
_CHECKS: dict[str, Type] = {"invariants_held": "bool", "invariants_broken": "text"}


@dataclass(frozen=True)
class Columns:
    """Names and types, in order: point, inputs, figures, error."""

    inputs: Mapping[str, Type]

    def types(self) -> dict[str, Type]:
        """All columns."""
        return {"point": "int", **self.inputs, **_FIGURES, **_CHECKS, "error": "text"}

    def row(
        self, point: int, plan: Plan, scenario: Scenario | None, result: Result | None, error: str | None
    ) -> list[Any]:
        """One point's cells."""
        cells: dict[str, Any] = {"point": point, "error": error}
        cells.update((f"variant.{name}", label) for name, label in plan.labels(point).items())
        cells.update(_inputs(scenario) if scenario is not None else _inputs_apart(plan, plan.steps(point)))
        if result is not None:
            cells.update(_outputs(result))
        return [_cell(kind, cells.get(name)) for name, kind in self.types().items()]


def columns_of(plan: Plan, samples: Sequence[Scenario]) -> Columns:
    """The columns that a sweep's points need; `samples` have every policy that occurs."""
    inputs: dict[str, Type] = {f"variant.{axis.name}": "text" for axis in plan.axes if axis.labels}
    inputs["seed"] = "int"
    inputs.update(_GUEST)
    for workload in schema.WORKLOADS.values():
        inputs.update(_of_table("guest.workload", workload))
    for name, table in _TABLES.items():
        inputs.update(_of_table(name, table))
    inputs["policy.name"] = "text"
    types: dict[str, Type | None] = {}
    for name, value in (item for scenario in samples for item in _policy(scenario).items()):
        types[name] = _joined(types.get(name), value)
    inputs.update((name, kind or "text") for name, kind in types.items())
    return Columns(inputs)


def columns_of_axes(plan: Plan, samples: Sequence[Scenario]) -> dict[str, list[str]]:
    """The columns in which each axis' values differ, by the axis' name."""
    rows = [_inputs(scenario) for scenario in samples]
    varied = [name for name in columns_of(plan, samples).inputs if len({repr(row.get(name)) for row in rows}) > 1]
    return {
        axis.name: [f"variant.{axis.name}"]
        if axis.labels
        else [name for name in varied if key_of(name) == axis.name or name.startswith(f"{axis.name}.")]
        for axis in plan.axes
    }


def _of_table(name: str, table: type[BaseModel]) -> Iterator[tuple[str, Type]]:
    for attribute, field in table.model_fields.items():
        yield f"{name}.{attribute}", _of_annotation(field.annotation)
        if _is_mixed(field.annotation):
            yield f"{name}.{key_of(attribute)}", "text"


def _members(annotation: Any) -> set[Any]:
    """What a value may be: int | "round" | None is {int, str}."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return {member for part in typing.get_args(annotation) for member in _members(part)}
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin is Literal:
        return {type(word) for word in typing.get_args(annotation)}
    return set() if annotation is type(None) else {annotation}


def _is_mixed(annotation: Any) -> bool:
    """A quantity or a word in its place: the word goes to a column of its own."""
    return {int, str} <= _members(annotation)


def _of_annotation(annotation: Any) -> Type:
    members = _members(annotation)
    if bool in members:
        return "bool"
    if float in members:
        return "float"
    return "int" if int in members else "text"


def _of_value(value: Any) -> Type:
    kinds: dict[type, Type] = {bool: "bool", int: "int", float: "float"}
    return kinds.get(type(value), "text")


def _joined(known: Type | None, value: Any) -> Type | None:
    """The type of a column that has this value, too; None while it has none."""
    if value is None:
        return known
    kind = _of_value(value)
    if known in (None, kind):
        return kind
    return "float" if {known, kind} == {"int", "float"} else "text"


def _cell(kind: Type, value: Any) -> Any:
    """A value as its column has it: a policy's parameter may be a number here and a word there."""
    if kind == "text" and not isinstance(value, str | None):
        return str(value)
    return float(value) if kind == "float" and value is not None else value


def _inputs(scenario: Scenario) -> dict[str, Any]:
    guest = scenario.guest
    cells: dict[str, Any] = {
        "seed": scenario.seed,
        "guest.memory_bytes": guest.memory_bytes,
        "guest.block": json.dumps([block.model_dump() for block in guest.block]) if guest.block else None,
        "guest.device_state_bytes": guest.device_state_bytes,
        "guest.zero_fraction": guest.zero_fraction,
        "guest.ballooned_bytes": guest.ballooned_pages * PAGE_BYTES,
        "guest.dirty_log_page_bytes": guest.dirty_log_page_bytes,
    }
    cells.update(_table_cells("guest.workload", guest.workload))
    for name in _TABLES:
        table = getattr(scenario, name)
        if table is not None:
            cells.update(_table_cells(name, table))
    return {**cells, **_policy(scenario)}


def _inputs_apart(plan: Plan, steps: list[int]) -> dict[str, Any]:
    """The inputs of a point whose values do not go together: what each axis sets beside the others' ends.

    Empty where that cannot be told, because a value goes neither with the first nor with the last ones.
    """
    ends = [0] * len(steps), [len(axis.values) - 1 for axis in plan.axes]
    base = next((end for end in ends if _inputs_at(plan, end)), None)
    if base is None:
        return {}
    cells = _inputs_at(plan, base)
    for index, step in enumerate(steps):
        if step == base[index]:
            continue
        for end in ends:
            before, after = (
                _inputs_at(plan, [*end[:index], value, *end[index + 1 :]]) for value in (base[index], step)
            )
            if before and after:
                differ = [name for name in {**before, **after} if before.get(name) != after.get(name)]
                cells.update((name, after.get(name)) for name in differ)
                break
        else:
            return {}
    return cells


def _inputs_at(plan: Plan, steps: list[int]) -> dict[str, Any]:
    try:
        return _inputs(plan.scenario_at(steps))
    except InputError:
        return {}


def _table_cells(name: str, table: BaseModel) -> Iterator[tuple[str, Any]]:
    for attribute, field in type(table).model_fields.items():
        value = getattr(table, attribute)
        if isinstance(value, list):
            yield f"{name}.{attribute}", json.dumps([each.model_dump() for each in value]) if value else None
        elif not _is_mixed(field.annotation) or isinstance(value, int):
            yield f"{name}.{attribute}", value
        else:
            yield f"{name}.{key_of(attribute)}", "unlimited" if value is None else value


def _policy(scenario: Scenario) -> dict[str, Any]:
    policy = make_policy(scenario.policy.name, scenario.policy.parameters)
    suffixes = {"bytes": "_bytes", "time": "_ns"}
    units = units_of(policy)
    cells = {
        f"policy.{name}{suffixes.get(units[name], '')}": value for name, value in parameters_of(policy).items()
    }
    return {"policy.name": scenario.policy.name, **cells}


def _outputs(result: Result) -> dict[str, Any]:
    figures = result.figures()
    parts = {f"downtime_parts.{name}": value for name, value in figures["downtime_parts"].items()}
    broken = [name for name, held in figures["invariants"].items() if not held]
    return {
        **{name: figures[name] for name in _FIGURES if name in figures},
        **parts,
        "invariants_held": not broken if figures["invariants"] else None,
        "invariants_broken": ", ".join(broken) or None,
    }
