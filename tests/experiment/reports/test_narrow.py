"""Reports on a narrow terminal: lines are broken, no number and no name is cut."""

from __future__ import annotations

import pytest
from rich.console import RenderableType

from simmig.experiment.reports.summary import as_text, summary
from simmig.experiment.studies.against import Ran, Side, table
from tests.endtoend.worlds import scenario, simulate

BUSY = {"memory": "16 MiB", "workload": {"kind": "uniform", "working_set": "4 MiB", "rate": "20 MiB/s"}}


@pytest.fixture(scope="module")
def reports() -> list[RenderableType]:
    result, _ = simulate(guest=BUSY, migration={"downtime_limit": "1 ms"})
    what = scenario(guest=BUSY, migration={"downtime_limit": "1 ms"})
    return [summary(result, what), table([Ran(Side("migration.slice=unlimited", what), result)] * 3)]


@pytest.mark.parametrize("width", [1, 20, 40, 60, 80])
def test_no_number_is_cut_on_a_narrow_terminal(reports: list[RenderableType], width: int) -> None:
    for report in reports:
        narrow, wide = as_text(report, width), as_text(report, 400)
        assert sorted("".join(narrow.split())) == sorted("".join(wide.split()))
        assert set(wide.split()) - set(narrow.split()) <= {"migration.slice=unlimited"}
