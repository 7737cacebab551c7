"""Guests from measured dirty rates: measured again, they must show what they were made from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simmig.experiment.errors import InputError
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.dirty_rates import fit_mixture, least_squares_not_negative
from simmig.experiment.scenario.load import build_scenario
from simmig.experiment.scenario.machine import machine_of
from simmig.experiment.scenario.schema import Scenario
from simmig.guest.workload import BATCH_WRITES, Idle, Workload
from simmig.trace.qemu_dirty_rates import DirtyRate, rates_in_texts
from simmig.trace.qemu_samples import read_samples

MIB = 1 << 20
MEASURED = {"calc_time": "1 s", "dirty_rate": "40 MiB/s"}


def scenario(workload: dict[str, Any], **guest: Any) -> Scenario:
    raw: dict[str, Any] = {
        "guest": {"memory": "256 MiB", "workload": {"kind": "dirty-rate", **workload}, **guest},
        "link": {"bandwidth": "10 Gbit/s", "latency": "5 us"},
    }
    return build_scenario(raw, Path("here.toml"))


def dirty_after(workload: Workload, seconds: float, within: range | None = None) -> int:
    """Distinct pages, counted: what dirty-bitmap mode would measure."""
    writes = workload.writes_by(round(seconds * 1e9))
    pages = [workload.batch(index) for index in range(-(-writes // BATCH_WRITES))]
    found = np.unique(np.concatenate(pages)[:writes]) if pages else np.empty(0)
    return len(found) if within is None else int(np.count_nonzero((found >= within.start) & (found < within.stop)))


@pytest.mark.parametrize("working_set", [None, "64 MiB", "41 MiB"])
def test_measured_once_it_measures_the_same(working_set: str | None) -> None:
    more = {} if working_set is None else {"working_set": working_set}
    machine = machine_of(scenario({"measured": [MEASURED], **more}))
    assert len(machine.workload.span) == (256 if working_set is None else int(working_set.split()[0])) * 256
    assert dirty_after(machine.workload, 1.0) == pytest.approx(40 * 256, rel=0.02)


def test_what_is_dirty_after_another_time_depends_on_the_set() -> None:
    small, large = (
        dirty_after(machine_of(scenario({"measured": [MEASURED], "working_set": size})).workload, 5.0)
        for size in ("45 MiB", "256 MiB")
    )
    assert small < 46 * 256
    assert large > 120 * 256


SETS = st.lists(st.tuples(st.floats(5, 30), st.floats(0.05, 4)), min_size=1, max_size=3)


@settings(max_examples=8, deadline=None)
@given(sets=SETS, times=st.sampled_from([(1, 2, 5), (0.375, 0.75, 1.5, 3, 6), (1, 4)]))
def test_measured_several_times_it_measures_the_same_after_each(
    sets: list[tuple[float, float]], times: tuple[float, ...]
) -> None:
    """Curves of guests that are mixtures (MiB, times written over a second): all that a random writer can show."""
    curve = [sum(size * -math.expm1(-speed * t) for size, speed in sets) for t in times]
    tables = [
        {"calc_time": f"{t} s", "dirty_rate": f"{mib / t:.6f} MiB/s"} for t, mib in zip(times, curve, strict=True)
    ]
    workload = machine_of(scenario({"measured": tables})).workload
    for t, mib in zip(times, curve, strict=True):
        assert dirty_after(workload, t) == pytest.approx(mib * 256, rel=0.05, abs=30)


def test_a_mixture_stays_within_its_budget() -> None:
    """As good as linear: a set of any size would do, and no more is there than the guest has."""
    points = [(t, 1000.0 * t) for t in (1.0, 2.0, 4.0)]
    for budget in (4100, 5000, 100_000):
        sets = fit_mixture(points, budget)
        assert sum(size for size, _ in sets) <= budget
    assert sum(size * -math.expm1(-rate * 3 / size) for size, rate in sets) == pytest.approx(3000, rel=0.02)


@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=4, max_size=6), st.data())
def test_least_squares_meets_the_conditions_of_an_optimum(rows: list[list[float]], data: st.DataObject) -> None:
    """Karush-Kuhn-Tucker: no slope where x is free, none upwards where it is at zero."""
    matrix = np.array(rows) + 6 * np.eye(len(rows), 3)
    wanted = np.array(data.draw(st.lists(st.floats(-5, 5), min_size=len(rows), max_size=len(rows))))
    x = least_squares_not_negative(matrix, wanted)
    slope = matrix.T @ (wanted - matrix @ x)
    assert (x >= 0).all()
    assert (slope[x == 0] < 1e-6).all()
    assert np.abs(slope[x > 0]).max(initial=0) < 1e-6


def test_each_vcpu_has_its_own_pages() -> None:
    """The busy one finds all of its half dirty; the sum of the rates would go on."""
    workload = machine_of(
        scenario({"measured": [{"calc_time": "1 s", "vcpu_dirty_rate": ["100 MiB/s", "5 MiB/s"]}]})
    ).workload
    busy, other = range(128 * 256), range(128 * 256, 256 * 256)
    assert dirty_after(workload, 1.0, busy) == pytest.approx(100 * 256, rel=0.02)
    assert dirty_after(workload, 1.0, other) == pytest.approx(5 * 256, rel=0.05)
    assert dirty_after(workload, 4.0, busy) > 126 * 256
    assert dirty_after(workload, 4.0, other) == pytest.approx(19 * 256, rel=0.08)


def test_with_rings_a_page_counts_again_each_second() -> None:
    """Ten seconds at 40 MiB/s: with rings 40 MiB are dirty after one second, with a bitmap 400 after ten."""
    ring = machine_of(scenario({"measured": [{**MEASURED, "calc_time": "10 s", "mode": "dirty-ring"}]})).workload
    assert dirty_after(ring, 1.0) == pytest.approx(40 * 256, rel=0.02)
    with pytest.raises(InputError, match="dirtied 400 MiB in 10 s, no less than the working set"):
        machine_of(scenario({"measured": [{**MEASURED, "calc_time": "10 s", "mode": "dirty-bitmap"}]}))


REPLIES: dict[str, tuple[str, list[DirtyRate]]] = {
    "a reply": (
        '{"return": {"status": "measured", "sample-pages": 512, "dirty-rate": 37, "mode": "page-sampling", '
        '"start-time": 9, "calc-time": 2}}',
        [DirtyRate(2, 37 * MIB)],
    ),
    "milliseconds": (
        '{"status": "measured", "dirty-rate": 8, "calc-time": 250, "calc-time-unit": "millisecond"}',
        [DirtyRate(0.25, 8 * MIB)],
    ),
    "rings": (
        '{"return": {"mode": "dirty-ring", "dirty-rate": 12, "calc-time": 5, "vcpu-dirty-rate": '
        '[{"id": 0, "dirty-rate": 9}, {"id": 1, "dirty-rate": 3}]}}',
        [DirtyRate(1, 12 * MIB, (9.0 * MIB, 3.0 * MIB))],
    ),
    "a curve": (
        '{"periods": [500, 1000], "n-dirty-pages": [3, 5], "n-sampled-pages": 100, "n-total-pages": 2000, '
        '"n-zero-pages": 7, "page-size": 4096, "calc-time": 1, "dirty-rate": 1}',
        [DirtyRate(0.5, 120 * 4096), DirtyRate(1, 100 * 4096)],
    ),
    "not yet": (
        '{"status": "measuring", "calc-time": 5}\n{"dirty-rate": 3, "calc-time": 1}',
        [DirtyRate(1, 3 * MIB)],
    ),
    "info dirty_rate": (
        "(qemu) info dirty_rate\nStatus: measured\nStart Time: 81 (ms)\nSample Pages: 512 (per GB)\n"
        "Period: 3 (sec)\nMode: page-sampling\nDirty rate: 21 (MB/s)\n",
        [DirtyRate(3, 21 * MIB)],
    ),
    "info dirty_rate of vCPUs": (
        "Status: measured\r\nCalc Time: 700 (ms)\r\nMode: dirty-ring\r\nvcpu[0], Dirty rate: 4 (MB/s)\r\n"
        "vcpu[1], Dirty rate: 6 (MB/s)\r\n",
        [DirtyRate(0.7, 10 * MIB, (4.0 * MIB, 6.0 * MIB))],
    ),
    "libvirt": (
        "Domain: 'one'\n  dirtyrate.calc_status=2\n  dirtyrate.calc_start_time=5\n  dirtyrate.calc_period=1\n"
        "  dirtyrate.megabytes_per_second=15\n  dirtyrate.calc_mode=dirty-ring\n"
        "  dirtyrate.vcpu.0.megabytes_per_second=15\n",
        [DirtyRate(1, 15 * MIB, (15.0 * MIB,))],
    ),
}


@pytest.mark.parametrize(("text", "expected"), REPLIES.values(), ids=REPLIES.keys())
def test_replies_are_read(tmp_path: Path, text: str, expected: list[DirtyRate]) -> None:
    path = tmp_path / "rates.txt"
    path.write_bytes(text.encode())
    assert read_samples(path).rates == expected


def test_two_texts_are_two_measurements() -> None:
    lines = ("Status: measured", "Period: 1 (sec)", "Dirty rate: 9 (MB/s)") * 2
    assert list(rates_in_texts(lines)) == [DirtyRate(1, 9 * MIB)] * 2


def test_a_file_of_replies_is_relative_to_its_scenario(tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text(json.dumps({"dirty-rate": 40, "calc-time": 1, "mode": "dirty-bitmap"}))
    raw: dict[str, Any] = {
        "guest": {"memory": "256 MiB", "workload": {"kind": "dirty-rate", "file": "rates.json"}},
        "link": {"bandwidth": "10 Gbit/s", "latency": "5 us"},
    }
    found = machine_of(build_scenario(raw, tmp_path / "here.toml")).workload
    assert found == machine_of(scenario({"measured": [MEASURED]})).workload


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        ({}, 'guest.workload: needs file = "dirty-rate.json"'),
        ({"measured": [MEASURED], "file": "x"}, "one of them"),
        ({"measured": [{"calc_time": "1 s"}]}, r"guest.workload.measured\[0\]: needs dirty_rate"),
        ({"measured": [{**MEASURED, "vcpu_dirty_rate": ["1 MiB/s"]}]}, "leave dirty_rate out"),
        (
            {"measured": [{**MEASURED, "mode": "dirty-rings"}]},
            "measured.0..mode: 'dirty-rings' is unknown; did you mean 'dirty-ring'",
        ),
        ({"measured": [{**MEASURED, "calc_time": "0 s"}]}, "measured.0..calc_time: 0 ns is out of bounds"),
        ({"measured": [MEASURED], "working_set": "1 GiB"}, "workload.working_set is larger"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(workload: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        scenario(workload)


def test_too_much_for_the_set_says_how_much_would_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"give guest.workload.working_set of 40 MiB or more"):
        machine_of(scenario({"measured": [MEASURED], "working_set": "20 MiB"}))
    empty = tmp_path / "none.json"
    empty.write_text('{"status": "active", "total-time": 5}')
    with pytest.raises(InputError, match=r"none.json: guest.workload.file: holds no measured dirty rate"):
        machine_of(scenario({"file": str(empty)}))


def test_nothing_dirtied_is_an_idle_guest() -> None:
    assert machine_of(scenario({"measured": [{"calc_time": "1 s", "dirty_rate": "0 B/s"}]})).workload == Idle()


def test_it_is_the_same_every_time() -> None:
    what = scenario({"measured": [MEASURED]})
    one, other = run(what), run(what)
    assert one.status == "completed"
    assert one.trace_sha256 == other.trace_sha256
    assert all(one.invariants.values())


def test_rows_of_a_recording_count_its_own_pages(tmp_path: Path) -> None:
    rows = tmp_path / "writes.csv"
    rows.write_text("time_ns,first_page,pages\n1000000,1,2\n2000000,100,1\n")
    raw: dict[str, Any] = {
        "guest": {"memory": "201 MiB", "workload": {"kind": "recorded", "file": str(rows), "page": "2 MiB"}},
        "link": {"bandwidth": "10 Gbit/s", "latency": "5 us"},
    }
    workload = machine_of(build_scenario(raw, tmp_path / "a.toml")).workload
    assert workload.writes_by(1_000_000) == 2 * 512
    assert set(workload.batch(0)[: 2 * 512].tolist()) == set(range(512, 3 * 512))
    assert workload.span == range(512, 201 * 256)  # the guest's last is cut short
    raw["guest"]["workload"]["page"] = "4 MiB"
    with pytest.raises(InputError, match="writes page"):
        machine_of(build_scenario(raw, tmp_path / "a.toml"))
