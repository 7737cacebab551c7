"""Sweep files: the points they stand for, and what is told about those that stand for none."""

from __future__ import annotations

from pathlib import Path

import pytest

from simmig.experiment.errors import InputError
from simmig.experiment.scenario.schema import RecordedTable
from simmig.experiment.studies.sweep.columns import columns_of, columns_of_axes
from simmig.experiment.studies.sweep.spec import load_sweep
from tests.experiment.studies.sweep.small import write


def test_the_grid_has_every_combination_once(tmp_path: Path) -> None:
    text = """
[set]
guest.zero_fraction = 0.25
[variants.wire]
qemu = {}
own = { migration = { control_qp = "own", slice = "unlimited" } }
[axes]
"link.bandwidth" = ["1 Gbit/s", "2 Gbit/s"]
guest.workload = [{ kind = "idle" }, { kind = "sweep", working_set = "1 MiB", rate = "1 MiB/s" }]
policy = ["per-chunk", "pending-limit,limit=1 MiB", { name = "every-bytes", interval = ["1 MiB", "2 MiB"] }]
seed = { from = 1, to = 3 }
"""
    sweep = load_sweep(write(tmp_path, text))
    plan = sweep.plan
    assert plan.points == 2 * 2 * 2 * 4 * 3
    scenarios = [plan.scenario(point) for point in range(plan.points)]
    assert len({repr(scenario) for scenario in scenarios}) == plan.points
    assert {scenario.guest.zero_fraction for scenario in scenarios} == {0.25}
    assert [scenario.seed for scenario in scenarios[:4]] == [1, 2, 3, 1]
    assert plan.labels(0) == {"wire": "qemu"}
    assert plan.labels(plan.points - 1) == {"wire": "own"}
    assert columns_of_axes(plan, sweep.samples) == {
        "wire": ["variant.wire"],
        "link.bandwidth": ["link.bandwidth_bit_s"],
        "guest.workload": [
            "guest.workload.kind",
            "guest.workload.working_set_bytes",
            "guest.workload.rate_bytes_s",
        ],
        "policy": ["policy.name", "policy.limit_bytes", "policy.interval_bytes"],
        "seed": ["seed"],
    }


def test_every_input_is_a_column_of_its_type(tmp_path: Path) -> None:
    sweep = load_sweep(write(tmp_path, 'axes.policy = ["pending-limit"]'))
    columns = columns_of(sweep.plan, sweep.samples)
    row = columns.row(0, sweep.plan, sweep.plan.scenario(0), None, None)
    cells = dict(zip(columns.types(), row, strict=True))
    assert cells["guest.memory_bytes"] == 8 << 20
    assert (cells["migration.slice_ns"], cells["migration.slice"]) == (50_000_000, None)
    assert cells["policy.limit_bytes"] == 64 << 20
    python = {"int": int, "float": float, "bool": bool, "text": str}
    for name, kind in columns.types().items():
        assert cells[name] is None or type(cells[name]) is python[kind], name


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("axes.seed = [1]\nsed = 3", "sweep.toml: sed: unknown key; did you mean 'set'?"),
        ("", "axes: missing"),
        ("axes = 3", "axes: 3 is no table"),
        ('axes.link.bandwith = ["1 Gbit/s"]', "link.bandwith: unknown key; did you mean 'bandwidth'?"),
        ('axes.link.bandwidth = ["1 Gbit/s", "2 GiB"]', '[axes] link.bandwidth: link.bandwidth: "GiB" is no unit'),
        ('axes.policy = ["per-chunk", "per-chnuk"]', "did you mean 'per-chunk'?"),
        ('axes.policy = [{ name = "pending-limit", limt = ["1 MiB"] }]', "did you mean 'limit'?"),
        ("axes.policy = [3]", "neither a policy's name nor a table"),
        ("axes.seed = [1, -1]", "seed: -1"),
        ("[set]\nguest.memry = '1 GiB'\n[axes]\nseed = [1]", "[set]: guest.memry: unknown key"),
        ("variants.wire = {}", "variants.wire: {} is no table of named settings"),
        ("variants.wire.a = 3", "variants.wire.a: 3 is no table"),
        ("[axes]\nseed = { from = 1, to = 99999 }\nlink.loss = { from = 0.0, to = 0.5, count = 999 }", "at most"),
        (
            'variants.load.calm = { guest.workload.rate = "1 MiB/s" }\naxes.guest.workload = [{ kind = "idle" }]',
            "axes.guest.workload: undoes guest.workload.rate, which variants.load sets",
        ),
        (
            'axes."policy.limit" = ["1 MiB"]\naxes.policy = ["pending-limit"]',
            "axes.policy: undoes policy.limit, which axes.policy.limit sets",
        ),
        ("axes.seed = [", "malformed TOML"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        load_sweep(write(tmp_path, text))
    assert told in str(caught.value)
    assert "sweep.toml" in str(caught.value)


def test_paths_are_relative_to_the_sweep(tmp_path: Path) -> None:
    text = """
scenario = "base/recorded.toml"
[set]
host.model = "mine.toml"
[variants.link]
own = { link.model = "mine.toml" }
[axes]
"policy.name" = ["own.py:Slow"]
guest.workload.file = ["seen.csv"]
"""
    write(tmp_path, "")
    (tmp_path / "sweep.toml").write_text(text)
    (tmp_path / "mine.toml").write_text('host.wake = "3 us"\nlink = { bandwidth = "2 Gbit/s", latency = "1 us" }')
    (tmp_path / "base").mkdir()
    base = 'guest = { memory = "8 MiB", workload = { kind = "recorded", file = "seen.csv" } }'
    (tmp_path / "base/recorded.toml").write_text(base)
    (sample,) = load_sweep(tmp_path / "sweep.toml").samples
    assert sample.policy.name == f"{tmp_path}/own.py:Slow"
    assert sample.guest.workload == RecordedTable(kind="recorded", file=f"{tmp_path}/seen.csv")
    assert (sample.host.wake_ns, sample.link.bandwidth_bit_s) == (3000, 2 * 10**9)


def test_another_recording_is_another_sweep(tmp_path: Path) -> None:
    path = write(tmp_path, 'axes.guest.workload = [{ kind = "recorded", file = "seen.csv" }]')
    digests = set()
    for text in ("time_ns,first_page,pages\n", "time_ns,first_page,pages\n0,0,1\n"):
        (tmp_path / "seen.csv").write_text(text)
        digests.add(load_sweep(path).sha256())
    assert len(digests) == 2


def test_without_a_scenario_there_is_no_sweep(tmp_path: Path) -> None:
    path = write(tmp_path, "axes.seed = [1]")
    path.write_text("axes.seed = [1]")
    with pytest.raises(InputError, match="scenario: missing"):
        load_sweep(path)
    path.write_text('scenario = "elsewhere.toml"\naxes.seed = [1]')
    with pytest.raises(InputError, match=r"elsewhere.toml: cannot be read"):
        load_sweep(path)


@pytest.mark.parametrize("path", sorted(Path("scenarios/sweeps").glob("*.toml")), ids=lambda path: path.stem)
def test_sweeps_that_come_along_are_whole(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert load_sweep(path).plan.points > 1
