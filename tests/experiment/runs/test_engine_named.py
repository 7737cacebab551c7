"""Which engine answered is in the figures, and what it did not check is certified nowhere."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from simmig.experiment import leap
from simmig.experiment.reports.html import sweep as report
from simmig.experiment.reports.summary import as_text, summary
from simmig.experiment.result import Result
from simmig.experiment.runs.run import run
from simmig.experiment.studies.sweep.columns import _outputs
from tests.endtoend.worlds import scenario

WHAT = scenario(guest__memory="1 MiB")


def compiled() -> Result:
    """As the compiled engine would answer."""
    result = run(WHAT)
    result.metrics.compared = None
    return dataclasses.replace(result, engine="compiled", invariants={}, trace_sha256=None)


def test_the_event_model_names_itself_and_certifies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leap, "is_ready", lambda: False)
    figures = run(WHAT, traced=False).figures()
    assert figures["engine"] == "events"
    assert figures["memory_identical"] is True
    assert set(figures["invariants"].values()) == {True}


def test_the_compiled_engine_certifies_nothing() -> None:
    row = _outputs(compiled())
    expected = {"engine": "compiled", "memory_identical": None, "invariants_held": None, "invariants_broken": None}
    assert {name: row[name] for name in expected} == expected
    text = as_text(summary(compiled(), WHAT))
    assert "not checked" in text
    assert "identical" not in text


def test_a_report_of_a_sweep_tells_points_that_were_not_checked_from_those_that_held() -> None:
    held = pd.Series([True, None, None], dtype="boolean")
    frame = pd.DataFrame({"status": ["completed", "completed", None], "invariants_held": held})
    told = dict(report._invariants(frame))["every invariant"]
    assert told == "holds at 1 of 3 points; not checked at 1 (compiled); the others could not be simulated"
