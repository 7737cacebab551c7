"""Series keep what matters however long they get."""

import pytest

from simmig.trace.series import MAX_BINS, Amount, Gauge


def test_a_gauge_keeps_extremes_when_bins_merge() -> None:
    gauge = Gauge()
    for i in range(100_000):
        gauge.set(i * 1_000_000, 1 if i != 54_321 else 9)
    gauge.set(100_000_000_000, 0)
    assert len(gauge.bins) <= MAX_BINS
    peak = max(gauge.bins, key=lambda index: gauge.bins[index].high)
    assert gauge.bins[peak].high == 9
    assert peak == 54_321_000_000 // gauge.width_ns
    assert (min(bin_.low for bin_ in gauge.bins.values()), list(gauge.bins.values())[-1].last) == (0, 0)


def test_a_bin_begins_with_the_value_before_it() -> None:
    gauge = Gauge()
    gauge.set(0, 5)
    gauge.set(10 * gauge.width_ns, 7)
    later = gauge.bins[10]
    assert (later.low, later.high, later.last) == (5, 7, 7)


def test_what_comes_late_counts_for_the_newest_bin() -> None:
    gauge = Gauge()
    gauge.set(5 * gauge.width_ns, 1)
    gauge.set(2 * gauge.width_ns, 8)
    assert list(gauge.bins) == [5]
    assert gauge.bins[5].high == 8


@pytest.mark.parametrize("span_ns", [0, 1, 10_000, 10**9, 10**13])
def test_spreading_loses_nothing(span_ns: int) -> None:
    amount = Amount()
    amount.spread(777, 777 + span_ns, 1234.0)
    assert sum(amount.bins.values()) == pytest.approx(1234.0)
    assert len(amount.bins) <= MAX_BINS + 1


def test_spreading_is_even() -> None:
    amount = Amount()
    amount.spread(0, 4 * amount.width_ns, 100.0)
    assert list(amount.bins.values()) == pytest.approx([25.0] * 4)
