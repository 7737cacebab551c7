"""What a sweep is going to do: a base scenario, what each value of each axis sets, and their grid."""

from __future__ import annotations

import copy
import functools
import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simmig.experiment.scenario.load import Key, Setting, build_scenario
from simmig.experiment.scenario.schema import Scenario

_SAMPLES = 200


@dataclass(frozen=True)
class Axis:
    """One axis: its dotted key or, of a variant, its name, and what each of its values sets.

    Attributes:
        name: as in the file.
        values: the settings of each value.
        labels: the values' names, where it is a variant.
    """

    name: str
    values: tuple[tuple[tuple[Key, Any], ...], ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A grid of scenarios; point 0 has the first value of every axis, and the last axis changes fastest.

    Attributes:
        place: the sweep's file, for messages about the values it sets.
        base: the base scenario's tables, as read.
        path: the base scenario's file.
        fixed: what is set in every point.
        axes: the axes, in the file's order.
    """

    place: str
    base: dict[str, Any]
    path: Path
    fixed: tuple[tuple[Key, Any], ...]
    axes: tuple[Axis, ...]

    @functools.cached_property
    def points(self) -> int:
        """How many."""
        return math.prod(len(axis.values) for axis in self.axes)

    def steps(self, point: int) -> list[int]:
        """Which value of each axis a point has."""
        steps = []
        for axis in reversed(self.axes):
            point, step = divmod(point, len(axis.values))
            steps.append(step)
        return steps[::-1]

    def labels(self, point: int) -> dict[str, str]:
        """The variants' names at a point."""
        pairs = zip(self.axes, self.steps(point), strict=True)
        return {axis.name: axis.labels[step] for axis, step in pairs if axis.labels}

    def scenario(self, point: int) -> Scenario:
        """The scenario of a point; raises InputError when its values do not go together."""
        return self.scenario_at(self.steps(point))

    def scenario_at(self, steps: list[int]) -> Scenario:
        """The scenario with these values; raises InputError as `load_scenario` does."""
        return build_scenario(copy.deepcopy(self.base), self.path, settings=list(self._settings(steps)))

    def _settings(self, steps: list[int]) -> Iterator[Setting]:
        for key, value in self.fixed:
            yield key, value, f"{self.place} [set]"
        for axis, step in zip(self.axes, steps, strict=True):
            for key, value in axis.values[step]:
                yield key, value, f"{self.place} [{'variants' if axis.labels else 'axes'}] {axis.name}"

    def packed(self) -> bytes:
        """The plan as bytes, for workers."""
        return pickle.dumps(self, protocol=5)

    def samples(self) -> Iterator[tuple[list[int], list[int]]]:
        """Every value of every axis once, beside the first values of the others and, as a second try, the last.

        Of an axis with very many values only some, its ends among them.
        """
        first = [0] * len(self.axes)
        last = [len(axis.values) - 1 for axis in self.axes]
        yield first, last
        for index, axis in enumerate(self.axes):
            stride = max(1, len(axis.values) // _SAMPLES)
            for step in sorted({*range(0, len(axis.values), stride), len(axis.values) - 1} - {0}):
                yield [*first[:index], step, *first[index + 1 :]], [*last[:index], step, *last[index + 1 :]]
