"""Scenarios for tests: small defaults, changed by dotted keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simmig.experiment.result import Result
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.load import build_scenario
from simmig.experiment.scenario.schema import Scenario
from simmig.trace.events import AnyEvent


def scenario(**changes: Any) -> Scenario:
    """A 16 MiB idle guest on an ideal 10 Gbit/s link and hosts that cost nothing, but for `table__key` changes."""
    raw: dict[str, Any] = {
        "guest": {"memory": "16 MiB", "device_state": "64 KiB"},
        "link": {"bandwidth": "10 Gbit/s", "latency": "5 us", "header": "74 B"},
    }
    for key, value in changes.items():
        table, _, name = key.partition("__")
        if name:
            raw.setdefault(table, {})[name] = value
        else:
            raw[table] = value
    return build_scenario(raw, Path("test.toml"))


def simulate(**changes: Any) -> tuple[Result, list[AnyEvent]]:
    """Run such a scenario; its result and its trace."""
    events: list[AnyEvent] = []
    return run(scenario(**changes), [events.append]), events
