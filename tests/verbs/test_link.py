"""Links: closed forms of time, sharing, loss, faults, other traffic; and streams, which must not show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from math import ceil
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.host import HostCosts
from simmig.verbs.sim.link import LinkSpec
from simmig.verbs.sim.memory import ByteSegment
from simmig.verbs.sim.mr import MR
from simmig.verbs.sim.profiles import IDEAL, PROFILES, RXE
from simmig.verbs.sim.qp import QPCap
from simmig.verbs.sim.requester import Requester
from simmig.verbs.sim.runtime import SimRuntime
from tests.verbs.rig import SPEC, End, Rig, write_pattern

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


@contextmanager
def no_streams() -> Iterator[None]:
    with mock.patch.object(Requester, "_begin_stream", return_value=False):
        yield


def finish(rig: Rig, end: End) -> list[tuple[int, int, int]]:
    """Run to the end; the end's completions as (time, wr_id, status)."""
    env = rig.sim.env
    found = []
    while env.peek() < float("inf"):
        env.step()
        found += [(rig.sim.now, wc.wr_id, int(wc.status)) for wc in end.poll_all()]
    return found


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


# --- streams ----------------------------------------------------------------------------------------------------

CHUNK = 64 * 1024
STEP = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 6)),
    st.tuples(st.just("other"), st.integers(1, 3_000)),
    st.tuples(st.just("message"), st.integers(1, 200_000)),
    st.tuples(st.just("unsignalled"), st.integers(1, 4)),
    st.tuples(st.just("read"), st.integers(1, 3)),
    st.tuples(st.just("short"), st.integers(1, 4)),
    st.tuples(st.just("sqd"), st.just(0)),
    st.tuples(st.just("cut"), st.integers(1, 5_000)),
    st.tuples(st.just("dereg"), st.just(0)),
    st.tuples(st.just("bad key"), st.just(0)),
)


class _Log(ByteSegment):
    """Memory that keeps account of what is placed into it, and when."""

    def __init__(self, rig: Rig, length: int, log: list[Any]) -> None:
        super().__init__(length)
        self._rig = rig
        self._log = log

    def dma_write(self, offset: int, payload: Any) -> None:
        super().dma_write(offset, payload)
        self._log.append((self._rig.sim.now, offset, len(payload)))


def play(steps: list[tuple[int, tuple[str, int]]], profile: str) -> tuple[Any, ...]:
    """Do the steps at their times; returns all that happened on both ends, with times."""
    rig = Rig(PROFILES[profile], cap=QPCap(200, 50, 1, 1, 0), depth=1000, timeout=12, retry_cnt=6)
    left, right = rig.left, rig.right
    other_left, other_right = rig.end(0), rig.end(1)
    rig.connect(other_left, other_right)
    link = rig.sim.fabric.links[0]
    log: list[Any] = []
    segment = _Log(rig, CHUNK, log)
    target = MR(right.pd, CHUNK, 7, rig.devices[1].host.memory.map(segment, CHUNK))
    mr = left.buffer(CHUNK)
    other_mr, other_target = other_left.buffer(4096), other_right.buffer(4096)
    spare = left.buffer(CHUNK)
    posted = [0]

    def post(method: str, *args: Any, **kwargs: Any) -> None:
        posted[0] += 1
        getattr(left, method)(*args, wr_id=posted[0], **kwargs)

    def do(kind: str, number: int) -> None:
        if kind in ("write", "unsignalled", "read", "short"):
            for _ in range(number):
                flags = 0 if kind == "unsignalled" else e.IBV_SEND_SIGNALED
                length = 100 if kind == "short" else CHUNK
                post("read" if kind == "read" else "write", mr, target, length, flags=flags)
        elif kind == "other":
            other_left.write(other_mr, other_target, number)
        elif kind == "message":
            rig.sim.there.transmit(number, lambda at: log.append((rig.sim.now, "message", at)), rig.sim.now)
        elif kind == "sqd" and left.state() == e.IBV_QPS_RTS:
            for state in (e.IBV_QPS_SQD, e.IBV_QPS_RTS):
                attr = left.qp.query(0)[0]
                attr.qp_state = state
                left.qp.modify(attr, e.IBV_QP_STATE)
        elif kind == "cut":
            link.set_up(False)
            rig.sim.at(rig.sim.now + number, lambda: link.set_up(True))
        elif kind == "dereg":
            post("write", spare, target)
            post("write", mr, target)
            spare.close()
        elif kind == "bad key":
            post("write", mr, target, rkey=target.rkey + 1)

    time = 0
    for pause, (kind, number) in steps:
        time += pause
        rig.sim.at(time, lambda kind=kind, number=number: do(kind, number))  # type: ignore[misc]
    completions = finish(rig, left)
    others = [(wc.wr_id, int(wc.status)) for wc in other_left.poll_all()]
    return completions, log, others, rig.sim.there.bytes_sent, rig.sim.there.packets_lost, left.state()


@given(
    steps=st.lists(st.tuples(st.integers(0, 200_000), STEP), min_size=1, max_size=12),
    profile=st.sampled_from(["ideal", "rxe", "mlx5"]),
)
def test_nobody_can_tell_a_stream_from_its_bursts(steps: list[tuple[int, tuple[str, int]]], profile: str) -> None:
    streamed = play(steps, profile)
    with no_streams():
        assert play(steps, profile) == streamed


def test_a_deep_queue_of_long_writes_does_stream() -> None:
    """Else the test above would show nothing."""
    rig = Rig(IDEAL, spec=SPEC)
    mr, target = rig.left.buffer(CHUNK), rig.right.buffer(CHUNK)
    for wr_id in range(5):
        rig.left.write(mr, target, wr_id=wr_id)
    seen = False
    while rig.sim.env.peek() < float("inf"):
        rig.sim.env.step()
        seen = seen or rig.sim.there.stream is not None
    assert seen
    assert rig.sim.there.stream is None
    assert len(rig.left.poll_all()) == 5


@given(
    length=st.sampled_from([2_000, 20_000]),
    depth=st.integers(1, 12),
    count=st.integers(1, 40),
    wake_ns=st.sampled_from([0, 700, 5_000, 30_000]),
    post_ns=st.sampled_from([0, 900, 21_000]),
    disturbances=st.lists(st.integers(0, 400_000), max_size=6),
    signalled=st.integers(1, 3),
    profile=st.sampled_from(list(PROFILES)),
)
def test_a_task_that_sleeps_cannot_tell_either(
    length: int,
    depth: int,
    count: int,
    wake_ns: int,
    post_ns: int,
    disturbances: list[int],
    signalled: int,
    profile: str,
) -> None:
    """Its wake-up may be part of the acknowledgement's event; when it wakes and what it finds must be the same."""

    def wakes() -> list[tuple[int, int]]:
        rig = Rig(PROFILES[profile], costs=HostCosts(wake_ns=wake_ns, post_ns=post_ns, poll_ns=50))
        left = rig.left
        runtime = SimRuntime(rig.devices[0].host)
        mr, target = left.buffer(length), rig.right.buffer(length)
        seen: list[tuple[int, int]] = []
        other = runtime.signal()

        async def writer() -> None:
            posted = done = 0
            left.cq.req_notify()
            while done < count:
                while posted < min(done + depth, count):
                    for index in range(signalled):  # the last of a few is
                        flags = e.IBV_SEND_SIGNALED if index == signalled - 1 else 0
                        left.write(mr, target, wr_id=posted, flags=flags)
                    posted += 1
                await runtime.wait(left.channel, other)
                if left.channel.ready:
                    left.channel.get_cq_event(left.cq)
                    left.cq.ack_events(1)
                    left.cq.req_notify()
                got = len(left.cq.poll(16)[1])
                done += got
                seen.append((rig.sim.now, got))

        for at_ns in disturbances:
            rig.sim.at(at_ns, other.wake_waiters)  # an empty wake-up
        task = runtime.start(writer(), "writer")
        rig.sim.run()
        assert task.done
        assert task._error is None
        return seen

    streamed = wakes()
    with no_streams():
        assert wakes() == streamed
