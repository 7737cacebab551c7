"""Which engine simulates a run, and what a user is told of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from simmig.cli import engine
from simmig.cli.main import main
from simmig.experiment import leap
from simmig.experiment.runs.run import MOST_EVENTS, run
from tests.endtoend.worlds import scenario
from tests.experiment.studies.sweep.small import write

BUSY = {"kind": "uniform", "working_set": "1 GiB", "rate": "200 MiB/s"}


@pytest.mark.parametrize(
    ("guest", "big"),
    [
        ({"memory": "64 GiB"}, False),
        ({"memory": "128 GiB"}, True),
        ({"memory": "4 GiB", "workload": BUSY}, True),
        ({"memory": "2 GiB", "workload": BUSY}, False),
        ({"memory": "4 GiB", "workload": BUSY | {"rate": "1 MiB/s"}}, False),
    ],
)
def test_a_guest_is_big_by_its_memory_and_by_what_it_writes(guest: dict[str, Any], big: bool) -> None:
    assert engine.is_big(scenario(guest=guest)) is big


def test_for_a_big_guest_what_is_not_compiled_is_compiled_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(leap, "has_numba", lambda: True)
    monkeypatch.setattr(leap, "is_ready", lambda: bool(asked))

    def prepare() -> bool:
        asked.append(True)
        return True

    monkeypatch.setattr(leap, "prepare", prepare)
    big = scenario(guest={"memory": "8 GiB", "workload": BUSY})
    engine.prepare(scenario(guest={"memory": "8 MiB"}), whole=False, show=print)
    lossy = scenario(guest={"memory": "8 GiB", "workload": BUSY}, link__loss=0.001)
    engine.prepare(lossy, whole=False, show=print)
    told = capsys.readouterr().err
    assert "for its link's loss is beyond the compiled engine" in told
    assert "--set migration.stop_when_flat=true" in told
    gives_up = lossy.migration.model_copy(update={"stop_when_flat": True})
    engine.prepare(lossy.model_copy(update={"migration": gives_up}), whole=False, show=print)
    told = capsys.readouterr().err
    assert "beyond the compiled engine" in told
    assert "stop_when_flat" not in told
    assert "compiling" not in told
    assert not asked
    engine.prepare(big, whole=False, show=print)
    assert "it takes a minute" in capsys.readouterr().err
    engine.prepare(big, whole=False, show=print)
    assert len(asked) == 1
    assert capsys.readouterr().err == ""


def test_without_numba_nothing_is_said_to_be_compiled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(leap, "has_numba", lambda: False)
    engine.prepare(scenario(guest={"memory": "8 GiB", "workload": BUSY}), whole=False, show=None)
    told = capsys.readouterr().err
    assert "without numba this runs event by event" in told
    assert "compiling" not in told


def test_a_trace_left_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def long(*_: Any, most_events: int | None, watch: Any) -> Any:
        assert most_events == MOST_EVENTS
        result = run(scenario(guest__memory="1 MiB"))
        return dataclasses.replace(result, engine="compiled", invariants={}, trace_sha256=None)

    monkeypatch.setattr(engine, "run", long)
    write(tmp_path, "")
    assert main(["run", str(tmp_path / "small.toml"), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["trace_sha256"] is None
    assert "no trace was made and no invariant checked" in told.err
