"""Downtime against total time: points, front, names, and what did not complete."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgba
from matplotlib.path import Path
from matplotlib.text import Annotation

from simmig.experiment.reports.plots import tradeoff
from simmig.experiment.reports.plots.band import SHARE
from simmig.experiment.reports.plots.style import POLICIES
from tests.experiment.reports.plots.frames import MS, failed, frame, lost, row, series


def test_points_are_where_the_figures_say_in_units_a_person_reads() -> None:
    drawn = tradeoff.figure(frame(row("per-chunk", 20, 4000), row("final-only", 50, 3000)))
    (axes,) = drawn.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("total time (s)", "downtime (ms)")
    assert series(axes, "per-chunk") == [(4.0, 20.0)]
    assert series(axes, "final-only") == [(3.0, 50.0)]
    assert series(axes, "downtime limit") == [(0.0, 30.0), (1.0, 30.0)]


def test_seeds_are_one_point_at_the_median() -> None:
    rows = [row("per-chunk", downtime, 1000, seed=seed) for seed, downtime in enumerate((10, 12, 90))]
    (axes,) = tradeoff.figure(frame(*rows, row("final-only", 50))).axes
    assert series(axes, "per-chunk") == [(1000.0, 12.0)] or series(axes, "per-chunk") == [(1.0, 12.0)]


times = st.tuples(st.integers(1, 20), st.integers(1, 20))


@given(st.lists(times, min_size=1, max_size=8))
def test_the_front_is_what_nothing_beats(times: list[tuple[int, int]]) -> None:
    points = [tradeoff.Point(str(i), "", "", (x, x, x), (y, y, y), ()) for i, (x, y) in enumerate(times)]
    front = {(point.total_ns[1], point.downtime_ns[1]) for point in tradeoff.front_of(points)}  # type: ignore[index]
    for x, y in times:
        beaten = any(ox <= x and oy <= y and (ox, oy) != (x, y) for ox, oy in times)
        assert ((x, y) in front) != beaten
    kept = sorted(front)
    assert all(one[1] > two[1] for one, two in itertools.pairwise(kept))


def test_what_did_not_complete_is_in_a_band_and_never_on_the_front() -> None:
    rows = [row("per-chunk", 20, 4000), lost("final-only", 3000), row("at-switch", 30, 5000)]
    (axes,) = tradeoff.figure(frame(*rows)).axes
    ((x, height),) = series(axes, "final-only")
    assert x == 3.0
    assert 0.76 < height < 1
    assert "did not complete" in "".join(text.get_text() for text in axes.texts)
    assert [point.policy for point in tradeoff.front_of(tradeoff.points_of(frame(*rows)))] == ["per-chunk"]


def test_nothing_completed_at_all() -> None:
    (axes,) = tradeoff.figure(frame(lost("final-only"), lost("per-chunk"))).axes
    assert "nothing completed: 2 not-converging" in [text.get_text() for text in axes.texts]
    assert list(axes.get_yticks()) == []


def test_what_could_not_be_simulated_is_in_the_band_too_and_says_why() -> None:
    (axes,) = tradeoff.figure(frame(row("per-chunk", 20, 4000), failed("final-only", "no such luck"))).axes
    assert [place for place, _ in series(axes, "final-only")] == [0.98]
    assert tradeoff.UNTIMED in "".join(text.get_text() for text in axes.texts)
    (axes,) = tradeoff.figure(frame(failed("final-only", "no such luck"))).axes
    assert "nothing completed: 1 not simulated\nno such luck" in [text.get_text() for text in axes.texts]


def test_points_compare_within_one_set_of_circumstances_only() -> None:
    rows = [
        row(policy, 10 * number, link__bandwidth_bit_s=bandwidth)
        for bandwidth in (1_000_000_000, 40_000_000_000)
        for number, policy in enumerate(POLICIES, 1)
    ]
    drawn = tradeoff.figure(frame(*rows))
    assert [axes.get_title(loc="left") for axes in drawn.axes] == ["1 Gbit/s link", "40 Gbit/s link"]


def test_too_many_circumstances_are_said_to_be_some() -> None:
    rows = [row("per-chunk", 10, guest__workload__rate_bytes_s=rate << 20) for rate in range(1, 31)]
    drawn = tradeoff.figure(frame(*rows))
    assert len(drawn.axes) == 8
    assert "8 of 30" in drawn.get_suptitle()


@pytest.mark.parametrize("spread", [0.0, 0.001, 0.02, 1.0])
def test_no_label_hides_another(spread: float) -> None:
    rows = [
        row(policy, 10 * (at + spread * (i % 3)), 1000 * (at + spread * i), migration__slice_ns=at * MS)
        for at in (3.0, 5.0)
        for i, policy in enumerate(POLICIES)
    ]
    (axes,) = tradeoff.figure(frame(*rows)).axes
    labels = [child for child in axes.get_children() if isinstance(child, Annotation)]
    names = [name for label in labels for name in label.get_text().split("\n")]
    assert sorted(names) == sorted(POLICIES * 2) or names == ["every policy"] * 2
    boxes = [super(Annotation, label).get_window_extent() for label in labels]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_no_line_to_a_name_goes_through_another_name() -> None:
    """Eight policies on QEMU's wire and with its freedoms used, as the demo has them."""
    wire = [(7060, 36.6)] * 5 + [(7070, 18.5), (7060, 36.6), (7280, 39)]
    free = [(4350, 163), (4350, 163), (4380, 32), (4960, 46), (4360, 31), (5710, 36.4), (4350, 163), (6920, 39)]
    rows = [
        row(policy, downtime, total, migration__slice_ns=at * MS)
        for at, found in ((50, wire), (100, free))
        for policy, (total, downtime) in zip(POLICIES, found, strict=True)
    ]
    (axes,) = tradeoff.figure(frame(*rows)).axes
    labels = [child for child in axes.get_children() if isinstance(child, Annotation)]
    boxes = [super(Annotation, label).get_window_extent() for label in labels]
    for label, box in zip(labels, boxes, strict=True):
        ends = [axes.transData.transform(label.xy), [(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2]]
        leader = Path(np.array(ends, dtype=float))
        assert not any(leader.intersects_bbox(other) for other in boxes if other is not box)


def test_above_what_completed_the_axis_has_no_numbers() -> None:
    rows = [row("per-chunk", 20, 4000), row("final-only", 900, 3000), lost("at-switch", 5000)]
    drawn = tradeoff.figure(frame(*rows))
    (axes,) = drawn.axes
    drawn.draw_without_rendering()
    bottom, top = axes.transAxes.inverted(), axes.transData
    heights = [float(bottom.transform(top.transform((1, tick)))[1]) for tick in axes.get_yticks()]
    assert max(heights) <= 1 - SHARE + 1e-6
    assert len(heights) > 2


@pytest.mark.parametrize(
    ("downtimes_ms", "label"),
    [((0.8, 0.9, 17.5), "downtime (ms)"), ((0.2, 0.3, 9), "downtime (us)"), ((5, 100, 2000), "downtime (ms)")],
)
def test_a_unit_suits_the_usual_but_no_number_has_five_figures(
    downtimes_ms: tuple[float, ...], label: str
) -> None:
    names = POLICIES[: len(downtimes_ms)]
    (axes,) = tradeoff.figure(frame(*map(row, names, downtimes_ms))).axes
    assert axes.get_ylabel() == label


def test_fills_are_told_by_boxes_that_are_no_policy_s_marker() -> None:
    rows = [
        row(policy, 10, migration__slice_ns=at * MS) for at in (3, 5) for policy in ("final-only", "per-round")
    ]
    (axes,) = tradeoff.figure(frame(*rows)).axes
    boxes = {str(patch.get_label()): to_rgba(patch.get_facecolor())[3] > 0 for patch in axes.patches}
    assert boxes == {"slice 3 ms": True, "slice 5 ms": False}


def test_a_long_legend_makes_the_picture_higher() -> None:
    few, many = (tradeoff.figure(frame(*(row(name, 10) for name in names))) for names in (POLICIES[:2], POLICIES))
    assert many.get_figheight() > few.get_figheight()


def test_a_label_is_not_beside_another_s_point_nor_at_the_edge() -> None:
    times = dict(zip(POLICIES, (4090, 4100, 4110, 4160, 4410, 4120, 4980, 4820), strict=True))
    rows = [row(policy, 13.9, total) for policy, total in times.items()]
    (axes,) = tradeoff.figure(frame(*rows, row("own.py:Mine", 14, 5330))).axes
    frame_box, point_px = axes.get_window_extent(), axes.figure.dpi / 72
    for label in (child for child in axes.get_children() if isinstance(child, Annotation)):
        box, names = super(Annotation, label).get_window_extent(), label.get_text().split("\n")
        assert box.x1 + 0.03 * box.width < frame_box.x1
        for policy, total in times.items():
            x, y = axes.transData.transform((total / 1000, 13.9))
            if policy not in names and box.y0 < y < box.y1 and abs(x - axes.transData.transform(label.xy)[0]) > 90:
                assert min(abs(x - box.x0), abs(x - box.x1)) > 8 * point_px


def test_a_parameter_is_named_only_where_its_policy_has_several_values_of_it() -> None:
    one = frame(row("final-only", 9), row("pending-limit", 5, policy__limit_bytes=4 << 20))
    several = frame(*one.to_dict("records"), row("pending-limit", 7, policy__limit_bytes=8 << 20))
    assert [point.text for point in tradeoff.points_of(one)] == ["final-only", "pending-limit"]
    assert [point.text for point in tradeoff.points_of(several)] == [
        "final-only",
        "pending-limit 4 MiB",
        "pending-limit 8 MiB",
    ]
