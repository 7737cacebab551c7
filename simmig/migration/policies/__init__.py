"""Drain policies, one a file, and where to find one by name, entry point or file."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any

from simmig.migration.policies.at_switch import AtSwitch
from simmig.migration.policies.downtime_budget import DowntimeBudget
from simmig.migration.policies.every_bytes import EveryBytes
from simmig.migration.policies.final_only import FinalOnly
from simmig.migration.policies.pending_limit import PendingLimit
from simmig.migration.policies.per_chunk import PerChunk
from simmig.migration.policies.per_iteration import PerIteration
from simmig.migration.policies.per_round import PerRound
from simmig.migration.policies.policy import FULLY, Point, Policy, Sender, promise_of
from simmig.own_code import RAISED, prints_aside, told

__all__ = [
    "FULLY",
    "Point",
    "Policy",
    "PolicyError",
    "Sender",
    "builtin",
    "is_registered",
    "known",
    "load",
    "of_function",
    "promise_of",
    "register",
]

_registered: dict[str, type[Policy]] = {}
"""Policies written where this process runs, a notebook say: found by name here and nowhere else."""

ENTRY_POINTS = "simmig.policies"
_LONGEST = 60
"""Of a name that a message quotes."""


class PolicyError(ValueError):
    """A policy that cannot be found, loaded or used; the message says which and what would work."""


def builtin() -> dict[str, type[Policy]]:
    """The policies that come with simmig, by name, from waiting least to waiting most."""
    return {
        "final-only": FinalOnly,
        "at-switch": AtSwitch,
        "per-round": PerRound,
        "downtime-budget": DowntimeBudget,
        "pending-limit": PendingLimit,
        "every-bytes": EveryBytes,
        "per-iteration": PerIteration,
        "per-chunk": PerChunk,
    }


def known() -> list[str]:
    """The names that `load` finds: built-in policies, registered ones, entry points."""
    return [*builtin(), *_registered, *sorted(importlib.metadata.entry_points(group=ENTRY_POINTS).names)]


def load(spec: str) -> type[Policy]:
    """The policy class that `spec` names: a built-in, an entry point, or ``path/to/file.py:Name``.

    A function stands for the policy of which it is the `drain`. Raises PolicyError when there is none, when its
    file raises, or when it has no `drain` method.
    """
    if spec in (named := builtin() | _registered):
        return named[spec]
    path, colon, name = spec.rpartition(":")
    if colon and path.endswith(".py"):
        return _checked(_from_file(Path(path), name), spec)
    entry_points = importlib.metadata.entry_points(group=ENTRY_POINTS)
    if spec in entry_points.names:
        try:
            with prints_aside():
                found = entry_points[spec].load()
        except RAISED as error:
            raise PolicyError(f"policy {spec!r}: its entry point cannot be loaded: {told(error)}") from error
        return _checked(found, spec)
    short = spec if len(spec) <= _LONGEST else f"{spec[:_LONGEST]}..."
    near = difflib.get_close_matches(short, known(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known())}, or path/to/file.py:Name"
    raise PolicyError(f"unknown policy {short!r}: {hint}")


def register(name: str, policy: type[Policy]) -> str:
    """Have `load` find a policy under this name, in this process; the last of a name counts.

    Raises PolicyError for the name of a built-in one, and for what is no policy.
    """
    if name in builtin():
        raise PolicyError(f"policy {name!r} is built in: give your own another name")
    _registered[name] = _checked(policy, name)
    return name


def is_registered(name: str) -> bool:
    """Whether only this process knows what `load` finds under that name."""
    return name in _registered


def _from_file(path: Path, name: str) -> object:
    if not os.path.isfile(path):  # which a name too long, or with a NUL in it, is not
        raise PolicyError(f"policy file {path!s:.200}: no such file")
    module_spec = importlib.util.spec_from_file_location(f"simmig_policy_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise PolicyError(f"policy file {path}: not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses look their module up by name
    try:
        with prints_aside():
            module_spec.loader.exec_module(module)
    except RAISED as error:
        raise PolicyError(f"policy file {path} raised {told(error)}") from error
    if not hasattr(module, name):
        raise PolicyError(f"policy file {path} defines no {name!r}")
    found: object = getattr(module, name)
    return found


def of_function(drain: Any, name: str) -> type[Policy]:
    """The policy without parameters of which this function is the `drain`."""
    return type(name, (), {"drain": lambda _, point, sender: drain(point, sender)})


def _checked(found: object, spec: str) -> type[Policy]:
    if isinstance(found, types.FunctionType):
        return of_function(found, found.__name__)
    try:
        usable = isinstance(found, type) and callable(getattr(found, "drain", None))
    except RAISED as error:
        raise PolicyError(f"policy {spec!r}: its drain raised {told(error)}") from error
    if not isinstance(found, type) or not usable:
        raise PolicyError(f"policy {spec!r} is no class with a drain(point, sender) method, and no such function")
    return found
