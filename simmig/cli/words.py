"""The words of a command line: files that go by a name as well, and what a shell completes them to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem


def _matching(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


class Shipped(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A scenario or, of the folder "sweeps", a sweep: a file, or the name of one that comes with simmig."""

    name = "path"

    def __init__(self, folder: str = "") -> None:
        self._folder = folder

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The file's path. Raises InputError for a name that is none."""
        from simmig.experiment.scenario.data import find

        return find(Path(value), self._folder)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names, and whatever files the shell knows."""
        from simmig.experiment.scenario.data import shipped

        return [*_matching(shipped(self._folder), incomplete), CompletionItem(incomplete, type="file")]


class StarterName(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """What `simmig init` copies."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """All of its names."""
        from simmig.experiment.scenario.starters import starters

        return _matching(starters(), incomplete)


class PolicyText(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A policy, NAME[,KEY=VALUE]...; of several names separated by commas the last is completed."""

    name = "text"

    def __init__(self, several: bool = False) -> None:
        self._several = several

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Built-in policies and installed ones, then their parameters; files of one's own."""
        from simmig.migration import policies

        before, comma, _ = incomplete.rpartition(",")
        if comma and not self._several:
            words: Iterable[str] = _parameters(before.split(",")[0])
        else:
            words = policies.known()
        items = _matching((f"{before}{comma}{word}" for word in words), incomplete)
        return items or [CompletionItem(incomplete, type="file")]


class Setting(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """TABLE.KEY=VALUE of a scenario."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Keys and, where they are few, the values that a key may have: models, kinds, profiles."""
        from simmig.experiment.reference.settable import choices, keys

        key, equals, _ = incomplete.partition("=")
        if equals:
            return _matching((f"{key}={value}" for value in choices(key)), incomplete)
        return _matching((f"{each}=" for each in keys()), incomplete)


class Against(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """What a run is compared with: a policy, a scenario or settings, of which the last is completed."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """All that may stand there."""
        before, semicolon, setting = incomplete.rpartition(";")
        items = Setting().shell_complete(ctx, param, setting)
        if semicolon:
            return [CompletionItem(f"{before};{item.value}") for item in items]
        policies = PolicyText().shell_complete(ctx, param, incomplete)
        named = [item for item in policies if item.type == "plain"]
        return [*items, *named, *Shipped().shell_complete(ctx, param, incomplete)]


class Explained(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A word that `simmig explain` knows."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """All of them."""
        from simmig.experiment.reference import catalogue

        return _matching(dict.fromkeys(entry.name for entry in catalogue()), incomplete)


def _parameters(name: str) -> list[str]:
    import dataclasses

    from simmig.migration import policies

    chosen = policies.builtin().get(name)
    if chosen is None or not dataclasses.is_dataclass(chosen):
        return []
    return [f"{field.name}=" for field in dataclasses.fields(chosen) if field.init]
