"""The study of what ranges are worth finds both: ranges that hold as often as they say, and ranges that do not."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("matplotlib")


def _study() -> ModuleType:
    path = Path(__file__).parents[3] / "docs" / "range_coverage.py"
    spec = importlib.util.spec_from_file_location("range_coverage", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STUDY = _study()


def cases(groups: int, of_each: int, between: float, within: float) -> list[object]:
    """Errors that scatter between groups (links, versions) and within them."""
    chance = random.Random(7)
    found = []
    for group in range(groups):
        shift = chance.gauss(0, between)
        found += [STUDY.Case(str(group), 1 + shift + chance.gauss(0, within)) for _ in range(of_each)]
    return found


def test_errors_alike_in_all_groups_are_covered_as_often_as_the_range_says() -> None:
    for point in STUDY.points(cases(9, 24, 0.0, 0.05)):
        assert point.low - 0.03 <= point.nominal <= point.high + 0.03


def test_a_group_that_is_off_by_itself_is_found_out() -> None:
    """What a range within the set would never show: made of two groups alone, it misses the other."""
    offs = [
        point for point in STUDY.points(cases(2, 100, 0.5, 0.01)) if not point.low <= point.nominal <= point.high
    ]
    assert offs


def test_intervals_of_shares_are_wilsons() -> None:
    """Against Wilson's (1927) formula solved the other way: the ends are where the score is two sigma off."""
    for inside, count in ((0, 12), (7, 12), (180, 216)):
        low, high = STUDY.wilson(inside, count)
        for end in {low, high} - {0.0, 1.0}:
            assert abs(inside / count - end) == pytest.approx(1.96 * (end * (1 - end) / count) ** 0.5, rel=1e-6)


def test_all_cells_of_the_lab_are_judged() -> None:
    assert [len(STUDY.cells(figure)) for figure in ("total_time", "downtime")] == [216, 216]
    assert {len({case.group for case in STUDY.cells(figure)}) for figure in ("total_time", "downtime")} == {9}
