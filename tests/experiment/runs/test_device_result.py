"""What a migration on devices says of itself, where that differs from a simulated one's."""

import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from simmig.experiment.fit.calibrate import Model
from simmig.experiment.fit.compare import Comparison
from simmig.experiment.fit.compare_report import report
from simmig.experiment.reports.summary import as_text, summary
from simmig.experiment.result import DeviceResult, Result
from simmig.experiment.runs.ends import EndResult
from simmig.experiment.runs.exchange import Clock
from simmig.experiment.runs.pair import beside
from simmig.experiment.scenario.machine import Devices
from simmig.verbs.rdma import device
from tests.endtoend.worlds import scenario, simulate

WHAT = scenario()


def _told(result: Result) -> str:
    return as_text(summary(result, WHAT))


def _end(side: str, status: str, **changes: Any) -> EndResult:
    simulated = simulate()[0]
    given = {each.name: getattr(simulated, each.name) for each in fields(Result)} | {"status": status}
    end = {
        "side": side,
        "peer": None,
        "silence": "nobody answered",
        "clock_uncertainty_ns": Clock().uncertainty_ns,
    }
    return EndResult(**(given | {"devices": ("rxe0",), "guest_late_ns": 0} | end | changes))


def _on_devices(**changes: Any) -> DeviceResult:
    simulated = simulate()[0]
    given = {each.name: getattr(simulated, each.name) for each in fields(Result)} | {"backend": "rdma"}
    return DeviceResult(**(given | {"devices": ("rxe0", "rxe1"), "guest_late_ns": 0} | changes))


def test_it_names_the_devices_and_not_the_scenario_s_link() -> None:
    assert "rdma on rxe0 and rxe1; policy" in _told(_on_devices())
    assert "10 Gbit/s" not in _told(_on_devices())
    assert _on_devices().figures()["devices"] == ["rxe0", "rxe1"]


def test_a_guest_that_could_not_keep_its_rate_is_told_of() -> None:
    total_ns = _on_devices().metrics.total_time_ns
    assert "could not keep" in _told(_on_devices(guest_late_ns=total_ns // 10))
    assert "could not keep" not in _told(_on_devices(guest_late_ns=total_ns // 1000))


@pytest.mark.parametrize(
    ("side", "status", "running", "told"),
    [
        ("source", "completed", (False, False), "not known of the destination"),
        ("source", "failed", (True, False), "source"),
        ("destination", "failed", (False, False), "not known of the source"),
        ("destination", "completed", (False, True), "destination"),
    ],
)
def test_an_end_that_could_not_ask_the_other_does_not_say_that_no_guest_runs(
    side: str, status: str, running: tuple[bool, bool], told: str
) -> None:
    end = _end(side, status, source_running=running[0], destination_running=running[1])
    (line,) = [line for line in _told(end).splitlines() if "guest runs on" in line]
    assert line.split("guest runs on")[1].strip() == told


def test_there_is_no_verdict_on_a_run_that_did_not_end_well() -> None:
    model = Model(Devices("rxe0", "rxe1"), "then", "6.1")
    good, simulated = _on_devices(), simulate()[0]
    hits = [row.hit for row in Comparison(model, WHAT, simulated, [good]).rows()]
    assert hits[0] is True
    for bad, word in (
        (replace(good, status="failed", reason="the link broke"), "a migration ended failed: the link broke"),
        (replace(good, invariants=good.invariants | {"one_side_runs": False}), "a migration broke one_side_runs"),
    ):
        comparison = Comparison(model, WHAT, simulated, [good, bad])
        assert not comparison.good
        assert {row.hit for row in comparison.rows()} == {None}
        assert f"No verdict, for {word}." in as_text(report(comparison))


def test_a_terminal_s_interrupt_does_not_reach_the_other_end() -> None:
    reading, writing = os.pipe()

    def serve(ready: Callable[[], None]) -> None:
        os.write(writing, str(os.getpgrp()).encode())
        ready()

    with beside(serve):
        assert int(os.read(reading, 100)) != os.getpgrp()
    os.close(reading)
    os.close(writing)


def test_hardware_counts_what_it_sends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counters = tmp_path / "mlx5_0" / "ports" / "1" / "counters"
    counters.mkdir(parents=True)
    (counters / "port_xmit_data").write_text("1000\n")
    monkeypatch.setattr(device, "_CLASS", tmp_path)
    assert device.sent_bytes(None, "mlx5_0") == 4000  # type: ignore[arg-type]
