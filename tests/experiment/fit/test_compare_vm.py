"""What is made of a VM that was watched: the guest to simulate, the prediction, the verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from simmig.cli.main import main
from simmig.experiment.errors import InputError
from simmig.experiment.fit.calibrate import Model
from simmig.experiment.fit.calibrate_log import Figure as Calibrated
from simmig.experiment.fit.compare_vm import (
    PHASES,
    Figure,
    Measured,
    PolicyRow,
    predict,
    scenarios,
    start_afresh,
    told_apart,
)
from simmig.experiment.fit.model_file import read_model, write_model
from simmig.experiment.fit.watched_vm import Watched
from simmig.experiment.runs.ends import EndResult
from simmig.experiment.runs.observe import Observation
from simmig.experiment.scenario.machine import Devices
from simmig.guest.api import RamBlock
from simmig.guest.workload import Looped

MS = 1_000_000
MIB = 1 << 20
TABLES = {
    "link": {"bandwidth": "100 Mbit/s", "latency": "10 us"},
    "host": {"message": "100 us", "stop": "1 ms", "sync_page": "1 us"},
    "destination_host": {"message": "200 us"},
    "device": {"profile": "rxe"},
}
MODEL = Model(
    Devices("rxe0", "rxe1"), "2026-01-01", "6.1", TABLES, [Calibrated("latency", 1e4, "ns", 3, "writes")]
)
BLOCKS = (RamBlock("pc.ram", 0, 8 * MIB, 0, 0), RamBlock("pc.bios", 0, MIB, 8 * MIB, 2048))
IDLE = Watched(
    Observation(BLOCKS, [(100 * MS, 0, 0)], 100 * MS, 0, 0, 9 * MS),
    500 * MS,
    [(1024, 1024)],
    4000,
    7 * MS,
    5 * MS,
    3 * MS,
    2 * MS,
)
PINNED = ["migration.pin_all=true"]


def test_a_prediction_knows_blocks_zero_pages_and_what_qemu_takes() -> None:
    [(policy, scenario)] = scenarios(Path("qmp"), ["per-chunk"], ["migration.pin_all=false"])
    assert policy == "per-chunk"
    scenario = MODEL.applied_to(scenario)
    predicted = predict(IDLE, scenario)
    assert predicted.result.status == "completed"
    assert predicted.result.figures()["zero_pages"] == 1024
    assert predicted.result.figures()["pages_written"] == 2304 - 1024
    assert predicted.downtime_ns == predicted.result.metrics.downtime_ns + (5 + 2 - 9) * MS
    slower = predict(replace(IDLE, save_ns=105 * MS), scenario)
    assert slower.downtime_ns - predicted.downtime_ns == 100 * MS
    assert slower.total_time_ns - predicted.total_time_ns == 100 * MS


def test_looks_and_the_stop_cost_what_they_did_and_only_here() -> None:
    scenario = IDLE.on_its_hosts(MODEL.applied_to(scenarios(Path("qmp"), [], PINNED)[0][1]))
    assert scenario.host.sync_page_ns == 9 * MS / 2304
    assert scenario.host.stop_ns == 7 * MS
    assert scenario.destination_host is not None
    assert scenario.host.message_ns == 100_000
    assert scenario.destination_host.message_ns == 0
    assert scenario.destination_host.resume_ns == 3 * MS
    assert scenario.destination_host.stop_ns == 0


def test_what_the_vm_writes_is_sent_again() -> None:
    """A page every 10 ms, for as long as the first round takes and beyond the recording."""
    rows = [(10 * MS * (each + 1), each, 1) for each in range(20)]
    writing = replace(IDLE, seen=replace(IDLE.seen, rows=rows, duration_ns=200 * MS, pages_written=20))
    settings = [*PINNED, "migration.downtime_limit=5 ms"]
    [(_, scenario)] = scenarios(Path("qmp"), ["per-round"], settings)
    idle, busy = (predict(each, MODEL.applied_to(scenario)).result.figures() for each in (IDLE, writing))
    assert busy["pages_written"] - idle["pages_written"] >= 20
    assert busy["total_time_ns"] > idle["total_time_ns"]


def test_where_the_recording_is_when_the_migration_begins_is_not_known() -> None:
    """A VM that writes a lot now and then: some downtimes are longer; the prediction is the one in the middle."""
    rows = [(100 * MS * (each + 1), 0, 500 if each == 3 else 0) for each in range(20)]
    bursts = replace(IDLE, seen=replace(IDLE.seen, rows=rows, duration_ns=2000 * MS, pages_written=500))
    [(_, scenario)] = scenarios(Path("qmp"), ["per-round"], [*PINNED, "migration.max_rounds=2"])
    predicted = predict(bursts, MODEL.applied_to(scenario))
    assert len(predicted.results) == PHASES
    assert predicted.downtimes_ns[0] < predicted.downtimes_ns[-1]
    assert predicted.downtime_ns == predicted.downtimes_ns[PHASES // 2]
    assert predicted.result.metrics.downtime_ns + predicted.extra_ns == predicted.downtime_ns


def test_policies_are_told_apart_where_every_run_tells_them_apart() -> None:
    [(_, scenario)] = scenarios(Path("qmp"), [], PINNED)
    predicted = predict(IDLE, MODEL.applied_to(scenario))
    ended = cast("EndResult", predicted.result)

    def row(policy: str, extra_ms: int, *measured_ms: int) -> PolicyRow:
        expected = replace(predicted, extra_ns=extra_ms * MS)
        return PolicyRow(policy, expected, [Measured(ended, each * MS) for each in measured_ms])

    rows = [row("a", 3, 10, 12, 9), row("b", 2, 20, 22, 21), row("c", 5, 21, 30, 29), row("d", 9, 1, 2)]
    assert told_apart(rows) == [("a", "b", False), ("a", "c", True)]


@pytest.mark.parametrize("phase", [0.0, 0.2, 0.5, 0.99])
def test_a_recording_that_is_begun_later_has_the_same_writes(phase: float) -> None:
    rows = [(each * MS, each, 1) for each in range(1, 11)] + [(10 * MS, 30, 2)]
    later = replace(IDLE, seen=replace(IDLE.seen, rows=rows)).subject(phase).machine.workload
    assert isinstance(later, Looped)
    assert later.writes_by(10 * MS) == 12
    whole = later.batch(0)[:24].tolist()
    assert sorted(whole[:12]) == [*range(1, 11), 30, 31]
    assert whole[12:] == whole[:12]
    assert later.writes_by(MS) == (1 if phase < 0.9 else 3)


def test_a_vm_that_was_watched_for_too_short_a_time_is_told_of() -> None:
    assert "longer than it was watched" in IDLE.words
    assert "longer than" not in replace(IDLE, first_round_ns=100 * MS).words


@pytest.mark.parametrize(
    ("predicted_ms", "measured_ms", "hit"),
    [
        *((1250, 1000, True), (1251, 1000, False), (750, 1000, True), (749, 1000, False)),
        *((150, 100, True), (151, 100, False), (50, 100, True), (49, 100, False), (50, 0, True)),
    ],
)
def test_a_hit_is_near_by_share_or_by_time(predicted_ms: int, measured_ms: int, hit: bool) -> None:
    assert Figure(predicted_ms * MS, measured_ms * MS).hit is hit


def test_a_model_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "model.toml"
    write_model(MODEL, file)
    model = read_model(file)
    assert model.tables == TABLES
    assert model.devices == MODEL.devices
    assert (model.made, model.kernel) == (MODEL.made, MODEL.kernel)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no table [link]"),
        ("link = 3", "no table [link]"),
        ("[link]\nbandwidth = '1 Gbit/s'\nlatency = '1 us'\n", "no table [host]"),
        ("[link]\nbandwidth = '1 Gbit/s'\nlatency = '1 us'\n[host]\nstopp = '1 us'\n", "host.stopp"),
        ("[link]\nbandwidth = 'fast'\nlatency = '1 us'\n[host]\n", "link.bandwidth"),
    ],
)
def test_what_is_no_model_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "model.toml").write_text(text)
    with pytest.raises(InputError, match=r"model\.toml") as caught:
        read_model(tmp_path / "model.toml")
    assert words in str(caught.value)


def test_a_command_that_cannot_start_the_vm_anew_ends_it() -> None:
    start_afresh("true")
    with pytest.raises(OSError, match="status 3"):
        start_afresh("exit 3")


QEMU = ["compare", "--qemu", "none", "--to", "127.0.0.1:4444"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare"], "name a SCENARIO"),
        (["compare", "--qemu", "none"], "--to ADDRESS:PORT"),
        ([*QEMU, "--model", "none.toml"], "none.toml"),
        ([*QEMU, "--model", "model.toml"], "none: No such file"),
        ([*QEMU, "--model", "model.toml", "--device", "a", "--device", "b"], "--device: with --model, once"),
        ([*QEMU, "--model", "model.toml", "--for", "5"], "--for"),
        ([*QEMU, "--model", "model.toml", "--for", "10 ms"], "at least 1 s"),
        ([*QEMU, "--model", "model.toml", "--repeats", "2"], "--fresh COMMAND"),
        ([*QEMU, "--model", "model.toml", "--policy", "per-chunck"], "per-chunk"),
        ([*QEMU, "--model", "model.toml", "--set", "guest.memory=1 GiB"], "only migration.KEY"),
        ([*QEMU, "--seed", "3"], "without a SCENARIO and a --seed"),
        ([*QEMU, "scenario.toml"], "without a SCENARIO"),
        (["compare", "--qemu", "none", "--to", "nowhere"], "ADDRESS:PORT"),
        (["compare", "scenario.toml", "--to", "127.0.0.1:4444"], "--to: goes with --qemu only"),
        (["compare", "scenario.toml", "--for", "1 s"], "--for: goes with --qemu only"),
        (["compare", "scenario.toml", "--destination-qemu", "x"], "--destination-qemu: goes with --qemu only"),
        (["compare", "scenario.toml", "--policy", "per-chunk", "--policy", "at-switch"], "--policy: one"),
    ],
)
def test_what_cannot_be_compared(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(MODEL, tmp_path / "model.toml")
    assert main([*arguments, "--out", "out"]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.out == ""
    assert not (tmp_path / "out").exists()
