"""Calibration from a recording: against what is known of the recorded links, from the first round alone."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

import pytest

from simmig.experiment.fit.calibrate_log import Calibration, CalibrationError, calibrate_recording
from simmig.trace.qemu_attempts import read_recording
from simmig.trace.qemu_recording import Recording

DATA = Path(__file__).parents[2] / "data" / "qemu-7.2-rxe"
RUNS: dict[str, dict[str, object]] = json.loads((DATA / "query-migrate.json").read_text())
LOOPBACK = [run for run, said in RUNS.items() if said["netem"] is None]

# Payload rate in MB/s and one-way delay in ms of netem's settings. The rates of 100 and 200 Mbit/s were measured
# with writes of 1 MiB over such links; 60 Mbit/s is its share of payload, 4096 of 4170 bytes.
NETEM = {
    "rate 200mbit delay 1ms": (23.6, 1.0),
    "rate 100mbit delay 2ms": (12.2, 2.0),
    "rate 60mbit delay 1ms": (7.37, 1.0),
}


@cache
def recording(run: str) -> Recording:
    return read_recording(DATA / f"{run}.src.trace.gz")


def value(calibration: Calibration, name: str) -> float:
    return next(figure.value for figure in calibration.figures if figure.name == name)


@pytest.mark.parametrize("run", [run for run in RUNS if run not in LOOPBACK])
def test_the_link_comes_out_as_netem_was_set(run: str) -> None:
    rate_mb_s, delay_ms = NETEM[str(RUNS[run]["netem"])]
    calibration = calibrate_recording(recording(run))
    assert calibration.bandwidth_bit_s / 8e6 == pytest.approx(rate_mb_s, rel=0.05)
    assert calibration.latency_ns / 1e6 == pytest.approx(delay_ms, abs=0.3)
    assert value(calibration, "bandwidth_bit_s") == pytest.approx(calibration.bandwidth_bit_s)


@pytest.mark.parametrize("run", LOOPBACK)
def test_on_one_device_alone_the_sender_is_the_limit(run: str) -> None:
    calibration = calibrate_recording(recording(run))
    assert calibration.latency_ns < 100_000
    # ib_write_bw moved 53.7 MB/s there, 18.6 ns a byte, all of it in the caller.
    assert calibration.source["post_byte_ns"] == pytest.approx(18.6, rel=0.15)
    assert calibration.bandwidth_bit_s > 100 * 8e9 / calibration.source["post_byte_ns"]


@pytest.mark.parametrize("run", RUNS)
def test_nothing_behind_the_first_round_is_used(run: str) -> None:
    whole = recording(run)
    end_ns = whole.first_round_ended_ns
    began_ns = whole.setup_ended_ns
    assert end_ns > began_ns
    messages = [message for message in whole.messages if message.posted_ns < end_ns]
    short = replace(
        whole,
        runs=[run for run in whole.runs if run.seen_ns < end_ns],
        messages=[*messages, whole.messages[len(messages)]],  # one more, which belongs to the next round
        registrations=[chunk for chunk in whole.registrations if chunk.asked_ns < end_ns],
        syncs=whole.syncs[:2],
        slices=[],
        estimates=[],
        decided_ns=-1,
        stopped_ns=-1,
        ended_ns=-1,
    )
    assert calibrate_recording(short).figures == calibrate_recording(whole).figures


@pytest.mark.parametrize("run", RUNS)
def test_each_figure_says_where_it_comes_from_and_each_cost_is_one(run: str) -> None:
    calibration = calibrate_recording(recording(run))
    names = [figure.name for figure in calibration.figures]
    assert len(set(names)) == len(names)
    assert all(figure.source and figure.unit and figure.value >= 0 for figure in calibration.figures)
    pinned = bool(RUNS[run]["pin_all"])
    assert all(cost >= 0 for cost in (*calibration.source.values(), *calibration.destination.values()))
    assert calibration.source["register_page_ns"] > 0
    assert calibration.destination["register_page_ns"] > 0
    assert ("register_ns" in calibration.source) is not pinned
    assert (calibration.source["zero_test_page_ns"] > 0) is not pinned  # under pin-all nobody tests


def test_resamples_differ_and_repeat() -> None:
    run = recording("net60-dirty6-96-pinall")
    one, other = (calibrate_recording(run, Random(seed)) for seed in (1, 2))
    assert one.source != other.source
    assert calibrate_recording(run, Random(1)) == one
    # A resample is no different recording: its mean is near the mean.
    assert one.source["message_ns"] == pytest.approx(calibrate_recording(run).source["message_ns"], rel=0.2)


def test_a_round_without_writes_tells_too_little() -> None:
    whole = recording("net60-dirty6-96-pinall")
    with pytest.raises(CalibrationError, match="no RAM write in the first round"):
        calibrate_recording(replace(whole, runs=[]))
    with pytest.raises(CalibrationError, match="nothing to calibrate send_ns from"):
        calibrate_recording(replace(whole, messages=[replace(m, pending_writes=1) for m in whole.messages]))
