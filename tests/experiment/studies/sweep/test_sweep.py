"""Whole sweeps: the same file however they came to it, and what becomes of points that cannot be simulated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from simmig.cli.main import main
from simmig.experiment.errors import InputError
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.load import Overrides, load_scenario
from simmig.experiment.studies.sweep.pool import COMPILE_FROM, Cluster, compile_if_worthwhile, processes
from simmig.experiment.studies.sweep.spec import load_sweep
from simmig.experiment.studies.sweep.store import Store
from simmig.experiment.studies.sweep.sweep import provenance, run_sweep
from tests.experiment.studies.sweep.small import write
from tests.interrupts import heeding

POINTS = 24
SLOW = f'axes.policy = [{{ name = "own.py:Slow", tag = {{ from = 0, to = {POINTS - 1} }} }}]'
SMALL = 'axes.seed = { from = 1, to = 6 }\naxes.policy = ["final-only", "per-chunk"]'


def sweep(path: Path, out: Path, *options: str) -> int:
    return main(["sweep", str(path), "--out", str(out), *options])


def rows(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(out / "results.parquet").to_pylist()
    return found


def test_a_row_has_what_a_run_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, SMALL)
    assert sweep(path, tmp_path / "out", "--jobs", "1", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["points"], told["simulated"], told["errors"]) == (12, 12, {})
    found = rows(tmp_path / "out")
    assert [row["point"] for row in found] == list(range(12))
    row = found[-1]
    assert (row["seed"], row["policy.name"]) == (6, "per-chunk")
    (tmp_path / "one.toml").write_text((tmp_path / "small.toml").read_text().replace("seed = 1", "seed = 6"))
    figures = run(load_scenario(tmp_path / "one.toml", Overrides(policy="per-chunk"))).figures()
    for name in ("status", "total_time_ns", "downtime_ns", "rounds", "bytes_on_wire", "forced_drain_time_ns"):
        assert row[name] == figures[name]
    assert row["downtime_parts.drain_ns"] == figures["downtime_parts"]["drain_ns"]
    assert row["invariants_held"] is True
    assert row["error"] is None


def test_a_finished_sweep_is_not_run_again_and_another_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write(tmp_path, SMALL), tmp_path / "out"
    assert sweep(path, out, "--jobs", "1") == 0
    before = (out / "results.parquet").read_bytes()
    capsys.readouterr()
    assert sweep(path, out, "--jobs", "1") == 0
    assert "nothing was run" in capsys.readouterr().out
    path.write_text(path.read_text() + "\n[set]\nguest.zero_fraction = 0.5\n")
    assert sweep(path, out, "--jobs", "1") == 2
    assert "another sweep file" in capsys.readouterr().err
    assert (out / "results.parquet").read_bytes() == before
    provenance = json.loads(pq.read_schema(out / "results.parquet").metadata[b"simmig"])
    assert provenance["axes"] == {"seed": ["seed"], "policy": ["policy.name"]}
    assert provenance["scenario"] == (tmp_path / "small.toml").read_text()


def test_a_directory_with_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("x")
    assert sweep(write(tmp_path, SMALL), out) == 2
    assert "holds something else" in capsys.readouterr().err
    assert [file.name for file in out.iterdir()] == ["thesis.tex"]


def start(path: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "simmig.cli", "sweep", str(path), "--out", str(out), "--jobs", "2"]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=heeding,  # noqa: PLW1509
    )


def parts(out: Path) -> set[str]:
    return {part.stem for part in (out / "parts").glob("*.msgpack")}


def points_of(stems: set[str]) -> set[int]:
    ranges = (map(int, stem.split("-")) for stem in stems)
    return {point for begin, end in ranges for point in range(begin, end)}


def ended(process: subprocess.Popen[bytes], out: Path, before: set[str]) -> bool:
    """Wait until a batch more is there, or the process has ended."""
    while process.poll() is None:
        if parts(out) - before:
            return False
        time.sleep(0.005)
    return True


@pytest.mark.parametrize(("kill", "times"), [(signal.SIGKILL, 3), (signal.SIGINT, 1)])
def test_killed_it_goes_on_and_ends_with_the_same_file(tmp_path: Path, kill: signal.Signals, times: int) -> None:
    path, out, ran = write(tmp_path, SLOW), tmp_path / "out", tmp_path / "ran.txt"
    for _ in range(times):
        before = parts(out)
        process = start(path, out)
        assert not ended(process, out, before), "the sweep ended before it could be killed"
        os.kill(process.pid, kill)
        _, told = process.communicate()
        assert process.returncode == (130 if kill is signal.SIGINT else -kill)
        assert kill is not signal.SIGINT or b"the same command goes on there" in told
    done = points_of(parts(out))
    assert done
    assert not (out / "results.parquet").exists()
    time.sleep(0.3)  # orphans, if there are any, would be found out below
    ran.unlink()
    assert sweep(path, out, "--jobs", "1") == 0
    assert {int(line) for line in ran.read_text().split()} == set(range(POINTS)) - done
    assert sweep(path, tmp_path / "undisturbed", "--jobs", "1") == 0
    assert (out / "results.parquet").read_bytes() == (tmp_path / "undisturbed/results.parquet").read_bytes()
    assert {file.name for file in out.iterdir()} == {"results.parquet", "sweep.json"}


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_points_that_cannot_be_simulated_are_told_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], jobs: str
) -> None:
    text = """
[axes]
policy = [{ name = "own.py:Bad", tag = [0, 1, 2, 3] }]
guest.workload.working_set = ["2 MiB", "16 MiB"]
guest.memory = ["8 MiB", "16 MiB"]
"""
    path, out = write(tmp_path, text), tmp_path / "out"
    assert sweep(path, out, "--jobs", jobs) == 1
    assert "no such luck" in capsys.readouterr().out
    found = rows(out)
    assert [row["point"] for row in found] == list(range(16))
    for row in found:
        fits = (row["point"] // 2 % 2, row["point"] % 2) != (1, 0)
        if not fits:
            assert "working_set is larger" in row["error"]
            asked = (row["policy.tag"], row["guest.workload.working_set_bytes"], row["guest.memory_bytes"])
            assert asked == (row["point"] // 4, 16 << 20, 8 << 20)
            assert (row["policy.name"], row["link.latency_ns"]) == (found[0]["policy.name"], 2000)
        elif row["policy.tag"] == 1:
            assert "no such luck" in row["error"]
        elif row["policy.tag"] == 2:
            assert row["error"] == "the worker process that simulated it died"
        else:
            assert row["error"] is None
        assert (row["status"] == "completed") == (row["error"] is None)


def test_one_deadly_point_does_not_cost_a_pool_for_each_beside_it(tmp_path: Path) -> None:
    tags = [*range(3, 23), 2, *range(23, 43)]
    loaded = load_sweep(write(tmp_path, f'axes.policy = [{{ name = "own.py:Bad", tag = {tags} }}]'))
    started = 0

    def workers() -> AbstractContextManager[tuple[Executor, int]]:
        nonlocal started
        started += 1
        return processes(2)

    run_sweep(loaded, tmp_path / "out", workers)
    assert [row["policy.tag"] for row in rows(tmp_path / "out") if row["error"]] == [2]
    assert started <= 4  # the first, the one it dies in alone, one for those beside it, one for the rest


MIXED = """
from dataclasses import dataclass, field


@dataclass
class Mixed:
    limit: int | None = field(default=None, metadata={"unit": "bytes"})
    share: object = 1
    mode: object = 3

    def drain(self, point, sender):
        return self.limit
"""


def test_a_parameter_may_be_of_several_types(tmp_path: Path) -> None:
    other = '{ name = "mixed.py:Mixed", limit = "4 MiB", share = 0.5, mode = "fast" }'
    path = write(tmp_path, f'axes.policy = ["mixed.py:Mixed", {other}, "mixed.py:Mixed"]')
    (tmp_path / "mixed.py").write_text(MIXED)
    assert sweep(path, tmp_path / "out") == 0
    columns = ("policy.limit_bytes", "policy.share", "policy.mode")
    found = [tuple(row[name] for name in columns) for row in rows(tmp_path / "out")]
    assert found == [(None, 1.0, "3"), (4 << 20, 0.5, "fast"), (None, 1.0, "3")]


def test_two_sweeps_do_not_write_to_one_place(tmp_path: Path) -> None:
    loaded = load_sweep(write(tmp_path, SMALL))
    with Store(tmp_path / "out", provenance(loaded)) as store:
        with pytest.raises(InputError, match="another sweep is writing there"), Store(store.path, {}):
            pass
        assert store.done() == []


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_gives_the_same(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    path = write(tmp_path, SMALL)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        assert sweep(path, tmp_path / "dask", "--dask", cluster.scheduler_address) == 0
    assert sweep(path, tmp_path / "here", "--jobs", "1") == 0
    assert (tmp_path / "dask/results.parquet").read_bytes() == (tmp_path / "here/results.parquet").read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_a_point_that_kills_dask_workers_is_told(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    path = write(tmp_path, 'axes.policy = [{ name = "own.py:Bad", tag = [0, 2, 3, 4] }]')
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
    ):
        assert sweep(path, tmp_path / "out", "--dask", cluster.scheduler_address) == 1
    died = "the worker process that simulated it died"
    assert [row["error"] for row in rows(tmp_path / "out")] == [None, died, None, None]


class Noting(Executor):
    """An executor or a Dask client that notes which worker got something to do."""

    def __init__(self, got: list[str], workers: tuple[str, ...] = ()) -> None:
        self.got = got
        self.workers = workers

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        self.got += self.workers
        future: Future[Any] = Future()
        future.set_result(None)
        return future

    def ncores(self) -> dict[str, int]:
        return {"tcp://a:1": 1, "tcp://a:2": 1, "tcp://b:1": 1}

    def get_executor(self, pure: bool, workers: tuple[str, ...] = ()) -> Noting:
        return Noting(self.got, tuple(workers))


def test_every_host_of_a_cluster_compiles_once() -> None:
    client = Noting([])
    compile_if_worthwhile(Cluster(client), [load_scenario(Path("scenarios/quickstart.toml"))], COMPILE_FROM)
    assert [worker.rpartition(":")[0] for worker in client.got] == ["tcp://a", "tcp://b"]


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(write(tmp_path, SMALL), tmp_path / "out", "--dask", "nonsense://nowhere") == 2
    assert "--dask nonsense://nowhere" in capsys.readouterr().err
