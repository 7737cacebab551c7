"""simmig run, as a person or a script uses it."""

import csv
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from simmig.cli.main import main
from simmig.experiment.result import flat_since
from simmig.trace.reader import read_trace
from tests.interrupts import heeding

SCENARIO = """# A small busy guest.
seed = 3
[guest]
memory = "16 MiB"
zero_fraction = 0.25
device_state = "64 KiB"
workload = { kind = "uniform", working_set = "2 MiB", rate = "50 MiB/s" }
[link]
bandwidth = "10 Gbit/s"
latency = "5 us"
[host]
register = "2 us"
post = "300 ns"
wake = "3 us"
"""

CONTRACT = {
    "status": str,
    "reason": str,
    "backend": str,
    "policy": str,
    "total_time_ns": int,
    "downtime_ns": int,
    "setup_time_ns": int,
    "rounds": int,
    "slices": int,
    "drains": int,
    "drain_time_ns": int,
    "forced_drain_time_ns": int,
    "bytes_posted": int,
    "bytes_on_wire": int,
    "zero_pages": int,
    "pages_written": int,
    "throughput_bit_s": int,
    "max_pending_bytes": int,
    "pending_bytes_at_stop": int,
    "memory_identical": bool,
    "invariants": dict,
    "source_running": bool,
    "destination_running": bool,
    "seed": int,
    "trace_sha256": str,
}


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO)
    return path


def figures(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> dict[str, Any]:
    assert main(["run", *map(str, arguments), "--json"]) == status
    printed = capsys.readouterr()
    assert printed.err == ""
    found: dict[str, Any] = json.loads(printed.out)
    return found


def test_json_is_one_object_with_every_figure(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    found = figures(capsys, scenario)
    for name, kind in CONTRACT.items():
        assert type(found[name]) is kind, name
    assert (found["status"], found["reason"], found["backend"], found["seed"]) == ("completed", "", "sim", 3)
    assert (found["source_running"], found["destination_running"]) == (False, True)
    assert found["memory_identical"]
    assert found["invariants"]
    assert all(found["invariants"].values())


def test_the_figures_agree_with_each_other(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    found = figures(capsys, scenario)
    assert found["bytes_posted"] == found["pages_written"] * 4096
    assert found["bytes_on_wire"] > found["bytes_posted"]
    assert found["pages_written"] + found["zero_pages"] >= 4096
    assert found["zero_pages"] >= 1024
    assert sum(found["downtime_parts"].values()) == found["downtime_ns"]
    assert 0 < found["downtime_ns"] < found["total_time_ns"]
    assert (
        found["drain_time_ns"] + found["forced_drain_time_ns"] + found["protocol_drain_time_ns"]
        < found["total_time_ns"]
    )


def test_a_summary_says_how_it_went(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    assert main(["run", str(scenario)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(
        "completed: 16 MiB guest, uniform; rdma over a link (10 Gbit/s); policy per-iteration\n"
    )
    for words in ("total time", "downtime", "residual pages", "identical", "destination"):
        assert words in printed.out
    assert "\x1b" not in printed.out
    assert printed.err == ""


def test_out_holds_everything(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    out = scenario.parent / "deep" / "out"
    found = figures(capsys, scenario, "--out", out)
    assert sorted(path.name for path in out.iterdir()) == [
        "result.json",
        "summary.txt",
        "timeline.json",
        "timeline.png",
        "trace.jsonl.gz",
    ]
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert (out.stat().st_mode & 0o777) == (0o777 & ~current_umask())
    lines = gzip.decompress((out / "trace.jsonl.gz").read_bytes())
    assert hashlib.sha256(lines).hexdigest() == found["trace_sha256"]
    events = list(read_trace(out / "trace.jsonl.gz"))
    assert len(events) == lines.count(b"\n")
    kept = json.loads((out / "result.json").read_text())
    assert {key: kept[key] for key in found} == found
    assert sum(row["bytes_posted"] for row in kept["round_table"]) == found["bytes_posted"]
    assert len(kept["slice_table"]) == found["slices"]
    assert json.loads((out / "timeline.json").read_text())["traceEvents"]
    assert (out / "timeline.png").read_bytes().startswith(b"\x89PNG")
    assert "completed" in (out / "summary.txt").read_text()


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_an_empty_directory_will_do_and_a_full_one_is_kept(
    capsys: pytest.CaptureFixture[str], scenario: Path
) -> None:
    out = scenario.parent / "out"
    out.mkdir()
    figures(capsys, scenario, "--out", out)
    before = (out / "result.json").read_bytes()
    assert main(["run", str(scenario), "--seed", "9", "--out", str(out)]) == 2
    assert (out / "result.json").read_bytes() == before


def test_the_seed_of_the_command_line_wins(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    ours, other = figures(capsys, scenario), figures(capsys, scenario, "--seed", "4")
    assert other["seed"] == 4
    assert other["trace_sha256"] != ours["trace_sha256"]


def test_a_policy_of_one_s_own_with_a_parameter(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    policy = scenario.parent / "mine.py"
    policy.write_text(
        "from dataclasses import dataclass, field\n@dataclass\nclass Mine:\n"
        "    limit: int = field(default=0, metadata={'unit': 'bytes'})\n"
        "    def drain(self, point, sender):\n        return self.limit\n"
    )
    found = figures(capsys, scenario, "--policy", f"{policy}:Mine,limit=1 MiB", "--set", "migration.pin_all=true")
    assert found["policy"] == f"{policy}:Mine"
    assert found["policy_parameters"] == {"limit": 1 << 20}
    assert found["max_pending_bytes"] <= 2 << 20


def test_a_guest_that_is_too_busy_does_not_converge(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    busy = ("--set", "guest.workload.rate=20 GiB/s", "--set", "migration.downtime_limit=100 us")
    found = figures(capsys, scenario, *busy, "--set", "migration.max_rounds=3", status=1)
    assert found["status"] == "not-converging"
    assert found["reason"]
    assert found["downtime_ns"] is None
    assert set(found["downtime_parts"].values()) == {None}
    assert (found["source_running"], found["destination_running"]) == (True, False)
    assert main(["run", str(scenario), *busy, "--set", "migration.max_rounds=3"]) == 1
    assert "none  it did not complete; the guest was never stopped" in capsys.readouterr().out
    assert all(found["invariants"].values())


def test_a_limit_that_is_exceeded_is_named(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    found = figures(
        capsys, scenario, "--set", "migration.downtime_limit=20 us", "--set", "guest.workload.rate=1 MiB/s"
    )
    assert found["downtime_ns"] > 20_000
    for limit, exceeded in (("20 us", True), ("1 s", False)):
        main(
            [
                "run",
                str(scenario),
                "--set",
                f"migration.downtime_limit={limit}",
                "--set",
                "guest.workload.rate=1 MiB/s",
            ]
        )
        assert ("EXCEEDS  the downtime limit of" in capsys.readouterr().out) is exceeded


def test_rounds_that_stop_shrinking_are_told(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    busy = ("--set", "guest.workload.rate=20 GiB/s", "--set", "migration.downtime_limit=10 us")
    found = figures(capsys, scenario, *busy, "--set", "migration.max_rounds=9", status=1)
    assert found["flat_since_round"] is not None
    assert main(["run", str(scenario), *busy, "--set", "migration.max_rounds=9"]) == 1
    assert f"from round {found['flat_since_round']} on they did not shrink" in capsys.readouterr().out
    assert figures(capsys, scenario)["flat_since_round"] is None


def test_a_hopeless_migration_is_ended_where_that_is_asked_for(
    capsys: pytest.CaptureFixture[str], scenario: Path
) -> None:
    busy = ("--set", "guest.workload.rate=20 GiB/s", "--set", "migration.downtime_limit=10 us")
    assert main(["run", str(scenario), *busy]) == 1
    assert "--stop-when-flat ends there" in capsys.readouterr().out
    found = figures(capsys, scenario, *busy, "--stop-when-flat", status=1)
    assert found["status"] == "not-converging"
    assert found["reason"].startswith(f"rounds did not shrink from round {found['flat_since_round']} on: after")
    assert (found["downtime_ns"], found["source_running"], found["destination_running"]) == (None, True, False)
    assert found["rounds"] == found["flat_since_round"] + 2 < 30
    assert main(["run", str(scenario), *busy, "--stop-when-flat"]) == 1
    assert "--stop-when-flat" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("dirty", "since"),
    [
        ([100, 50, 25, 12], None),
        ([100, 50, 50, 50], None),
        ([100, 50, 50, 49, 52], 3),
        ([100, 50, 52, 30, 31, 30, 29, 40], 5),
        ([100, 99, 98, 97], 2),
        ([], None),
    ],
)
def test_flat_is_three_rounds_that_are_no_smaller(dirty: list[int], since: int | None) -> None:
    assert flat_since(list(enumerate(dirty, 1))) == since


def test_nobody_answers(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    """A link that loses nearly everything: the migration fails, the source goes on, the results are kept."""
    out = scenario.parent / "out"
    found = figures(capsys, scenario, "--set", "link.loss=0.9999", "--out", out, status=1)
    assert found["status"] == "failed"
    assert (found["source_running"], found["destination_running"]) == (True, False)
    assert "failed" in (out / "summary.txt").read_text()


@pytest.mark.parametrize("workload", ["uniform", "hotspot"])
def test_the_same_run_gives_the_same_trace_in_any_process(scenario: Path, workload: str) -> None:
    hot = ["--set", f"guest.workload.kind={workload}"]
    if workload == "hotspot":
        hot += ["--set", "guest.workload.hot_set=64 KiB", "--set", "guest.workload.hot_fraction=0.8"]
    digests = set()
    for seed in ("0", "1", "4242"):
        command = [
            sys.executable,
            "-m",
            "simmig.cli",
            "run",
            str(scenario),
            "--json",
            "--set",
            "link.loss=0.001",
            *hot,
        ]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        digests.add(json.loads(done.stdout)["trace_sha256"])
    assert len(digests) == 1


def test_a_recorded_workload(capsys: pytest.CaptureFixture[str], scenario: Path) -> None:
    with (scenario.parent / "writes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time_ns", "first_page", "pages"])
        rows.writerows((t * 1_000_000, t % 7, 50) for t in range(1, 20))
    text = SCENARIO.splitlines()
    text[6] = 'workload = { kind = "recorded", file = "writes.csv" }'
    scenario.write_text("\n".join(text))
    assert figures(capsys, scenario)["memory_identical"]


def test_an_interrupt_ends_it_cleanly(scenario: Path) -> None:
    out = scenario.parent / "out"
    command = [sys.executable, "-m", "simmig.cli", "run", str(scenario), "--out", str(out)]
    command += ["--set", "guest.memory=64 GiB", "--set", "guest.workload.working_set=8 GiB"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heeding,  # noqa: PLW1509
    )
    while process.poll() is None and not list(scenario.parent.glob(".out.*")):
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert error.strip() == "simmig: interrupted, nothing was written"
    assert [path.name for path in scenario.parent.iterdir()] == ["scenario.toml"]
