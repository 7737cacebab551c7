"""What may be chosen: a policy with its parameters, its downtime limit and, if asked, the wire's freedoms."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from simmig.experiment.errors import InputError
from simmig.experiment.scenario.load import Key
from simmig.migration import policies

NEVER_WAITS = "final-only"
"""The policy that asks for no wait while the guest runs."""
FREEDOMS: dict[str, tuple[Any, ...]] = {
    "slice": ("50 ms", "round", "unlimited"),
    "registration_batch": (1, 64),
    "control_wait": ("completion", "deferred"),
    "control_qp": ("shared", "own"),
}
"""QEMU's value first."""

LIMIT_SHARES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.1)
"""Of the downtime asked for, as the migration's own limit: QEMU's threshold leaves out part of the downtime."""

_MEBIBYTES = (1, 1024)
_MILLISECONDS = (1, 1000)


@dataclass(frozen=True)
class Candidate:
    """A choice: a policy's name, its parameters and what else is set, all as in a scenario's file."""

    policy: str
    parameters: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()

    def tables(self) -> list[tuple[Key, Any]]:
        """What it sets in a scenario."""
        table = {"name": self.policy, **dict(self.parameters)}
        return [(("policy",), table), *((("migration", key), value) for key, value in self.settings)]

    @property
    def policy_text(self) -> str:
        """As after ``--policy``."""
        return ",".join([self.policy, *(f"{key}={value}" for key, value in self.parameters)])


@dataclass(frozen=True)
class Space:
    """All candidates: these policies, for this downtime, with these of the freedoms."""

    policies: tuple[str, ...]
    downtime_ns: int
    freedoms: tuple[str, ...] = ()

    def ask(self, trial: optuna.Trial) -> Candidate:
        """The candidate of a trial."""
        name = trial.suggest_categorical("policy", self.policies)
        parameters = []
        for key, unit in _parameters(name):
            low, high = _MEBIBYTES if unit == "bytes" else _MILLISECONDS
            value = trial.suggest_int(f"{name} {key}", low, high, log=True)
            parameters.append((key, f"{value} MiB" if unit == "bytes" else f"{value} ms"))
        share = trial.suggest_categorical("downtime limit", LIMIT_SHARES)
        settings: list[tuple[str, Any]] = [("downtime_limit", _time_text(round(share * self.downtime_ns / 1000)))]
        settings += [(key, trial.suggest_categorical(key, FREEDOMS[key])) for key in self.freedoms]
        return Candidate(name, tuple(parameters), tuple(settings))

    def never_waits(self) -> Candidate:
        """The one that sends fastest: no wait, and what the freedoms give most of."""
        limit = ("downtime_limit", _time_text(round(self.downtime_ns / 1000)))
        return Candidate(NEVER_WAITS, (), (limit, *((key, FREEDOMS[key][-1]) for key in self.freedoms)))

    def first(self) -> list[dict[str, Any]]:
        """Where to begin: every policy with its defaults, given the downtime asked for as its limit."""
        starts = []
        for name in self.policies:
            start: dict[str, Any] = {"policy": name, "downtime limit": LIMIT_SHARES[0]}
            start.update({f"{name} {key}": 64 if unit == "bytes" else 50 for key, unit in _parameters(name)})
            start.update({key: FREEDOMS[key][-1] for key in self.freedoms})
            starts.append(start)
        return starts


def _time_text(microseconds: int) -> str:
    return (
        f"{microseconds} us"
        if microseconds < 1000
        else f"{microseconds / 1000:.3f}".rstrip("0").rstrip(".") + " ms"
    )


def chosen_policies(text: str | None) -> tuple[str, ...]:
    """The policies of "NAME,NAME", all built-in ones by default. Raises InputError for what is none."""
    names = tuple(policies.builtin()) if text is None else tuple(dict.fromkeys(text.split(",")))
    for name in names:
        try:
            policies.load(name)
        except policies.PolicyError as error:
            raise InputError(f"--policies: {error}") from None
    return tuple(str(Path(name).absolute()) if ".py:" in name else name for name in names)


def free(settings: Sequence[str]) -> tuple[str, ...]:
    """The freedoms that "table.key=value" settings leave to the search. Raises InputError for its own keys."""
    taken = set()
    for setting in settings:
        key = ".".join(part.strip() for part in setting.partition("=")[0].split("."))
        if key in ("seed", "migration.downtime_limit") or key.split(".")[0] == "policy":
            raise InputError(f"--set {setting}: advise chooses {key} itself")
        if key == "migration":
            raise InputError(f"--set {setting}: advise chooses some of it itself; set its other keys one by one")
        taken.add(key)
    return tuple(key for key in FREEDOMS if f"migration.{key}" not in taken)


def _parameters(name: str) -> Sequence[tuple[str, str]]:
    """A policy's parameters that have a unit, so that what to try can be known."""
    chosen = policies.load(name)
    if not dataclasses.is_dataclass(chosen):
        return []
    fields = [(field.name, field.metadata.get("unit") or "") for field in dataclasses.fields(chosen) if field.init]
    return [(key, unit) for key, unit in fields if unit in ("bytes", "time")]
