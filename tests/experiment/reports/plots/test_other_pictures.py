"""Parameter, winners, downtime and timelines: right numbers in right places."""

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from simmig.experiment.reports.plots import downtime, parameter, winner
from simmig.experiment.reports.plots.panels import CannotDraw
from simmig.experiment.reports.plots.style import POLICIES, styles
from tests.experiment.reports.plots.frames import MS, failed, frame, lost, row, series


def limits(*mib: int, downtimes: dict[int, tuple[float, ...]]) -> list[dict[str, Any]]:
    return [
        row("pending-limit", value, seed=seed, policy__limit_bytes=limit << 20)
        for limit in mib
        for seed, value in enumerate(downtimes[limit])
    ]


def test_a_parameter_has_its_median_and_its_spread() -> None:
    rows = limits(4, 16, 64, downtimes={4: (10, 11, 19), 16: (20, 22, 30), 64: (60, 65, 70)})
    (axes,) = parameter.figure(frame(*rows)).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("limit (MiB)", "downtime (ms)")
    assert series(axes, "pending-limit") == [(4, 11), (16, 22), (64, 65)]
    band = np.asarray(axes.collections[0].get_paths()[0].vertices).tolist()
    assert {(x, y) for x, y in band} >= {(4, 10), (4, 19), (16, 20), (16, 30), (64, 60), (64, 70)}


def test_a_policy_without_the_parameter_is_a_level_line() -> None:
    rows = limits(4, 16, downtimes={4: (10,), 16: (20,)})
    (axes,) = parameter.figure(frame(*rows, row("final-only", 80, policy__limit_bytes=None))).axes
    assert {y for _, y in series(axes, "final-only (has no such parameter)")} == {80}


def test_a_policy_without_a_free_parameter_is_beside_the_others_in_every_panel() -> None:
    rows = [
        row("pending-limit", limit, policy__limit_bytes=limit << 20, link__bandwidth_bit_s=bandwidth)
        for limit in (4, 16)
        for bandwidth in (10**9, 10**10)
    ]
    rows += [
        row("final-only", 80, policy__limit_bytes=None, link__bandwidth_bit_s=bandwidth)
        for bandwidth in (10**9, 10**10)
    ]
    panels = parameter.figure(frame(*rows), "link.bandwidth_bit_s").axes
    assert [axes.get_title(loc="left") for axes in panels] == ["limit 4 MiB", "limit 16 MiB"]
    for axes, limit in zip(panels, (4, 16), strict=True):
        assert series(axes, "pending-limit") == [(1, limit), (10, limit)]
        assert series(axes, "final-only") == [(1, 80), (10, 80)]


def test_a_policy_without_the_parameter_that_does_not_complete_is_not_left_out() -> None:
    rows = limits(4, 16, downtimes={4: (10,), 16: (20,)})
    (axes,) = parameter.figure(frame(*rows, lost("final-only", policy__limit_bytes=None))).axes
    ((place, height),) = series(axes, "final-only (has no such parameter)")
    assert place < 0.05
    assert 0.76 < height < 1


def test_guests_without_the_key_are_a_level_line_that_says_so() -> None:
    rows = [row("per-chunk", rate, guest__workload__rate_bytes_s=rate << 20) for rate in (100, 200)]
    idle = row("per-chunk", 5, guest__workload__rate_bytes_s=None)
    (axes,) = parameter.figure(frame(*rows, idle), "guest.workload.rate_bytes_s").axes
    assert {y for _, y in series(axes, "per-chunk (dirty rate none)")} == {5}


@pytest.mark.parametrize("up", ["status", "guest.workload.rate_bytes_s"])
def test_up_goes_a_number_that_came_out(up: str) -> None:
    rows = frame(*limits(4, 16, downtimes={4: (10,), 16: (20,)}))
    with pytest.raises(CannotDraw, match=f"{up} is no number that came out"):
        parameter.figure(rows, y=up)
    with pytest.raises(CannotDraw, match="status is no input"):
        parameter.figure(rows, "status")


def test_a_value_at_which_nothing_completes_breaks_the_line_and_is_marked() -> None:
    rates = [100 << 20, 200 << 20, 400 << 20]
    rows = [row("per-chunk", 10, guest__workload__rate_bytes_s=rate) for rate in rates[:2]]
    rows.append(lost("per-chunk", guest__workload__rate_bytes_s=rates[2]))
    (axes,) = parameter.figure(frame(*rows), "guest.workload.rate_bytes_s").axes
    *curve, (x, height) = series(axes, "per-chunk")
    assert curve[:2] == [(100, 10), (200, 10)]
    assert curve[2][0] == x == 400
    assert np.isnan(curve[2][1])
    assert 0.76 < height < 1


def test_a_parameter_is_needed() -> None:
    with pytest.raises(CannotDraw, match="no number varies"):
        parameter.figure(frame(row("per-chunk", 1), row("final-only", 2)))


def judged(*rows: dict[str, Any]) -> winner.Cell:
    return winner.cell_of(frame(*rows))


def test_the_least_downtime_wins_and_near_ones_tie() -> None:
    assert judged(row("per-chunk", 10), row("final-only", 20)).winners == ("per-chunk",)
    assert judged(row("per-chunk", 10.05), row("final-only", 10)).winners == ("final-only", "per-chunk")
    assert judged(row("per-chunk", 10.2), row("final-only", 10)).winners == ("final-only",)


def test_a_spread_over_seeds_that_overlaps_is_a_tie() -> None:
    ours = [row("per-chunk", value, seed=seed) for seed, value in enumerate((10, 14, 15))]
    theirs = [row("final-only", value, seed=seed) for seed, value in enumerate((15, 20, 30))]
    apart = [row("final-only", value, seed=seed) for seed, value in enumerate((16, 20, 30))]
    assert judged(*ours, *theirs).winners == ("final-only", "per-chunk")
    assert judged(*ours, *apart).winners == ("per-chunk",)


def test_who_does_not_complete_every_run_does_not_win() -> None:
    cell = judged(row("per-chunk", 1), lost("per-chunk", seed=2), row("final-only", 90))
    assert (cell.winners, cell.downtime_ns, cell.lost) == (("final-only",), 90 * MS, ("per-chunk",))
    assert judged(lost("per-chunk"), lost("final-only")).winners == ()


def test_a_policy_competes_with_the_parameters_that_complete() -> None:
    ours = [row("every-bytes", 5, policy__limit_bytes=8 << 20), lost("every-bytes", policy__limit_bytes=1 << 20)]
    cell = judged(*ours, row("final-only", 90))
    assert (cell.winners, cell.downtime_ns, cell.lost) == (("every-bytes",), 5 * MS, ())


def test_guests_without_a_key_have_a_place_on_the_map() -> None:
    rows = [
        row(policy, value, link__bandwidth_bit_s=bandwidth, guest__workload__rate_bytes_s=rate)
        for policy, value in (("per-chunk", 1), ("final-only", 2))
        for bandwidth in (10**9, 10**10)
        for rate in (None, 200 << 20, 400 << 20)
    ]
    (axes,) = winner.figure(frame(*rows)).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["200 MiB/s", "400 MiB/s", "none"]
    assert len([text for text in axes.texts if text.get_text() == "1 ms"]) == 6
    with pytest.raises(CannotDraw, match="downtime_ns is no input"):
        winner.figure(frame(*rows), "downtime_ns")


def test_the_map_is_in_the_winners_colours_stripes_for_ties() -> None:
    def cell(i: int, j: int, **of: float) -> list[dict[str, Any]]:
        place = {"link__bandwidth_bit_s": (1 + i) * 10**9, "guest__workload__rate_bytes_s": (1 + j) << 20}
        return [row(name.replace("_", "-"), value, **place) for name, value in of.items()]

    rows = cell(0, 0, per_chunk=1, final_only=2, at_switch=2) + cell(1, 0, per_chunk=2, final_only=2, at_switch=3)
    rows += cell(0, 1, per_chunk=1, final_only=1, at_switch=1)
    rows += [{**each, "status": "failed"} for each in cell(1, 1, per_chunk=1, final_only=1, at_switch=1)]
    keys = ("link.bandwidth_bit_s", "guest.workload.rate_bytes_s")
    (axes,) = winner.figure(frame(*rows), *keys).axes
    looks = styles(POLICIES)

    def colours(i: int, j: int) -> list[str]:
        found = []
        for patch in axes.patches:
            assert isinstance(patch, Rectangle)
            inside = i - 0.51 < patch.get_x() < i + 0.5 and j - 0.51 < patch.get_y() < j + 0.5
            if inside and patch.get_fill():
                found.append(to_hex(patch.get_facecolor()).upper())
        return found

    assert colours(0, 0) == [looks["per-chunk"].color]
    assert colours(1, 0) == [looks["final-only"].color, looks["per-chunk"].color]
    assert colours(0, 1) == ["#E4E4E4"]
    assert colours(1, 1) == ["#FFFFFF"]
    names = {text.get_text() for legend in axes.figure.legends for text in legend.get_texts()}
    assert names >= {"per-chunk", "every policy ties", "no policy completes"}


def test_a_map_needs_two_axes_and_two_policies() -> None:
    with pytest.raises(CannotDraw, match="two circumstances"):
        winner.figure(frame(row("per-chunk", 1), row("final-only", 1)))
    with pytest.raises(CannotDraw, match="one policy"):
        winner.figure(frame(row("per-chunk", 1)))


def test_the_parts_of_a_downtime_add_up_to_it() -> None:
    (axes,) = downtime.figure(frame(row("per-chunk", 8), row("final-only", 80), lost("at-switch"))).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["final-only", "at-switch", "per-chunk"]
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    widths = [sum(bar.get_width() for bar in bars if round(bar.get_y() + 0.36) == i) for i in range(3)]
    assert widths == [80, 0, 8]
    assert [text.get_text().strip() for text in axes.texts if text.get_text().strip()] == [
        "80 ms",
        "\u2717 1 not-converging",
        "8 ms",
    ]


def test_a_downtime_panel_in_which_nothing_completed_has_no_scale() -> None:
    (axes,) = downtime.figure(frame(failed("per-chunk", "no such luck"), lost("final-only"))).axes
    assert list(axes.get_xticks()) == []
    assert axes.get_xlabel() == "downtime: nothing completed"
    assert "\u2717 1 not simulated" in [text.get_text() for text in axes.texts]
