"""Turns taken by reckoning, which save events and must not show in any other way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.link import Direction, LinkSpec
from simmig.verbs.sim.profiles import IDEAL, PROFILES
from simmig.verbs.sim.qp import QPCap
from tests.verbs.rig import End, Rig

BUFFER = 64 * 1024
SPECS = [
    LinkSpec(7_000_000_000, latency_ns=1_300, mtu=1024, header_bytes=58),
    LinkSpec(40_000_000_000, latency_ns=90_000, mtu=1024, header_bytes=66),
    LinkSpec(1_000_000_000, latency_ns=0, mtu=1024, header_bytes=0),
]
STEP = st.one_of(
    st.tuples(st.just("write"), st.integers(1, BUFFER)),
    st.tuples(st.just("writes"), st.integers(1, 5)),
    st.tuples(st.just("send"), st.integers(1, 5_000)),
    st.tuples(st.just("read"), st.integers(1, 20_000)),
    st.tuples(st.just("fence"), st.integers(1, 20_000)),
    st.tuples(st.just("message"), st.integers(1, 100_000)),
    st.tuples(st.just("back"), st.integers(1, 20_000)),
    st.tuples(st.just("sqd"), st.just(0)),
    st.tuples(st.just("dereg there"), st.just(0)),
    st.tuples(st.just("dereg here"), st.just(0)),
    st.tuples(st.just("bad key"), st.integers(1, 20_000)),
    st.tuples(st.just("reset"), st.just(0)),
)
CUT = st.tuples(st.just("cut"), st.integers(1, 5_000))


class Ties:
    """A packet that ends in the nanosecond in which something else happens: which is first, nobody promises."""

    def __init__(self) -> None:
        self._ends: set[int] = set()
        self._others: set[int] = set()

    @property
    def seen(self) -> bool:
        return bool(self._ends & self._others)

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Packet by packet, with the times noted."""
        depart, settle, settle_turns = Direction._depart, Direction.settle, Direction.settle_turns

        def _depart(wire: Direction, event: Any) -> None:
            self._ends.add(int(wire.env.now))
            depart(wire, event)

        def _settle(wire: Direction) -> None:
            self._others.add(int(wire.env.now))
            settle(wire)

        def _settle_turns(wire: Direction) -> None:
            self._others.add(int(wire.env.now))
            settle_turns(wire)

        with (
            mock.patch.object(Direction, "_together", return_value=False),
            mock.patch.object(Direction, "_depart", _depart),
            mock.patch.object(Direction, "settle", _settle),
            mock.patch.object(Direction, "settle_turns", _settle_turns),
        ):
            yield


class Pair:
    """A connected pair of ends with a region on each side."""

    def __init__(self, rig: Rig, left: End, right: End, sends_are_fetched: bool) -> None:
        self._rig = rig
        self.left, self.right = left, right
        self.here, self.there = left.buffer(BUFFER), right.buffer(BUFFER)
        self.inbox, self.outbox = (
            right.buffer(BUFFER),
            left.buffer(BUFFER),
        )  # for what must not change a write's data
        pattern = bytes([left.qp.qp_num % 251]) * BUFFER
        self.here.write(pattern, BUFFER)
        self.fetched = self.inbox
        if not sends_are_fetched:
            self.fetched = right.buffer(BUFFER)
            self.fetched.write(pattern, BUFFER)
        self.posted = 0

    def post(self, kind: str, length: int) -> None:
        self.posted += 1
        if kind == "send":
            self.right.recv(self.inbox)
            self.left.send(self.here, length, self.posted)
        elif kind == "read":
            self.left.read(self.outbox, self.fetched, length, self.posted)
        else:
            flags = e.IBV_SEND_SIGNALED | (e.IBV_SEND_FENCE if kind == "fence" else 0)
            rkey = self.there.rkey + (kind == "bad key")
            self.left.write(self.here, self.there, length, self.posted, flags=flags, rkey=rkey)

    def do(self, kind: str, number: int) -> None:
        if kind == "writes":
            for _ in range(number):
                self.post("write", 20_000)
        elif kind == "back":
            self.right.write(self.fetched, self.outbox, number)
        elif kind == "sqd" and self.left.state() == e.IBV_QPS_RTS:
            for state in (e.IBV_QPS_SQD, e.IBV_QPS_RTS):
                attr = self.left.qp.query(0)[0]
                attr.qp_state = state
                self.left.qp.modify(attr, e.IBV_QP_STATE)
        elif kind == "dereg there":
            self.there.close()
        elif kind == "dereg here":
            self.here.close()
        elif kind == "reset" and self.left.state() == e.IBV_QPS_RTS:
            attr = self.left.qp.query(0)[0]
            attr.qp_state = e.IBV_QPS_ERR
            self.left.qp.modify(attr, e.IBV_QP_STATE)
        elif kind in ("write", "send", "read", "fence", "bad key") and self.left.state() in (
            e.IBV_QPS_RTS,
            e.IBV_QPS_ERR,
        ):
            self.post(kind, number)


def play(
    pairs: int, steps: list[tuple[int, int, tuple[str, int]]], spec: LinkSpec, profile: str
) -> tuple[Any, ...]:
    """Do the steps (pause, which pair, what) at their times; returns what happened at both ends, with times."""
    rig = Rig(PROFILES[profile], spec, cap=QPCap(200, 200, 1, 1, 0), depth=1000, timeout=12, retry_cnt=6)
    # What is lost is read anew when it is sent again: where that may be, it is memory that no SEND changes.
    sends_are_fetched = all(kind != "cut" for _, _, (kind, _) in steps)
    ends = [Pair(rig, rig.left, rig.right, sends_are_fetched)]
    for _ in range(pairs - 1):
        left, right = rig.end(0), rig.end(1)
        rig.connect(left, right, timeout=12, retry_cnt=6)
        ends.append(Pair(rig, left, right, sends_are_fetched))
    link = rig.sim.fabric.links[0]
    log: list[Any] = []

    def do(pair: Pair, kind: str, number: int) -> None:
        if kind == "message":
            rig.sim.there.transmit(number, lambda at: log.append((rig.sim.now, at)), rig.sim.now)
        elif kind == "cut":
            link.set_up(False)
            rig.sim.at(rig.sim.now + number, lambda: link.set_up(True))
        else:
            pair.do(kind, number)

    for pair in ends:  # so that there is something to take turns with
        pair.do("writes", 5)
    time = 0
    for pause, which, (kind, number) in steps:
        time += pause
        pair = ends[which % pairs]
        rig.sim.at(time, lambda pair=pair, kind=kind, number=number: do(pair, kind, number))  # type: ignore[misc]
    env = rig.sim.env
    while env.peek() < float("inf"):
        env.step()
        for index, pair in enumerate(ends):
            for end in (pair.left, pair.right):
                log += [(rig.sim.now, index, end is pair.left, wc.wr_id, int(wc.status)) for wc in end.poll_all()]
    states = [pair.left.state() for pair in ends]
    memory = [  # of a write that fails, nobody promises how much of it was placed
        mr.segment.dma_read(0, BUFFER)
        for pair, state in zip(ends, states, strict=True)
        if state == e.IBV_QPS_RTS
        for mr in (pair.there, pair.inbox, pair.outbox)
    ]
    return sorted(log), memory, states, rig.sim.there.bytes_sent


@given(
    pairs=st.integers(2, 4),
    steps=st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 3), STEP), min_size=2, max_size=14),
    spec=st.sampled_from(SPECS),
    profile=st.sampled_from(["ideal", "rxe", "mlx5"]),
)
def test_nobody_can_tell_turns_by_reckoning_from_packets(
    pairs: int, steps: list[tuple[int, int, tuple[str, int]]], spec: LinkSpec, profile: str
) -> None:
    ties = Ties()
    with ties.watch():
        by_packets = play(pairs, steps, spec, profile)
    assume(not ties.seen)
    assert play(pairs, steps, spec, profile) == by_packets


@given(
    pairs=st.integers(2, 4),
    steps=st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 3), STEP | CUT), min_size=2, max_size=14),
)
def test_after_a_pulled_cable_all_ends_alike(pairs: int, steps: list[tuple[int, int, tuple[str, int]]]) -> None:
    """Not to the nanosecond: what was under way is lost by the message, as when a flow is alone."""
    with Ties().watch():
        by_packets, *rest_by_packets, _ = play(pairs, steps, SPECS[0], "ideal")
    happened, *rest, _ = play(pairs, steps, SPECS[0], "ideal")
    assert rest == rest_by_packets
    assert sorted(each[1:] for each in happened) == sorted(each[1:] for each in by_packets)


@pytest.mark.parametrize("flows", [2, 3, 8])
def test_busy_flows_cost_few_events_a_write(flows: int) -> None:
    """Else the test above would show nothing."""
    rig = Rig(IDEAL, LinkSpec(40_000_000_000, 2_000, 4096, 74), cap=QPCap(200, 1, 1, 1, 0))
    ends = [(rig.left, rig.right)] + [(rig.end(0), rig.end(1)) for _ in range(flows - 1)]
    for one, other in ends[1:]:
        rig.connect(one, other)
    for one, other in ends:
        here, there = one.buffer(1 << 20), other.buffer(1 << 20)
        for wr_id in range(20):
            one.write(here, there, wr_id=wr_id)
    events = 0
    while rig.sim.env.peek() < float("inf"):
        rig.sim.env.step()
        events += 1
    assert all(len(one.poll_all()) == 20 for one, _ in ends)
    assert events <= 20 * 20 * flows
