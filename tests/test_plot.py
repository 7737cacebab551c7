"""Pictures from Python: into an axis of one's own."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from simmig import plot
from simmig.cli.main import main
from simmig.experiment.errors import InputError
from tests.experiment.reports.plots.frames import frame, row, series

GBIT = 10**9
SCENARIO = """# A small guest.
[guest]
memory = "8 MiB"
[link]
bandwidth = "10 Gbit/s"
latency = "5 us"
"""
SLICES = ((50_000_000, None), (None, "unlimited"))
ROWS = frame(
    *(
        row(policy, 10 * number + bandwidth, link__bandwidth_bit_s=bandwidth * GBIT)
        for number, policy in enumerate(("final-only", "per-chunk"), 1)
        for bandwidth in (10, 40)
    )
)
ONE = ROWS[ROWS["link.bandwidth_bit_s"] == 10 * GBIT]


def test_each_draws_into_an_axis_that_is_there() -> None:
    one, two, three = Figure().subplots(1, 3)
    assert plot.tradeoff(ONE, one) is one
    assert series(one, "per-chunk") == [(1.0, 30.0)]
    assert plot.parameter(ROWS, "link.bandwidth", ax=two) is two
    assert series(two, "final-only") == [(10, 20), (40, 50)]
    assert plot.downtime(ONE, three) is three
    assert [label.get_text() for label in three.get_yticklabels()] == ["final-only", "per-chunk"]


def test_without_an_axis_each_makes_a_figure() -> None:
    assert len(plot.tradeoff(ROWS).axes) == 2
    assert len(plot.downtime(ROWS).axes) == 2
    assert len(plot.parameter(ROWS).axes) == 1


def test_what_does_not_compare_is_not_drawn_into_one_axis() -> None:
    with pytest.raises(ValueError, match=r"link\.bandwidth_bit_s vary"):
        plot.tradeoff(ROWS, Figure().subplots())
    with pytest.raises(InputError, match=r"did you mean 'link\.bandwidth'"):
        plot.parameter(ROWS, "link.bandwith")


def test_a_frame_as_pandas_reads_it_will_do() -> None:
    some = [{**ONE.iloc[0], "migration.slice_ns": ns, "migration.slice": word} for ns, word in SLICES]
    rows = frame(*some, dict.fromkeys(some[0]) | {"error": "values that do not go together"})
    for drawn in (plot.tradeoff(rows), plot.downtime(rows), plot.parameter(rows, "migration.slice")):
        (axes, *_) = drawn.axes
        assert "none" not in axes.get_title(loc="left")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["50 ms", "unlimited"]


def test_runs_have_a_lane_each(tmp_path: Path) -> None:
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    places = [tmp_path / policy for policy in ("per-chunk", "final-only")]
    for place in places:
        arguments = ["run", str(tmp_path / "scenario.toml"), "--policy", place.name, "--out", str(place)]
        assert main(arguments) == 0
    axes = Figure().subplots()
    assert plot.timelines(places, axes) is axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["final-only", "per-chunk"]
    told = [text.get_text() for text in axes.texts]
    assert len(told) == 2
    assert all("downtime" in text and "at most" in text for text in told)
