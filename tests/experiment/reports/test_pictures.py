"""Tables and pictures: from any outcome, with nothing hidden."""

from pathlib import Path
from typing import Any

import pytest

from simmig.experiment.amounts import format_byte_rate, format_bytes, format_rate, format_time
from simmig.experiment.reports.plots.timeline import figure, plot_timeline
from simmig.experiment.reports.summary import as_text
from simmig.experiment.studies.demo import LEGEND, Comparison, draw, findings, good, runs, table, write_csv
from simmig.trace import events as ev
from simmig.trace.metrics import Metrics


def row(wire: str, policy: str, downtime_ns: int, **changes: Any) -> Comparison:
    figures = {
        "status": "completed",
        "invariants": {"memory_identical": True},
        "total_time_ns": 5_000_000_000,
        "downtime_ns": downtime_ns,
        "drain_time_ns": 1_000_000,
        "forced_drain_time_ns": 2_000_000,
        "protocol_drain_time_ns": 0,
        "max_pending_bytes": 3 << 20,
        "pending_bytes_at_stop": 0,
        "throughput_bit_s": 9_500_000_000,
    }
    return Comparison(wire, policy, figures | changes)


ROWS = [row(wire, policy, 20_000_000 + 1000 * i) for i, (wire, policy) in enumerate(runs())]


def test_the_comparison_has_a_row_a_run_and_adds_the_waits_up() -> None:
    text = as_text(table(ROWS), 140)
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1 + 16
    assert "  ".join(lines[1].split()).count("3  ms  1  ms  2  ms  0  ns") == 1
    assert all(len(line) <= 140 for line in (*lines, *LEGEND.splitlines()))


def test_a_run_that_went_wrong_is_marked() -> None:
    wrong = row("QEMU's wire", "per-chunk", 1, invariants={"memory_identical": False})
    assert not good(wrong)
    assert "per-chunk (completed, BROKEN)" in as_text(table([*ROWS, wrong]), 140)


def test_findings_are_spans_of_the_figures() -> None:
    found = list(findings([row("QEMU's wire", "a", 10_000_000), row("QEMU's wire", "b", 30_000_000), *ROWS[8:]]))
    assert found[1] == "  downtime 10 ms to 30 ms, with 0 B pending at the stop, in a total of 5 s"


def test_csv_has_every_figure_that_is_one(tmp_path: Path) -> None:
    write_csv(ROWS, tmp_path / "all.csv")
    heading, first, *_ = (tmp_path / "all.csv").read_text().splitlines()
    assert heading.startswith("wire,status,total_time_ns,downtime_ns")
    assert first.startswith("QEMU's wire,completed,5000000000,20000000")


def test_the_tradeoff_is_drawn(tmp_path: Path) -> None:
    scenario = tmp_path / "x.toml"
    scenario.write_text('[guest]\nmemory = "8 MiB"\n[link]\nmodel = "roce-25g"\n')
    draw(ROWS, scenario, tmp_path / "tradeoff.png")
    assert (tmp_path / "tradeoff.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "events",
    [
        [],
        [ev.MigrationEnded(0, "source", "failed", "refused")],
        [ev.RoundBegan(5, "source", 1, 10), ev.VmStopped(9, "source")],
        [
            ev.RoundBegan(5, "source", 1, 10),
            ev.WorkPosted(6, "source", 1, 1, "write", 1 << 20),
            ev.PagesDirtied(7, "source", 4),
            ev.VmStopped(10**12, "source"),
            ev.VmResumed(10**12 + 5, "source"),
            ev.MigrationEnded(10**12 + 5, "source", "cancelled", "user"),
        ],
    ],
)
def test_a_timeline_of_any_migration_is_drawn(tmp_path: Path, events: list[ev.AnyEvent]) -> None:
    metrics = Metrics()
    for event in (ev.MigrationBegan(0, "source", 4096, 4096, "rdma", True, "per-chunk", 1), *events):
        metrics(event)
    plot_timeline(metrics, "title", tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_the_downtime_of_what_did_not_complete_has_no_bar() -> None:
    metrics = Metrics()
    for event in (
        ev.MigrationBegan(0, "source", 4096, 4096, "rdma", True, "per-chunk", 1),
        ev.VmStopped(10**6, "source"),
        ev.VmResumed(5 * 10**6, "source"),
        ev.MigrationEnded(5 * 10**6, "source", "failed", "x"),
    ):
        metrics(event)
    downtime = figure(metrics, "title").axes[-1]
    assert not downtime.patches
    assert downtime.get_xlabel() == "no downtime: it did not complete, the guest ran on at the source"


def test_amounts_have_three_figures_and_a_unit() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1536, 10 << 20, 8 << 30, 1 << 50)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "10 MiB",
        "8 GiB",
        "1024 TiB",
    ]
    assert [format_time(n) for n in (0, 999, 14_500, 1_234_567, 2_920_000_000)] == [
        "0 ns",
        "999 ns",
        "14.5 us",
        "1.23 ms",
        "2.92 s",
    ]
    assert [format_rate(n) for n in (0, 26e9, 9.5e9)] == ["0 bit/s", "26 Gbit/s", "9.5 Gbit/s"]
    assert format_byte_rate(209715200) == "200 MiB/s"
