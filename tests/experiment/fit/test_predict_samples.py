"""Predictions from polled samples, held against pre-copy reckoned by hand and texts as people paste them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from simmig.cli.main import main
from simmig.experiment.fit.sampled_model import fit_dirtying, model_of
from simmig.trace.qemu_log import LogError
from simmig.trace.qemu_samples import holds_samples, read_samples

MIB = 1 << 20
HMP = """(qemu) info migrate
globals:
store-global-state: on
Migration status: active
total time: 10000 ms
expected downtime: 250 ms
setup: 12 ms
transferred ram: 102400 kbytes
throughput: 83.88 mbps
remaining ram: 3000 kbytes
total ram: 262144 kbytes
duplicate: 10000 pages
normal: 25600 pages
normal bytes: 102400 kbytes
dirty sync count: 2
page size: 4 kbytes
dirty pages rate: 120 pages
"""
NEW_HMP = """Status: active
Time (ms): total=10000, setup=12, exp_down=250
RAM info:
  Throughput (Mbps): 83.88
  Sizes:             pagesize=4 KiB, total=256 MiB
  Transfers:         transferred=100 MiB, remain=2.93 MiB
    Page Types:      normal=25600, zero=10000
  Page Rates (pps):  transfer=2560, dirty=120
  Others:            dirty_syncs=2
"""
VIRSH = """Job type:         Unbounded
Operation:        Outgoing migration
Time elapsed:     10000        ms
Data processed:   100.000 MiB
Memory processed: 100.000 MiB
Memory remaining: 2.930 MiB
Memory total:     256.000 MiB
Dirty rate:       120          pages/s
Page size:        4096         bytes
Iteration:        2
Constant pages:   10000
Normal pages:     25600
Expected downtime: 250          ms
Setup time:       12           ms
"""


def precopy(
    memory: int, bandwidth: float, working_set: int, rate: float, limit_s: float
) -> list[dict[str, object]]:
    """Samples once a second of a migration reckoned by hand: rounds of what was dirtied in the one before."""
    pages, size = memory / 4096, working_set / 4096
    edges: list[tuple[float, float, int]] = []  # when a round began, how much it has to send, syncs
    at, todo, syncs = 0.0, pages * 4096, 1
    while True:
        edges.append((at, todo, syncs))
        took = todo / bandwidth
        at += took
        todo = size * -math.expm1(-rate * took / working_set) * 4096
        syncs += 1
        if todo <= bandwidth * limit_s:
            break
    end_s, total_sent = at + todo / bandwidth, sum(each[1] for each in edges) + todo
    samples = []
    for second in range(1, int(at) + 1):
        index = max(n for n, (began, _, _) in enumerate(edges) if began <= second)
        began, round_todo, count = edges[index]
        sent = sum(each[1] for each in edges[:index]) + (second - began) * bandwidth
        left = round_todo - (second - began) * bandwidth
        samples.append(sample("active", second, sent, left, memory, count))
    samples.append(
        sample("completed", end_s, total_sent, 0, memory, syncs) | {"downtime": round(1000 * todo / bandwidth)}
    )
    return samples


def sample(status: str, at_s: float, sent: float, left: float, memory: int, syncs: int) -> dict[str, object]:
    ram = {"total": memory, "transferred": round(sent), "remaining": round(left), "dirty-sync-count": syncs}
    return {
        "status": status,
        "total-time": round(1000 * at_s),
        "setup-time": 0,
        "expected-downtime": 300,
        "ram": ram | {"normal": round(sent) // 4096, "duplicate": 0, "page-size": 4096},
    }


def written(path: Path, documents: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps({"return": each}) + "\n" for each in documents))
    return path


@pytest.mark.parametrize("text", [HMP, NEW_HMP, VIRSH])
def test_texts_as_people_paste_them_say_the_same(tmp_path: Path, text: str) -> None:
    path = tmp_path / "samples.txt"
    path.write_text(f"$ date\n{text}\n{text.replace('10000', '20000', 1)}")
    assert holds_samples(path)
    samples = read_samples(path).samples
    first, second = samples
    assert (first.total_ms, second.total_ms) in {(10000, 20000), (10000, 10000)}
    assert (first.setup_ms, first.expected_downtime_ms, first.syncs) == (12, 250, 2)
    assert first.transferred_bytes == 100 * MIB
    assert first.memory_bytes == 256 * MIB
    assert first.page_bytes == 4096
    assert (first.zero_pages, first.normal_pages, first.dirty_pages_s) == (10000, 25600, 120)
    assert first.remaining_bytes == pytest.approx(2.93 * MIB, rel=0.01)


def test_json_lines_have_their_time_beside_them_or_in_them(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    told = sample("active", 3, 5 * MIB, MIB, 64 * MIB, 1)
    bare = sample("active", 4, 6 * MIB, MIB, 64 * MIB, 1)
    del bare["total-time"]
    lines = [{"time": 100.0, "return": told}, {"time": 101.5, **bare}, {"calc-time": 2, "dirty-rate": 7}]
    path.write_text("junk\n" + "\n".join(json.dumps(line) for line in lines) + "\n{broken\n")
    sampled = read_samples(path)
    samples, rates = sampled.samples, sampled.rates
    assert [each.total_ms for each in samples] == [3000, 4500]
    assert [(each.interval_s, each.bytes_s) for each in rates] == [(2, 7 * MIB)]


def test_what_is_no_sample_is_told(tmp_path: Path) -> None:
    path = tmp_path / "none.txt"
    path.write_text("{}\nnothing\n")
    assert not holds_samples(path)
    with pytest.raises(LogError, match="no sample of a migration"):
        read_samples(path)


@pytest.mark.parametrize(("size", "rate"), [(1000, 200.0), (5000, 5000.0), (200, 30.0)])
def test_the_working_set_and_the_rate_come_out_of_intervals_of_several_lengths(size: int, rate: float) -> None:
    points = [(t, size * -math.expm1(-rate * t / size)) for t in (0.5, 2.0, 8.0, 30.0)]
    found = fit_dirtying(points, 100_000)
    assert found.working_set_pages == pytest.approx(size, rel=0.1)
    assert found.pages_s == pytest.approx(rate, rel=0.1)
    assert fit_dirtying([], 100).working_set_pages == 0


def test_a_migration_reckoned_by_hand_is_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = precopy(256 * MIB, 16.0 * MIB, 64 * MIB, 6.0 * MIB, 0.3)
    path = written(tmp_path / "samples.jsonl", documents)
    sampled = read_samples(path)
    model = model_of(path, sampled.samples, sampled.rates)
    assert model.bandwidth_bytes_s == pytest.approx(16 * MIB, rel=0.02)
    assert main(["predict", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    recorded_ns = documents[-1]["total-time"] * 1e6  # type: ignore[operator]
    assert told["predicted"]["total_time_ns"] == pytest.approx(recorded_ns, rel=0.1)
    low_ns, high_ns = told["predicted"]["total_time_range_ns"]
    assert low_ns <= recorded_ns <= high_ns
    assert told["check"]["total_time"] == pytest.approx(1, abs=0.5)  # the first half has seen one sync at most


def test_a_what_if_goes_on_from_the_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "samples.jsonl", precopy(64 * MIB, 16.0 * MIB, 16 * MIB, 2.0 * MIB, 0.3))
    assert main(["predict", str(path), "--set", "link.bandwidth=1 Gbit/s"]) == 0
    text = capsys.readouterr().out
    assert "bandwidth       16 MiB/s" in text
    assert "total time" in text


def test_a_guest_of_any_size_is_answered_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No page of it is simulated: 256 GiB would take hours."""
    documents = precopy(256 << 30, 1200.0 * MIB, 16 << 30, 300.0 * MIB, 0.3)
    path = written(tmp_path / "samples.jsonl", documents)
    assert main(["predict", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["predicted"]["engine"] == "reckoned"
    recorded_ns = documents[-1]["total-time"] * 1e6  # type: ignore[operator]
    assert told["predicted"]["total_time_ns"] == pytest.approx(recorded_ns, rel=0.1)
    change = "migration.change=[{round = 2, downtime_limit = '60 s'}]"
    assert main(["predict", str(path), "--json", "--set", change]) == 0
    sooner = json.loads(capsys.readouterr().out)
    assert sooner["predicted"]["total_time_ns"] < told["predicted"]["total_time_ns"]
    assert sooner["predicted"]["downtime_ns"] > 10 * told["predicted"]["downtime_ns"]


def test_one_interval_alone_fits_small_sets_and_large() -> None:
    """After 4 s 1000 distinct pages were dirty: 1000 written often, or 1000 of very many."""
    found = fit_dirtying([(4.0, 1000.0)], 100_000)
    (small, fast), (large, slow) = found.ends
    assert small < 1010
    assert large == 100_000
    assert fast > 2 * slow
    assert slow == pytest.approx(250, rel=0.02)
    assert small < found.working_set_pages < large


def test_samples_that_tell_too_little_are_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "samples.jsonl", [{"status": "active", "total-time": 5}])
    assert main(["predict", str(path)]) == 2
    assert "no sample tells the guest's memory" in capsys.readouterr().err
