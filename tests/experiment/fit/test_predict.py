"""Predictions of the recorded migrations, held against what was recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from simmig.experiment.errors import InputError
from simmig.experiment.fit.predict import RESAMPLES, Forecast, predict, typical
from simmig.experiment.fit.predict_range import known_errors, range_of
from simmig.experiment.fit.predict_report import DOWNTIME_AIM, TOTAL_TIME_AIM, edge, figures, report, write_into
from simmig.experiment.output import OutputDir
from simmig.experiment.reports.summary import as_text
from simmig.experiment.scenario.load import Overrides

DATA = Path(__file__).parents[2] / "data" / "qemu-7.2-rxe"
RUNS: dict[str, dict[str, Any]] = json.loads((DATA / "query-migrate.json").read_text())
QUICK = "net60-dirty6-96-pinall"

NEWER = DATA.parent / "qemu-10.0-rxe"
DOWNTIME_MISSES = {"net60-dirty6-96-pinall", "q10-net200-dirty24-256-dynamic"}
"""Further off than any other recording, by what the last slice left (docs/predictions.md)."""
RUNS_10: dict[str, dict[str, Any]] = json.loads((NEWER / "query-migrate.json").read_text())


def trace(run: str) -> Path:
    return (NEWER if run in RUNS_10 else DATA) / f"{run}.src.trace.gz"


@pytest.mark.parametrize("run", [*RUNS, *RUNS_10])
def test_a_prediction_comes_near_the_recording(run: str) -> None:
    said = (RUNS | RUNS_10)[run]
    prediction = predict(trace(run))
    document = figures(prediction)
    predicted, recorded = document["predicted"], document["recorded"]

    # The recording, as query-migrate told it.
    assert recorded["status"] == "completed"
    assert recorded["total_time_ns"] / 1e6 == pytest.approx(said["total_time_ms"], abs=10)
    assert recorded["downtime_ns"] / 1e6 == pytest.approx(said["downtime_ms"], abs=7)
    assert recorded["bytes_posted"] == said["bytes_posted"]
    assert recorded["pages_written"] == said["pages_written"]
    assert recorded["zero_pages"] == said["zero_pages"]
    assert recorded["rounds"] == said["bitmap_syncs"] - 1
    assert document["rate_limit"]["kept_as"] == ("qemu-10.0" if run in RUNS_10 else "qemu-7.2")

    # The prediction beside it.
    assert predicted["status"] == "completed"
    assert predicted["memory_identical"]
    assert all(predicted["invariants"].values())
    assert predicted["total_time_ns"] == pytest.approx(recorded["total_time_ns"], rel=TOTAL_TIME_AIM)
    assert predicted["round_table"][0]["duration_ns"] == pytest.approx(
        recorded["round_table"][0]["duration_ns"], rel=TOTAL_TIME_AIM
    )
    assert predicted["bytes_posted"] == pytest.approx(recorded["bytes_posted"], rel=0.15)
    assert predicted["zero_pages"] == pytest.approx(recorded["zero_pages"], rel=0.02)
    assert predicted["slices"] == pytest.approx(recorded["slices"], rel=0.25)
    assert document["first_round"]["reproduced"], prediction.lacking
    # Near, or inside the range that is made of all other recordings' errors.
    others = [each.downtime for each in known_errors() if not each.recording.endswith(f"/{run}")]
    assert len(others) == len(RUNS) + len(RUNS_10) - 1
    low_ns, high_ns = range_of([downtime_ns for _, downtime_ns in prediction.predicted.resampled], others)
    near = abs(predicted["downtime_ns"] / recorded["downtime_ns"] - 1) <= DOWNTIME_AIM
    inside = low_ns <= recorded["downtime_ns"] <= high_ns
    assert (near or inside) == (run not in DOWNTIME_MISSES)

    low_ns, high_ns = predicted["downtime_range_ns"]
    assert low_ns <= predicted["downtime_ns"] <= high_ns
    low_ns, high_ns = predicted["total_time_range_ns"]
    assert low_ns <= predicted["total_time_ns"] <= high_ns


def test_json_has_what_was_calibrated_predicted_and_recorded() -> None:
    document = figures(predict(trace(QUICK)))
    assert list(document) == [
        "log",
        "first_round",
        "rate_limit",
        "link_speeds",
        "calibrated",
        "predicted",
        "recorded",
    ]
    assert document["predicted"].keys() >= document["recorded"].keys()
    contract = """status reason backend policy total_time_ns downtime_ns setup_time_ns rounds slices drains
        drain_time_ns forced_drain_time_ns bytes_posted bytes_on_wire zero_pages pages_written throughput_bit_s
        max_pending_bytes pending_bytes_at_stop memory_identical invariants source_running destination_running seed
        trace_sha256"""
    assert document["recorded"].keys() >= set(contract.split())
    assert document["recorded"]["backend"] == "qemu"
    assert document["recorded"]["memory_identical"] is None  # a source's log cannot know
    assert document["predicted"]["backend"] == "sim"
    assert document["predicted"]["resamples"] == RESAMPLES
    for figure in document["calibrated"].values():
        assert figure.keys() == {"value", "unit", "events", "source"}
    json.dumps(document)


def test_a_prediction_repeats() -> None:
    assert figures(predict(trace(QUICK))) == figures(predict(trace(QUICK)))


def test_one_long_slice_without_drains_is_faster_and_stops_with_a_full_queue() -> None:
    overrides = Overrides(["migration.slice=unlimited", "migration.max_bandwidth=unlimited"], "final-only")
    document = figures(predict(trace(QUICK), overrides))
    varied, as_recorded = document["predicted"], document["predicted_as_recorded"]
    assert varied["policy"] == "final-only"
    assert varied["slices"] == 1
    assert varied["total_time_ns"] < as_recorded["total_time_ns"]
    assert varied["downtime_ns"] > 5 * as_recorded["downtime_ns"]
    assert varied["pending_bytes_at_stop"] > 16 << 20
    assert as_recorded["policy"] == "per-iteration"


def test_registering_in_batches_saves_round_trips() -> None:
    overrides = Overrides(["migration.registration_batch=64"])
    document = figures(predict(trace("net200-dirty24-256-dynamic"), overrides))
    varied, as_recorded = document["predicted"], document["predicted_as_recorded"]
    assert varied["status"] == "completed"
    assert varied["total_time_ns"] < 0.95 * as_recorded["total_time_ns"]
    assert varied["forced_drain_time_ns"] < as_recorded["forced_drain_time_ns"]


def test_the_report_says_what_is_calibrated_and_what_predicted() -> None:
    text = as_text(report(predict(trace(QUICK), Overrides(["migration.slice=200 ms"], "per-round"))))
    for told in ("Calibrated:", "Predicted:", "Taken from the whole log:"):
        assert told in text
    assert "Varied: policy per-round, migration.slice=200 ms" in text
    for row in ("total time", "downtime", "RAM sent", "rounds", "setup"):
        assert row in text


def test_a_directory_gets_the_prediction_and_the_run(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with OutputDir(path) as directory:
        prediction = predict(trace(QUICK))
        write_into(directory, prediction)
    assert (path / "prediction.txt").read_text() == as_text(report(prediction))
    assert json.loads((path / "prediction.json").read_bytes()) == json.loads(json.dumps(figures(prediction)))
    result = json.loads((path / "result.json").read_bytes())
    assert result["trace_sha256"] == prediction.predicted.result.trace_sha256
    assert (path / "trace.jsonl.gz").exists()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (Overrides(["guest.memory=8 GiB"]), "--set guest.memory=8 GiB: the guest is the recording's"),
        (Overrides(["migration.slise=1 s"]), "did you mean 'slice'?"),
        (Overrides(policy="pre-iteration"), "did you mean 'per-iteration'?"),
        (Overrides(["migration.transport=tcp"]), "what a socket costs"),
    ],
)
def test_bad_overrides_are_told(overrides: Overrides, told: str) -> None:
    with pytest.raises(InputError) as caught:
        predict(trace(QUICK), overrides)
    assert told in str(caught.value)


def test_a_log_that_cannot_be_used_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "src.trace.gz"
    path.write_bytes(trace(QUICK).read_bytes()[:30])
    with pytest.raises(InputError, match=r"src.trace.gz: not a QEMU trace log.*compressed stream has no end"):
        predict(path)


def test_the_typical_run_is_near_the_mean_in_both_figures() -> None:
    assert typical([(1, 10)]) == 0
    assert typical([(0, 0), (0, 0)]) == 0
    assert typical([(90, 10), (100, 20), (110, 30)]) == 1
    assert typical([(100, 20), (100, 60), (100, 43), (100, 45)]) == 2  # mean 42
    assert typical([(100, 42), (160, 42), (100, 42)]) == 0


def test_a_guest_on_the_edge_of_converging_is_told() -> None:
    """Costs that agree with the log as well, and runs from 20 to 58 s: as one of the recordings has them."""

    def forecast(*totals_s: int, incomplete: int = 0) -> Forecast:
        nothing = cast("Any", None)
        return Forecast(nothing, nothing, [(total * 10**9, 1) for total in totals_s], incomplete=incomplete)

    assert not forecast(56, 58, 61).on_edge
    assert forecast(20, 57, 58).on_edge
    assert forecast(57, 58, 59, incomplete=1).on_edge
    assert not forecast(57, 58, 59, incomplete=3).on_edge  # that is no chance: it does not converge
    (told,) = edge(forecast(20, 57, 58, incomplete=1))
    assert "20 s to 58 s, and 1 do not complete" in told
    assert not list(edge(forecast(56, 58)))
