"""simmig plot, as a person or a script uses it."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simmig.cli.main import main
from simmig.experiment.reports.plots import parameter
from simmig.experiment.reports.plots.results import narrowed, read_results
from simmig.experiment.reports.plots.tradeoff import points_of
from tests.experiment.reports.plots.frames import frame, lost, row, series

SCENARIO = """# A small guest.
[guest]
memory = "8 MiB"
[link]
bandwidth = "10 Gbit/s"
latency = "5 us"
"""
GBIT, MIB = 10**9, 1 << 20


def write(path: Path, rows: pd.DataFrame) -> Path:
    path.mkdir()
    table = pa.Table.from_pandas(rows, preserve_index=False)
    table = table.replace_schema_metadata({"simmig": json.dumps({"versions": {"simmig": "0"}})})
    pq.write_table(table, path / "results.parquet")
    return path


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two policies over two links and two dirty rates, one point of which does not converge."""
    rows = [
        row(policy, 10 * number, link__bandwidth_bit_s=bandwidth * GBIT, guest__workload__rate_bytes_s=rate * MIB)
        for number, policy in enumerate(("final-only", "per-chunk"), 1)
        for bandwidth in (10, 40)
        for rate in (100, 200)
    ]
    rows[0] = lost("final-only", link__bandwidth_bit_s=10 * GBIT, guest__workload__rate_bytes_s=100 * MIB)
    return write(tmp_path / "sweep", frame(*rows))


def test_without_a_kind_all_that_the_data_carry(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["plot", str(sweep), "--out", str(out)]) == 0
    kinds = ("tradeoff", "parameter", "winner", "downtime")
    assert {path.name for path in out.iterdir()} == {f"{kind}.png" for kind in kinds}
    assert str(out / "winner.png") in capsys.readouterr().out
    assert main(["plot", str(sweep), "--out", str(out)]) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_one_picture_in_every_format(sweep: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["plot", str(sweep), "--kind", "winner", "--format", "png,svg,pdf", "--out", str(out)]) == 0
    heads = {"winner.png": b"\x89PNG", "winner.svg": b"<?xml", "winner.pdf": b"%PDF"}
    assert {path.name for path in out.iterdir()} == set(heads)
    assert all((out / name).read_bytes().startswith(head) for name, head in heads.items())


def test_some_points_along_a_key_without_its_unit(sweep: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ["--kind", "parameter", "--x", "guest.workload.rate", "--where", "link.bandwidth=40 Gbit/s"]
    assert main(["plot", str(sweep), *asked, "--format", "svg", "--out", str(out)]) == 0
    assert [path.name for path in out.iterdir()] == ["parameter.svg"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kind", "parameter", "--x", "link.bandwith"], "did you mean 'link.bandwidth'?"),
        (["--where", "policy.nam=x"], "did you mean 'policy.name'?"),
        (["--where", "policy.name=per-round"], "policy.name is final-only, per-chunk"),
        (["--where", "link.bandwidth=25 MiB"], "no unit of rate"),
        (["--where", "link.bandwidth"], "write key=value"),
        (["--kind", "winner", "--where", "link.bandwidth=40 Gbit/s"], "two circumstances"),
        (["--kind", "timelines"], "a sweep keeps no traces"),
        (["--format", "pgn"], "did you mean 'png'?"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["plot", str(sweep), *arguments, "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert told in printed.err
    assert "Traceback" not in printed.err
    assert not (tmp_path / "out").exists()


def test_a_report_is_about_the_points_that_were_asked_for(sweep: Path, tmp_path: Path) -> None:
    report = tmp_path / "some.html"
    assert main(["plot", str(sweep), "--where", "link.bandwidth=40 Gbit/s", "--report", str(report)]) == 0
    text = report.read_text()
    assert "only link.bandwidth=40 Gbit/s" in text
    assert "4 of 4 points completed" in text


def test_points_of_which_nothing_is_known_are_set_aside_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(policy, 10, guest__workload__rate_bytes_s=100 * MIB) for policy in ("final-only", "per-chunk")]
    unknown = dict.fromkeys(rows[0]) | {"error": "values that do not go together"}
    some = write(tmp_path / "some", frame(*rows, unknown))
    assert main(["plot", str(some), "--out", str(tmp_path / "out")]) == 0
    assert "1 of 3 points are in no picture" in capsys.readouterr().err
    assert main(["plot", str(write(tmp_path / "all", frame(unknown))), "--out", str(tmp_path / "none")]) == 2
    assert "of no point the inputs are known" in capsys.readouterr().err


SLICES = {"50 ms": (50e6, None), "round": (None, "round"), "unlimited": (None, "unlimited"), "100 ms": (1e8, None)}


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    """A quantity and the words in its place, in two columns."""
    rows = [
        row("per-chunk", number, migration__slice_ns=quantity) | {"migration.slice": word}
        for number, (quantity, word) in enumerate(SLICES.values(), 1)
    ]
    return write(tmp_path / "slices", frame(*rows))


@pytest.mark.parametrize("told", [*SLICES, "0.05 s"])
def test_a_quantity_and_the_words_in_its_place_are_one_key(slices: Path, told: str) -> None:
    taken = narrowed(read_results(slices), [f"migration.slice={told}"]).frame
    place = [*SLICES].index(told.replace("0.05 s", "50 ms"))
    assert [round(ns / 1e6) for ns in taken["downtime_ns"]] == [1 + place]


def test_what_a_key_s_value_is_called(slices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = read_results(slices)
    (axes,) = parameter.figure(results.frame, "migration.slice_ns").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["50 ms", "100 ms", "round", "unlimited"]
    assert axes.get_xlabel() == "slice"
    assert series(axes, "per-chunk") == [(0, 1), (1, 4), (2, 2), (3, 3)]
    assert {point.wire for point in points_of(results.frame)} == {f"slice {name}" for name in SLICES}
    assert main(["plot", str(slices), "--where", "migration.slice=1 s", "--out", str(tmp_path / "out")]) == 2
    assert "migration.slice is 50 ms, 100 ms, round, unlimited" in capsys.readouterr().err


def test_what_is_no_results_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.parquet").write_text("no parquet")
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    for name, told in (
        ("none", "no such file"),
        ("empty", "has no results.parquet"),
        ("text.parquet", "not a Parquet file"),
        ("other.parquet", "has no column 'status'"),
    ):
        assert main(["plot", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
        assert told in capsys.readouterr().err


def test_runs_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    for policy in ("final-only", "per-chunk"):
        arguments = [str(tmp_path / "scenario.toml"), "--policy", policy, "--out", str(tmp_path / "runs" / policy)]
        assert main(["run", *arguments]) == 0
    assert main(["plot", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["timelines.png"]
    for other, told in ((tmp_path / "typo", "no such directory"), (tmp_path, "holds no run")):
        assert main(["plot", str(tmp_path / "runs"), str(other), "--out", str(tmp_path / "no")]) == 2
        assert f"{other}: " in (err := capsys.readouterr().err)
        assert told in err
    assert main(["plot", str(tmp_path / "runs"), "--kind", "winner", "--out", str(tmp_path / "no")]) == 2
    assert "runs are drawn as timelines" in capsys.readouterr().err
