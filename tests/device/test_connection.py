"""Connections of the RDMA connection manager between two devices of one host."""

import asyncio
import os
from typing import Any

import pytest

from simmig.verbs.rdma.binding import Binding
from simmig.verbs.rdma.cm import RdmaConnection
from tests.device.conftest import MakeEnds, Run

TIMEOUT_NS = 10_000_000_000


class Queue:
    """A queue pair with what belongs to it."""

    def __init__(self, verbs: Binding, connection: RdmaConnection) -> None:
        context = connection.context
        self.verbs = verbs
        self.pd = verbs.PD(context)
        self.channel = verbs.CompChannel(context)
        self.cq = verbs.CQ(context, 64, None, self.channel, 0)
        cap = verbs.QPCap(16, 3, 1, 1, 0)
        init = verbs.QPInitAttr(qp_type=verbs.enums.IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=cap, sq_sig_all=0)
        self.qp = verbs.QP(self.pd, init)
        connection.prepare(self.qp)

    def close(self) -> None:
        self.qp.close()
        self.cq.close()
        self.channel.close()
        self.pd.close()


async def _connected(verbs: Binding, ends: Any) -> tuple[RdmaConnection, Queue, RdmaConnection, Queue]:
    async def serve() -> tuple[RdmaConnection, Queue]:
        passive = await ends.listener.request()
        assert passive.private_data.startswith(b"asked")
        queue = Queue(verbs, passive)
        await passive.accept(queue.qp, b"granted")
        return passive, queue

    server = asyncio.create_task(serve())
    active = await ends.dialer.dial(TIMEOUT_NS)
    queue = Queue(verbs, active)
    answer = await active.connect(queue.qp, b"asked", TIMEOUT_NS)
    assert answer.startswith(b"granted")
    passive, theirs = await server
    return active, queue, passive, theirs


def test_connect_write_and_disconnect(verbs: Binding, ends: MakeEnds, run: Run) -> None:
    async def body() -> None:
        async with ends() as both:
            active, queue, passive, theirs = await _connected(verbs, both)
            assert active.context.name != passive.context.name
            enums = verbs.enums
            local = verbs.MR(queue.pd, 1 << 20, enums.IBV_ACCESS_LOCAL_WRITE)
            access = enums.IBV_ACCESS_LOCAL_WRITE | enums.IBV_ACCESS_REMOTE_WRITE
            remote = verbs.MR(theirs.pd, 1 << 20, access)
            data = os.urandom(1 << 20)
            local.write(data, len(data))
            queue.cq.req_notify()
            wr = verbs.SendWR(
                wr_id=1 << 40 | 7,
                opcode=enums.IBV_WR_RDMA_WRITE,
                num_sge=1,
                sg=[verbs.SGE(local.buf, len(data), local.lkey)],
                send_flags=enums.IBV_SEND_SIGNALED,
            )
            wr.set_wr_rdma(remote.rkey, remote.buf)
            queue.qp.post_send(wr)
            deadline_ns = both.runtime.now_ns() + TIMEOUT_NS
            assert await both.runtime.wait(queue.channel, active, deadline_ns=deadline_ns)
            assert not active.lost
            queue.channel.get_cq_event(queue.cq)
            queue.cq.ack_events(1)
            count, completions = queue.cq.poll(16)
            assert (count, completions[0].wr_id, completions[0].status) == (1, 1 << 40 | 7, 0)
            assert remote.read(len(data), 0) == data
            soon_ns = both.runtime.now_ns() + 50_000_000
            assert not await both.runtime.wait(queue.channel, active, passive, deadline_ns=soon_ns)

            active.disconnect()
            assert active.lost
            assert await both.runtime.wait(passive, deadline_ns=both.runtime.now_ns() + TIMEOUT_NS)
            assert passive.lost == "the peer disconnected"
            for region in (local, remote):
                region.close()
            queue.close()
            theirs.close()

    run(body())


def test_second_connection_beside_the_first(verbs: Binding, ends: MakeEnds, run: Run) -> None:
    async def body() -> None:
        async with ends() as both:
            first = await _connected(verbs, both)
            second = await _connected(verbs, both)
            first[0].disconnect()
            assert await both.runtime.wait(first[2], deadline_ns=both.runtime.now_ns() + TIMEOUT_NS)
            assert not second[0].lost
            assert not second[2].lost
            for queue in (first[1], first[3], second[1], second[3]):
                queue.close()

    run(body())


def test_nobody_listens(verbs: Binding, ends: MakeEnds, run: Run) -> None:
    async def body() -> None:
        async with ends() as both:
            both.listener.close()
            active = await both.dialer.dial(TIMEOUT_NS)
            queue = Queue(verbs, active)
            with pytest.raises(ConnectionRefusedError, match="refused"):
                await active.connect(queue.qp, b"asked", TIMEOUT_NS)
            queue.close()

    run(body())


def test_rejected(verbs: Binding, ends: MakeEnds, run: Run) -> None:
    async def body() -> None:
        async with ends() as both:

            async def serve() -> None:
                (await both.listener.request()).reject()

            server = asyncio.create_task(serve())
            active = await both.dialer.dial(TIMEOUT_NS)
            queue = Queue(verbs, active)
            with pytest.raises(ConnectionRefusedError, match="refused"):
                await active.connect(queue.qp, b"asked", TIMEOUT_NS)
            await server
            queue.close()

    run(body())


def test_waiting_for_a_source_ends_at_the_deadline(ends: MakeEnds, run: Run) -> None:
    async def body() -> None:
        async with ends() as both:
            with pytest.raises(TimeoutError, match="waiting for a source"):
                await both.listener.request(both.runtime.now_ns() + 100_000_000)

    run(body())


def test_nothing_is_left_open(verbs: Binding, ends: MakeEnds, run: Run) -> None:
    async def body() -> None:
        async with ends() as both:
            _, queue, _, theirs = await _connected(verbs, both)
            queue.close()
            theirs.close()

    run(body())
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(5):
        run(body())
    assert sorted(os.listdir("/proc/self/fd")) == before
