"""Links: closed forms of time, sharing, loss, faults, other traffic."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.burst import bytes_begun
from simmig.verbs.sim.link import LinkSpec
from simmig.verbs.sim.profiles import RXE
from simmig.verbs.sim.qp import QPCap
from tests.verbs.rig import SPEC, Rig, finish, write_pattern

ANY_SPEC = st.builds(
    LinkSpec,
    bandwidth_bit_s=st.sampled_from([1_000_000, 23_600_001, 10**9, 25 * 10**9, 40 * 10**9, 100 * 10**9]),
    latency_ns=st.integers(0, 5_000),
    mtu=st.sampled_from([1024, 2048, 4096]),
    header_bytes=st.integers(0, 100),
)


def wire_bytes(spec: LinkSpec, length: int) -> int:
    """On the wire, with rig's path MTU of 1024."""
    return length + max(1, -(-length // 1024)) * spec.header_bytes


def wire_ns(spec: LinkSpec, size: int) -> Fraction:
    return Fraction(size * 8 * 10**9, spec.bandwidth_bit_s)


@given(spec=ANY_SPEC, length=st.integers(0, 3_000_000))
def test_a_message_takes_wire_bytes_over_bandwidth_plus_latency(spec: LinkSpec, length: int) -> None:
    rig = Rig(spec=spec, timeout=0)
    mr, target = rig.left.buffer(3_000_000), rig.right.buffer(3_000_000)
    rig.left.write(mr, target, length)
    rig.left.wait_one()
    assert rig.sim.now == ceil(wire_ns(spec, wire_bytes(spec, length))) + 2 * spec.latency_ns


@given(spec=ANY_SPEC, lengths=st.lists(st.integers(0, 200_000), min_size=1, max_size=30))
def test_a_queue_takes_the_sum_rounded_once(spec: LinkSpec, lengths: list[int]) -> None:
    rig = Rig(spec=spec, timeout=0)
    mr, target = rig.left.buffer(200_000), rig.right.buffer(200_000)
    for wr_id, length in enumerate(lengths):
        rig.left.write(mr, target, length, wr_id=wr_id)
    sent = 0
    expected = []
    for wr_id, length in enumerate(lengths):
        sent += wire_bytes(spec, length)
        expected.append((ceil(wire_ns(spec, sent)) + 2 * spec.latency_ns, wr_id, 0))
    assert finish(rig, rig.left) == expected
    assert rig.sim.there.bytes_sent == sent


@given(spec=ANY_SPEC, length=st.integers(1, 300_000))
def test_both_directions_are_full_speed_at_once(spec: LinkSpec, length: int) -> None:
    rig = Rig(spec=spec, timeout=0)
    left, right = rig.left, rig.right
    mr, target = left.buffer(300_000), right.buffer(300_000)
    left.write(mr, target, length)
    right.write(target, mr, length)
    finish(rig, left)
    assert rig.sim.now == ceil(wire_ns(spec, wire_bytes(spec, length))) + 2 * spec.latency_ns


@given(spec=ANY_SPEC, length=st.integers(1, 300_000))
def test_a_read_takes_the_request_and_the_data(spec: LinkSpec, length: int) -> None:
    rig = Rig(spec=spec, timeout=0)
    mr, source = rig.left.buffer(300_000), rig.right.buffer(300_000)
    rig.left.read(mr, source, length)
    rig.left.wait_one()
    request = ceil(wire_ns(spec, 16 + spec.header_bytes))
    data = ceil(wire_ns(spec, wire_bytes(spec, length)))
    assert rig.sim.now == request + data + 2 * spec.latency_ns


def test_the_flow_of_a_second_queue_pair_overtakes() -> None:
    """A short send on one queue pair waits for two packets, not for the megabytes posted before on another."""
    rig = Rig()
    left, right = rig.left, rig.right
    own_left, own_right = rig.end(0), rig.end(1)
    rig.connect(own_left, own_right)
    mr, target, inbox = left.buffer(1 << 20), right.buffer(1 << 20), own_right.buffer(64)
    data = write_pattern(mr)
    own_right.recv(inbox)
    for wr_id in range(8):
        left.write(mr, target, wr_id=wr_id)
    rig.sim.run_to(3_500_000)  # the fourth is on the wire
    own_left.send(own_left.buffer(64), 64)
    own_right.wait_one()
    assert rig.sim.now <= 3_500_000 + 1024 + 64 + SPEC.latency_ns
    assert len(left.poll_all()) == 3
    assert [wc.wr_id for wc in left.wait(5)] == [3, 4, 5, 6, 7]
    assert rig.sim.now == 8 * (1 << 20) + 64 + 2 * SPEC.latency_ns
    assert target.read(1 << 20, 0) == data


@pytest.mark.parametrize("pairs", [2, 3, 5])
def test_queue_pairs_share_packet_by_packet(pairs: int) -> None:
    rig = Rig()
    ends = [(rig.left, rig.right)]
    for _ in range(pairs - 1):
        ends.append((rig.end(0), rig.end(1)))
        rig.connect(*ends[-1])
    for one, other in ends:
        one.write(one.buffer(102_400), other.buffer(102_400))
    done = []
    for one, _ in ends:
        one.wait_one()
        done.append(rig.sim.now)
    total = pairs * 102_400 + 2 * SPEC.latency_ns
    assert max(done) == total
    assert min(done) >= total - pairs * 1024


def test_other_traffic_shares_the_wire() -> None:
    rig = Rig()
    arrived: list[tuple[str, int]] = []
    rig.left.write(rig.left.buffer(1 << 20), rig.right.buffer(1 << 20))
    rig.sim.run_to(100_000)
    for name, size in (("long", 50_000), ("short", 60)):
        rig.sim.there.transmit(size, lambda name: arrived.append((name, rig.sim.now)), name)
    rig.sim.back.transmit(60, lambda: arrived.append(("back", rig.sim.now)))
    rig.left.wait_one()
    assert rig.sim.now == (1 << 20) + 50_060 + 2 * SPEC.latency_ns
    assert [name for name, _ in arrived] == ["back", "long", "short"]
    assert arrived[0][1] == 100_060 + SPEC.latency_ns
    assert 195_000 < arrived[1][1] < 205_000  # turn and turn about


def test_other_traffic_alone_and_lost() -> None:
    rig = Rig()
    arrived: list[tuple[str, int]] = []
    there, link = rig.sim.there, rig.sim.fabric.links[0]
    there.transmit(5_000, lambda: arrived.append(("first", rig.sim.now)))
    rig.sim.run()
    assert arrived == [("first", 5_000 + SPEC.latency_ns)]
    there.transmit(5_000, arrived.append, "never", on_loss=lambda what: arrived.append((what, rig.sim.now)))
    begin = rig.sim.now
    rig.sim.at(begin + 5_500, lambda: link.set_up(False))
    rig.sim.run()
    assert arrived[1:] == [("never", begin + 5_000 + SPEC.latency_ns)]
    with pytest.raises(ValueError, match="bytes on the wire"):
        there.transmit(0, lambda: None)


@pytest.mark.parametrize(
    ("bandwidth", "latency_ns", "expected_mb_s"),
    [
        (200_000_000, 1_000_000, 23.6),  # "rate 200mbit delay 1ms" of the lab
        (100_000_000, 2_000_000, 12.2),
        (40_000_000, 2_000_000, 4.9),
        (328_000_000, 5_000_000, 22.9),  # "delay 5ms": the lab's processors do 41 MB/s
    ],
)
def test_rxe_window_against_the_lab(bandwidth: int, latency_ns: int, expected_mb_s: float) -> None:
    spec = LinkSpec(bandwidth, latency_ns, 4096, 74)
    rig = Rig(RXE, spec=spec, cap=QPCap(16, 1, 1, 1, 0), path_mtu=e.IBV_MTU_4096, timeout=16)
    mr, target = rig.left.buffer(1 << 20), rig.right.buffer(1 << 20)
    for wr_id in range(16):
        rig.left.write(mr, target, wr_id=wr_id)
    rig.left.wait(16)
    megabytes_s = 16 * (1 << 20) / rig.sim.now * 1e3
    assert megabytes_s == pytest.approx(expected_mb_s, rel=0.13)


def test_a_window_that_binds_lets_through_its_packets_in_a_round_trip() -> None:
    spec = LinkSpec(8_000_000_000, 1_000_000, 4096)
    rig = Rig(RXE, spec=spec, path_mtu=e.IBV_MTU_4096)
    mr, target = rig.left.buffer(1 << 20), rig.right.buffer(1 << 20)
    rig.left.write(mr, target)
    rig.left.wait_one()
    cycles = (
        256 // RXE.window_packets
    )  # each a train of packets, the first of which is answered a round trip later
    assert rig.sim.now == (cycles - 1) * (4096 + 2_000_000) + RXE.window_packets * 4096 + 2_000_000


def test_port_events_and_state() -> None:
    rig = Rig()
    link = rig.sim.fabric.links[0]
    for up, event, state in (
        (False, e.IBV_EVENT_PORT_ERR, e.IBV_PORT_DOWN),
        (True, e.IBV_EVENT_PORT_ACTIVE, e.IBV_PORT_ACTIVE),
    ):
        link.set_up(up)
        link.set_up(up)  # again is a no-op
        for end in (rig.left, rig.right):
            assert end.next_event() == event
            assert end.context.query_port(1).state == state


@pytest.mark.parametrize("loss", [0.001, 0.01, 0.1])
def test_loss_has_the_rate_it_says(loss: float) -> None:
    rig = Rig(spec=LinkSpec(8_000_000_000, 0, 1024, 0, loss))
    there = rig.sim.there
    packets = 30_000
    lost = [0]
    for _ in range(packets):
        there.transmit(1024, lambda: None, on_loss=lambda: lost.__setitem__(0, lost[0] + 1))
    rig.sim.run()
    assert lost[0] == there.packets_lost
    expected = packets * loss
    assert abs(lost[0] - expected) < 5 * expected**0.5


def test_the_same_seed_loses_the_same_packets() -> None:
    def lost(seed: int) -> list[tuple[int, int, int]]:
        rig = Rig(spec=LinkSpec(8_000_000_000, 1_000, 1024, 0, 0.02), seed=seed, retry_cnt=7)
        mr, target = rig.left.buffer(100_000), rig.right.buffer(100_000)
        for wr_id in range(20):
            rig.left.write(mr, target, wr_id=wr_id)
        return finish(rig, rig.left)

    assert lost(1) == lost(1)
    assert lost(1) != lost(2)


def test_goodput_under_loss_falls_and_everything_arrives() -> None:
    def duration(loss: float) -> int:
        rig = Rig(RXE, spec=LinkSpec(10**9, 100_000, 1024, 0, loss), retry_cnt=7, timeout=10)
        mr, target = rig.left.buffer(1 << 20), rig.right.buffer(1 << 20)
        data = write_pattern(mr)
        for wr_id in range(8):
            rig.left.write(mr, target, wr_id=wr_id)
        assert {wc.status for wc in rig.left.wait(8)} == {e.IBV_WC_SUCCESS}
        assert target.read(1 << 20, 0) == data
        return rig.sim.now

    without, some, more = duration(0), duration(0.005), duration(0.02)
    assert without < some < more


@pytest.mark.parametrize(
    "arguments",
    [
        {"bandwidth_bit_s": 0},
        {"bandwidth_bit_s": -5},
        {"latency_ns": -1},
        {"header_bytes": -1},
        {"mtu": 1500},
        {"loss": 1.0},
        {"loss": -0.1},
    ],
)
def test_nonsense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"bandwidth|latency|MTU|loss"):
        LinkSpec(**{"bandwidth_bit_s": 10**9, **arguments})


@given(
    elapsed_ns=st.integers(0, 10**7),
    num=st.integers(1, 8000),
    den=st.integers(1, 100),
    rest=st.integers(0, 99),
    packet_bytes=st.integers(1, 5000),
)
def test_the_packet_on_the_wire_has_begun_and_has_not_ended(
    elapsed_ns: int, num: int, den: int, rest: int, packet_bytes: int
) -> None:
    """On a slow link one may have ended some nanoseconds ago, and no byte of the next be gone."""
    rest %= den

    def end_ns(packets: int) -> Fraction:
        return Fraction(rest + packets * packet_bytes * num, den)

    packets = max(1, -(-bytes_begun(elapsed_ns, rest, num, den) // packet_bytes))
    assert ceil(end_ns(packets)) >= elapsed_ns
    assert packets == 1 or end_ns(packets - 1) <= elapsed_ns
