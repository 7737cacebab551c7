"""Predictions from polls of recorded migrations, held against what QEMU itself said when each was over."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from simmig.cli.main import main
from simmig.experiment.fit.predict_samples import SampledPrediction, predict_samples
from simmig.experiment.scenario.load import Overrides
from simmig.trace.qemu_attempts import read_log

ROOT = Path(__file__).parents[3]
LOGS = sorted(ROOT.glob("tests/data/qemu-*-rxe/*.src.trace.gz"))
NEAR = 0.1
FURTHER_OFF = {
    "q10-net200-dirty6-96-dynamic-bw4": "the memory's end is zero, and was not looked at when it was polled last",
    "dirty100-256-dynamic-dt1000": "it dirties as fast as it is sent, and converged in its 30th round by chance",
}


def _polled() -> ModuleType:
    spec = importlib.util.spec_from_file_location("polled", ROOT / "docs" / "polled.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


POLLED = _polled()


def run_of(log: Path) -> str:
    return log.name.removesuffix(".src.trace.gz")


def predicted(log: Path, place: Path, until: float = 1.0) -> SampledPrediction:
    """From the polls of that part of the time."""
    end_ms = until * POLLED.final(log)["total_time_ms"]
    replies = [reply for reply in POLLED.polled(log) if reply["total-time"] <= end_ms]
    return predict_samples(POLLED.write(place / "polled.jsonl", replies), Overrides())


@pytest.mark.parametrize("log", LOGS, ids=run_of)
def test_the_last_poll_would_have_been_what_qemu_said(log: Path) -> None:
    """The poller itself: its counters against QEMU's own, at the end."""
    recording = read_log(log).recording
    told = POLLED.final(log)
    last = POLLED.reply(recording, recording.ended_ns // 1_000_000 + 1)["ram"]
    assert last["normal"] == told["pages_written"]
    assert last["duplicate"] == told["zero_pages"]
    assert last["dirty-sync-count"] == told["bitmap_syncs"]
    assert last["remaining"] == 0


@pytest.mark.parametrize("log", LOGS, ids=run_of)
def test_polls_tell_how_long_it_takes(log: Path, tmp_path: Path) -> None:
    prediction = predicted(log, tmp_path)
    total_ns = POLLED.final(log)["total_time_ms"] * 1_000_000
    if run_of(log) not in FURTHER_OFF:
        assert prediction.predicted.good
        assert prediction.predicted.total_time_ns == pytest.approx(total_ns, rel=NEAR)
    low_ns, high_ns = prediction.total_range_ns
    if prediction.predicted.good:
        assert low_ns <= total_ns <= (high_ns or total_ns)
    else:
        assert prediction.may_not_complete


@pytest.mark.parametrize("log", LOGS, ids=run_of)
def test_half_of_it_promises_no_more_than_it_knows(log: Path, tmp_path: Path) -> None:
    """Before a sync nobody knows what the guest writes, nor what lies in memory that was not looked at."""
    prediction = predicted(log, tmp_path, 0.5)
    total_ns = POLLED.final(log)["total_time_ms"] * 1_000_000
    if prediction.model.tells_of_the_guest:
        assert run_of(log) == "dirty100-256-dynamic-dt1000"
        return
    low_ns, high_ns = prediction.total_range_ns
    assert low_ns <= total_ns or run_of(log) == "q10-net200-dirty6-96-dynamic-bw4"
    assert high_ns is None
    assert prediction.may_not_complete


def test_a_completed_migration_does_not_rule_out_that_the_next_never_converges(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It completed, and with a tenth of the bandwidth the answer is no; polled for half of it, that it may not."""
    log = next(each for each in LOGS if run_of(each) == "dirty64-256-pinall")
    replies = POLLED.polled(log)
    told = POLLED.final(log)
    end = {"total-time": told["total_time_ms"], "downtime": told["downtime_ms"], "status": "completed"}
    path = POLLED.write(tmp_path / "polled.jsonl", [*replies, {**replies[-1], **end}])
    assert main(["predict", str(path)]) == 0
    assert "does not complete" not in capsys.readouterr().out
    main(["predict", str(path), "--set", "link.bandwidth=80 Mbit/s"])
    assert "The predicted migration does not complete" in capsys.readouterr().out
    path = POLLED.write(tmp_path / "polled.jsonl", replies[:9])
    assert main(["predict", str(path), "--json"]) == 0
    asked = json.loads(capsys.readouterr().out)["predicted"]
    assert asked["may_not_complete"]
    assert asked["total_time_range_ns"][1] is None
    assert main(["predict", str(path)]) == 0
    out = capsys.readouterr().out
    assert "do not rule out a guest that never converges" in out
    assert " or more" in out


@pytest.mark.parametrize("log", LOGS, ids=run_of)
def test_no_change_is_seen_where_none_was(log: Path, tmp_path: Path) -> None:
    """One recording does: its memory is registered in the first round, and sent half as fast again after."""
    found = predicted(log, tmp_path).model.stretches
    assert bool(found) == (run_of(log) == "dirty100-256-dynamic-dt1000")
    if found:
        (_, first), (since_ms, later) = found
        assert later > 1.4 * first
        assert abs(since_ms - read_log(log).recording.first_round_ended_ns / 1e6) < 2000


def test_a_speed_that_changes_on_the_way_is_not_averaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """16 MiB/s for 6 s, 4 MiB/s from then on: 256 MiB take 46 s. The average of 20 polls would make 34 of it."""
    mib = 1 << 20
    replies = []
    for second in range(1, 21):
        sent = 16 * mib * min(second, 6) + 4 * mib * max(0, second - 6)
        ram = {"total": 256 * mib, "transferred": sent, "remaining": 256 * mib - sent, "dirty-sync-count": 1}
        ram |= {"normal": sent // 4096, "duplicate": 0, "dirty-pages-rate": 0}
        replies.append({"status": "active", "total-time": 1000 * second, "expected-downtime": 300, "ram": ram})
    path = POLLED.write(tmp_path / "slower.jsonl", replies)
    prediction = predict_samples(path, Overrides())
    assert [round(speed / mib) for _, speed in prediction.model.stretches] == [16, 4]
    assert prediction.predicted.total_time_ns == pytest.approx(46e9, rel=0.03)
    low_ns, high_ns = prediction.downtime_range_ns
    assert high_ns > 3 * low_ns  # a limit would be gone when the guest stands, a slow link would not
    assert main(["predict", str(path)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"from +6 s on 4 MiB/s", out)
    assert "why the speed changed" in out
    unlimited = predict_samples(path, Overrides(["migration.change=[]"])).predicted
    assert unlimited.total_time_ns == pytest.approx(16e9, rel=0.03)
