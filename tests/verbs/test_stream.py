"""Streams of long writes, which save events and must not show in any other way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.host import HostCosts
from simmig.verbs.sim.memory import ByteSegment
from simmig.verbs.sim.mr import MR
from simmig.verbs.sim.profiles import IDEAL, PROFILES
from simmig.verbs.sim.qp import QPCap
from simmig.verbs.sim.runtime import SimRuntime
from simmig.verbs.sim.stream import StreamingRequester
from tests.verbs.rig import SPEC, Rig, finish


@contextmanager
def no_streams() -> Iterator[None]:
    with mock.patch.object(StreamingRequester, "_begin_stream", return_value=False):
        yield


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
        seen = seen or rig.sim.there.tenant is not None
    assert seen
    assert rig.sim.there.tenant is None
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
