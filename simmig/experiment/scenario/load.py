"""Reading scenarios: a TOML file, the models it names, and what the command line changes, checked as one.

Every problem is told with the place it came from (file, model file or option), its dotted key and, where one is
near, the right spelling.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simmig.experiment.errors import InputError, cut, shown
from simmig.experiment.scenario.data import models
from simmig.experiment.scenario.explain import explain, nearest
from simmig.experiment.scenario.policy_choice import PolicyChoiceError, make_policy
from simmig.experiment.scenario.schema import WORKLOADS, Scenario
from simmig.experiment.scenario.toml_file import MAX_DEPTH, parse, read_toml

Key = tuple[str, ...]
Setting = tuple[Key, Any, str]
"""A key, its value, and the place to name when it is wrong."""

MODELS: dict[Key, str] = {
    ("link",): "links",
    ("host",): "hosts",
    ("destination_host",): "hosts",
    ("guest", "workload"): "workloads",
}
"""The tables that may name a model, and its directory in `models/`. FILE.toml is one that `calibrate` wrote."""


WORKLOAD = ("guest", "workload")


class Origins:
    """Where each key came from."""

    def __init__(self, default: str) -> None:
        self._default = default
        self._of: dict[Key, str] = {}

    def mark(self, key: Key, value: Any, place: str) -> None:
        """Note that `value`, and everything in it, came from `place`."""
        for inner in _keys(key, value):
            self._of[inner] = place

    def of(self, key: Key) -> str:
        """The place of the key, or of the table that it is missing from."""
        while key:
            if key in self._of:
                return self._of[key]
            key = key[:-1]
        return self._default


@dataclass(frozen=True)
class Overrides:
    """What the command line puts in place of what the file says.

    Attributes:
        settings: "table.key=value" each, the value as TOML or bare ("guest.memory=4 GiB").
        policy: replaces the whole policy, "NAME[,key=value]...".
        seed: replaces the seed.
    """

    settings: Sequence[str] = ()
    policy: str | None = None
    seed: int | None = None


def load_scenario(path: Path, overrides: Overrides = Overrides()) -> Scenario:
    """Read a scenario file. Raises InputError when anything is wrong, with every problem in it."""
    return build_scenario(read_toml(path), path, overrides)


def build_scenario(
    raw: dict[str, Any], path: Path, overrides: Overrides = Overrides(), settings: Sequence[Setting] = ()
) -> Scenario:
    """As `load_scenario`, from tables that were read already, which it changes; `path` is the file of messages.

    `settings` go in before the overrides: a sweep's values for one point.
    """
    origins = Origins(str(path))
    for key, value, place in settings:
        put(raw, key, copy.deepcopy(value), place)
        origins.mark(key, value, place)
    rebase(raw, path.parent)
    if overrides.policy is not None:
        place = f"--policy {cut(overrides.policy)}"
        raw["policy"] = policy_table(overrides.policy, place)
        origins.mark(("policy",), raw["policy"], place)
    if overrides.seed is not None:
        raw["seed"] = overrides.seed
        origins.mark(("seed",), overrides.seed, f"--seed {overrides.seed}")
    for setting in overrides.settings:
        _set(raw, setting, origins)
    for key, kind in MODELS.items():
        _apply_model(raw, key, kind, origins)
    try:
        scenario = Scenario.model_validate(raw)
    except ValidationError as error:
        raise InputError(*(f"{origins.of(key)}: {_tell(key, text)}" for key, text in explain(error))) from None
    try:
        make_policy(scenario.policy.name, scenario.policy.parameters)
    except PolicyChoiceError as error:
        key = ("policy", error.key or "name")
        raise InputError(f"{origins.of(key)}: {_tell(key, str(error))}") from None
    return scenario


def _keys(key: Key, value: Any) -> Iterator[Key]:
    yield key
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _keys((*key, name), inner)


def _tell(key: Key, text: str) -> str:
    dotted = ""
    for part in key:
        named = cut(part)
        dotted += f"[{named}]" if part.isdigit() else f".{named}" if dotted else named
    return f"{dotted}: {text}" if dotted else text


def _value(text: str) -> Any:
    """A value of the command line: TOML where it is some ("30", "true", "0.5"), else the text itself ("4 GiB")."""
    try:
        return parse(f"value = {text}")["value"]
    except ValueError:
        return text


def policy_table(text: str, place: str) -> dict[str, Any]:
    """The table that "NAME[,key=value]..." stands for; raises InputError naming `place`."""
    _require_text(text, place)
    name, *parameters = text.split(",")
    table: dict[str, Any] = {"name": name}
    for parameter in parameters:
        key, equals, value = parameter.partition("=")
        if not equals or not key.strip() or key.strip() == "name":
            raise InputError(f"{place}: {shown(parameter)} is not key=value")
        table[key.strip()] = _value(value.strip())
    return table


def _set(raw: dict[str, Any], setting: str, origins: Origins) -> None:
    _require_text(setting, f"--set {cut(setting)}")
    dotted, equals, text = setting.partition("=")
    key = tuple(part.strip() for part in dotted.split("."))
    if not equals or not all(key) or len(key) > MAX_DEPTH:
        raise InputError(f"--set {cut(setting)}: write table.key=value, e.g. --set guest.memory='4 GiB'")
    value = _value(text.strip())
    place = f"--set {cut(setting)}"
    if key == (*WORKLOAD, "kind"):
        _leave_kind(raw, value, origins)
    put(raw, key, value, place)
    origins.mark(key, value, place)


def _leave_kind(raw: dict[str, Any], kind: object, origins: Origins) -> None:
    """Another kind of workload has other keys: those of the file that it does not know go with the old kind."""
    table = _table(raw, WORKLOAD)
    if table is None or kind not in WORKLOADS or table.get("kind") == kind:
        return
    fields = WORKLOADS[str(kind)].model_fields
    known = {field.alias or name for name, field in fields.items()} - {"model"}
    for name in [each for each in table if each not in known]:
        if not origins.of((*WORKLOAD, name)).startswith("--set "):
            del table[name]


def _require_text(text: str, place: str) -> None:
    """Bytes of the command line that are no text come as half characters, which nothing else takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{place}: is no text in UTF-8") from None


def put(raw: dict[str, Any], key: Key, value: Any, place: str) -> None:
    """Set a dotted key in nested tables; raises InputError, naming `place`, where something else is in the way."""
    table = raw
    for part in key[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise InputError(f"{place}: {cut(part)} is no table with keys of its own")
        table = inner
    table[key[-1]] = value


def _table(raw: dict[str, Any], key: Key) -> dict[str, Any] | None:
    table: Any = raw
    for part in key:
        table = table.get(part) if isinstance(table, dict) else None
    return table if isinstance(table, dict) else None


def rebase(raw: dict[str, Any], base: Path) -> None:
    """Paths inside a scenario are relative to it, wherever it is run from."""
    workload = _table(raw, ("guest", "workload"))
    if workload is not None and isinstance(workload.get("file"), str):
        workload["file"] = str(base / workload["file"])
    policy = _table(raw, ("policy",))
    if policy is not None and isinstance(policy.get("name"), str) and ".py:" in policy["name"]:
        policy["name"] = str(base / policy["name"])
    for key in MODELS:
        table = _table(raw, key)
        if table is not None and isinstance(table.get("model"), str) and table["model"].endswith(".toml"):
            table["model"] = str(base / table["model"])


def _apply_model(raw: dict[str, Any], key: Key, kind: str, origins: Origins) -> None:
    """Put the model's figures under the table's own."""
    table = _table(raw, key)
    if table is None or "model" not in table:
        return
    name = table["model"]
    if isinstance(name, str) and name.endswith(".toml"):
        path = Path(name)
        found = _table(read_toml(path), key)
        if found is None:
            raise InputError(f"{path}: has no table [{'.'.join(key)}]; `simmig calibrate` writes files that have")
        model = found
    else:
        known = models(kind)
        if not isinstance(name, str) or name not in known:
            text = f"unknown model {shown(name)}; {nearest(str(name), list(known))}"
            raise InputError(f"{origins.of((*key, 'model'))}: {_tell((*key, 'model'), text)}")
        path = known[name]
        model = read_toml(path)
        model.pop("source", None)
    for part, value in model.items():
        if part not in table:
            table[part] = value
            origins.mark((*key, part), value, str(path))
