"""The command line of `simmig predict`: streams, exit statuses, files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from simmig.cli.main import main

DATA = Path(__file__).parents[1] / "data" / "qemu-7.2-rxe"
TRACE = DATA / "net60-dirty6-96-pinall.src.trace.gz"
LINES = gzip.decompress(TRACE.read_bytes()).splitlines(keepends=True)


def test_json_is_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(TRACE), "--json"]) == 0
    printed = capsys.readouterr()
    assert list(json.loads(printed.out)) == [
        "log",
        "first_round",
        "rate_limit",
        "link_speeds",
        "calibrated",
        "predicted",
        "recorded",
    ]
    assert printed.err == ""


def test_a_report_is_for_reading_and_out_gets_the_files(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "results"
    assert main(["predict", str(TRACE), "--policy", "per-round", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "Varied: policy per-round" in printed.out
    assert str(out) in printed.out
    assert {"prediction.txt", "prediction.json", "summary.txt", "result.json"} <= {p.name for p in out.iterdir()}
    assert main(["predict", str(TRACE), "--out", str(out)]) == 2
    assert "never overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"[guest]\nmemory = '1 GiB'\n", "not a QEMU trace log"),
        (bytes(range(256)) * 4, "not a QEMU trace log"),
        (TRACE.read_bytes()[:20], "its compressed stream has no end"),
        (b"".join(LINES[:40]), "nothing to calibrate"),
    ],
)
def test_what_tells_too_little_is_bad_input(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: bytes, told: str
) -> None:
    path = tmp_path / "src.trace"
    path.write_bytes(data)
    out = tmp_path / "out"
    assert main(["predict", str(path), "--json", "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert str(path) in printed.err
    assert told in printed.err
    assert not out.exists()


def test_a_log_that_ends_early_is_predicted_and_says_what_is_not_in_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "src.trace.gz"
    path.write_bytes(TRACE.read_bytes()[:-700])
    assert main(["predict", str(path)]) == 0
    text = capsys.readouterr().out
    assert "not in the log" in text
    assert "The log ends early" in text
    assert main(["predict", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["recorded"]["total_time_ns"] is None
    assert document["predicted"]["total_time_ns"] == pytest.approx(16.5e9, rel=0.1)


def test_a_log_that_begins_late_is_predicted_and_says_what_is_not_in_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "src.trace"
    path.write_bytes(b"".join(LINES[100:]))
    assert main(["predict", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["recorded"]["total_time_ns"] is None
    assert document["recorded"]["downtime_ns"] == pytest.approx(493e6, rel=0.01)
    assert any("begins late" in remark for remark in document["log"]["remarks"])


def test_a_file_that_is_not_there_is_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["predict", str(tmp_path / "none.gz")]) == 2
    assert capsys.readouterr().err == f"simmig: {tmp_path / 'none.gz'}: No such file or directory\n"
    assert main(["predict", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"simmig: {tmp_path}: Is a directory\n"


def test_a_varied_migration_that_does_not_converge_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--set", "migration.downtime_limit=1 ms", "--set", "migration.max_rounds=2"]
    trace = str(DATA / "net100-dirty16-128-pinall.src.trace.gz")
    assert main(["predict", trace, *settings, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["predicted"]["status"] == "not-converging"
