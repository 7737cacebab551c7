"""A calibration is held against the round it comes from, and what it lacks is found."""

from __future__ import annotations

import pytest

from simmig.experiment.fit.calibrate_log import Calibration
from simmig.experiment.fit.calibrate_round import FirstRound, Lacking, settle
from simmig.trace import events as ev

MS = 1_000_000
SLICES, WRITES, BYTES = 10, 40, 40 << 20


def calibration() -> Calibration:
    return Calibration({"message_ns": 1.0 * MS, "write_ns": 2.0 * MS}, {}, bandwidth_bit_s=800_000_000)


def world(slice_ns: float, write_ns: float, byte_ns: float = 0.0, *, link: bool = False) -> FirstRound:
    """A round whose slices take four messages beside their writes."""
    made = FirstRound()
    made.slices, made.writes, made.bytes = SLICES, WRITES, BYTES
    made.beside_ns = round(slice_ns * SLICES)
    made.duration_ns = round(slice_ns * SLICES + write_ns * WRITES + byte_ns * BYTES)
    made.in_flight_ns = made.duration_ns if link else 0
    return made


def simulate(given: Calibration) -> FirstRound:
    byte_ns = 8e9 / given.bandwidth_bit_s
    return world(4 * given.source["message_ns"], given.source["write_ns"], byte_ns)


def test_what_a_slice_and_a_write_lack_is_charged_to_them() -> None:
    lacking = settle(world(6 * MS, 3 * MS, 10.0), calibration(), simulate)
    assert lacking.message_ns == pytest.approx(0.5 * MS)
    assert lacking.write_ns == pytest.approx(1 * MS)
    assert lacking.good
    charged = lacking.charged(calibration())
    assert charged.source["message_ns"] == pytest.approx(1.5 * MS)
    assert simulate(charged).duration_ns == pytest.approx(lacking.recorded_ns, rel=0.005)


def test_a_round_that_the_link_makes_charges_the_link() -> None:
    lacking = settle(world(4 * MS, 2 * MS, 12.0, link=True), calibration(), simulate)
    assert lacking.write_ns == 0
    assert lacking.link_byte_ns == pytest.approx(2.0, rel=0.01)
    assert lacking.charged(calibration()).bandwidth_bit_s == pytest.approx(8e9 / 12.0, rel=0.01)


def test_what_would_make_a_cost_negative_stays_and_is_told() -> None:
    lacking = settle(world(0, 0, 5.0), calibration(), simulate)
    assert lacking.message_ns == pytest.approx(-1 * MS)
    assert lacking.write_ns == pytest.approx(-2 * MS)
    assert not lacking.good
    assert lacking.error > 0.02


def test_near_enough_is_left_alone() -> None:
    recorded = simulate(calibration())
    recorded.duration_ns = round(recorded.duration_ns * 1.004)
    lacking = settle(recorded, calibration(), simulate)
    assert (lacking.message_ns, lacking.write_ns, lacking.link_byte_ns) == (0, 0, 0)


def test_a_log_without_all_of_the_round_says_nothing() -> None:
    assert settle(FirstRound(), calibration(), simulate) == Lacking()


def test_a_round_is_read_from_its_events() -> None:
    reader = FirstRound()
    events: list[ev.AnyEvent] = [
        ev.RoundBegan(10, "source", 1, 512),
        ev.SliceBegan(20, "source", 1),
        ev.WorkPosted(30, "source", 0, 1, "write", 4096, 0, 0, 0),
        ev.WorkPosted(35, "source", 0, 1, "write", 4096, 0, 0, 0),
        ev.WorkCompleted(40, "source", 0, 1, "write", 4096),
        ev.WorkCompleted(50, "source", 0, 1, "write", 4096),
        ev.SliceEnded(58, "source", 1),
        ev.SliceBegan(60, "source", 2),
        ev.SliceEnded(70, "source", 2),
        ev.RoundEnded(80, "source", 1),
        ev.RoundBegan(90, "source", 2, 8),
        ev.WorkPosted(95, "source", 0, 1, "write", 4096, 0, 0, 0),
    ]
    for event in events:
        reader(event)
    assert (reader.duration_ns, reader.slices, reader.writes, reader.bytes) == (70, 2, 2, 8192)
    assert reader.in_flight_ns == 20
    assert reader.beside_ns == 10  # from the completion at 50 to the next slice
