"""The connection manager: dialling, connecting, refusing, losing."""

from __future__ import annotations

import errno
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simmig.verbs.runtime import Connection, Dialer, Listener, Runtime
from simmig.verbs.sim import enums as e
from simmig.verbs.sim.cm import (
    REPEATS,
    RESPONSE_TIMEOUT_NS,
    SimConnection,
    SimDialer,
    SimListener,
)
from simmig.verbs.sim.cq import CQ, CompChannel
from simmig.verbs.sim.fabric import Fabric
from simmig.verbs.sim.host import HostCosts
from simmig.verbs.sim.link import LinkSpec
from simmig.verbs.sim.mr import MR
from simmig.verbs.sim.pd import PD
from simmig.verbs.sim.qp import QP, QPCap, QPInitAttr
from simmig.verbs.sim.runtime import SimRuntime, SimTask, TaskCancelled
from simmig.verbs.sim.timeline import Timeline
from simmig.verbs.sim.wr import SGE, RecvWR, SendWR

ADDRESS = "10.9.9.1:5555"
LATENCY = 10_000
SECOND = 1_000_000_000


class World:
    """Two hosts, a link, a dialer and a listener."""

    def __init__(self, loss: float = 0.0, seed: int = 0, costs: HostCosts | None = None) -> None:
        self.env = Timeline()
        fabric = Fabric(self.env, seed)
        hosts = [fabric.add_host(name, costs or HostCosts()) for name in ("source", "destination")]
        self.devices = [fabric.add_device(f"rxe{index}", host) for index, host in enumerate(hosts)]
        spec = LinkSpec(8_000_000_000, LATENCY, 4096, 0, loss)
        self.link = fabric.connect(self.devices[0], self.devices[1], spec)
        self.runtimes = [SimRuntime(host) for host in hosts]
        self.dialer = SimDialer(self.devices[0], ADDRESS)
        self.listener = SimListener(self.devices[1], ADDRESS)

    def start(self, side: int, coroutine: Coroutine[Any, Any, Any]) -> SimTask:
        return self.runtimes[side].start(coroutine, "task")

    def run(self, *coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run one on each host, to the end; their results, or the exceptions they raised."""
        tasks = [self.start(side, outcome(coroutine)) for side, coroutine in enumerate(coroutines)]
        self.env.run()
        assert all(task.done for task in tasks)
        return [task._result for task in tasks]


async def outcome(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coroutine
    except OSError as error:
        return error


def make_qp(connection: SimConnection) -> QP:
    context = connection.context
    cq = CQ(context, 16, None, CompChannel(context), 0)
    cap = QPCap(4, 4, 1, 1, 0)
    qp = QP(PD(context), QPInitAttr(qp_type=e.IBV_QPT_RC, scq=cq, rcq=cq, cap=cap, sq_sig_all=0))
    connection.prepare(qp)
    return qp


async def connect(world: World, private_data: bytes = b"hello", timeout_ns: int = 10 * SECOND) -> Any:
    connection = await world.dialer.dial(10 * SECOND)
    qp = make_qp(connection)
    answer = await connection.connect(qp, private_data, timeout_ns)
    return connection, qp, answer


async def accept(world: World, private_data: bytes = b"welcome") -> Any:
    connection = await world.listener.request()
    qp = make_qp(connection)
    await connection.accept(qp, private_data)
    return connection, qp


def state(qp: QP) -> int:
    return int(qp.query(e.IBV_QP_STATE)[0].qp_state)


def test_the_seam_is_implemented() -> None:
    world = World()
    runtime: Runtime = world.runtimes[0]
    dialer: Dialer = world.dialer
    listener: Listener = world.listener
    kind: type[Connection] = SimConnection
    assert runtime
    assert dialer
    assert listener
    assert kind


def test_both_ends_get_to_rts_and_hear_each_other() -> None:
    world = World()
    (client, client_qp, answer), (server, server_qp) = world.run(connect(world), accept(world))
    assert (server.private_data, client.private_data, answer) == (b"hello", b"welcome", b"welcome")
    assert state(client_qp) == state(server_qp) == e.IBV_QPS_RTS
    attr = client_qp.query(0)[0]
    assert (attr.retry_cnt, attr.rnr_retry, attr.max_rd_atomic, attr.path_mtu) == (5, 0, 2, e.IBV_MTU_4096)
    assert attr.dest_qp_num == server_qp.qp_num
    assert not client.lost
    assert not server.lost


def test_it_takes_a_round_trip_to_dial_and_three_messages_to_connect() -> None:
    world = World()
    times: dict[str, int] = {}

    async def client() -> None:
        connection = await world.dialer.dial(SECOND)
        times["dialled"] = world.env.now  # type: ignore[assignment]
        await connection.connect(make_qp(connection), b"", SECOND)
        times["connected"] = world.env.now  # type: ignore[assignment]

    async def server() -> None:
        await accept(world)
        times["accepted"] = world.env.now  # type: ignore[assignment]

    world.run(client(), server())
    arp, datagram = 64 + LATENCY, 256 + LATENCY
    assert times == {
        "dialled": 2 * arp,
        "connected": 2 * arp + 2 * datagram,
        "accepted": 2 * arp + 3 * datagram,
    }


def test_a_receive_posted_before_connecting_takes_the_first_message() -> None:
    world = World()

    async def server() -> bytes:
        connection = await world.listener.request()
        qp = make_qp(connection)
        await connection.accept(qp, b"")
        mr = MR(qp.pd, 64, e.IBV_ACCESS_LOCAL_WRITE)
        mr.write(b"READY", 5)
        qp.post_send(SendWR(1, e.IBV_WR_SEND, 1, 0, [SGE(mr.buf, 5, mr.lkey)]))
        return b""

    async def client() -> bytes:
        connection = await world.dialer.dial(SECOND)
        qp = make_qp(connection)
        mr = MR(qp.pd, 64, e.IBV_ACCESS_LOCAL_WRITE)
        qp.post_recv(RecvWR(1, 1, [SGE(mr.buf, 64, mr.lkey)]))
        await connection.connect(qp, b"", SECOND)
        await world.runtimes[0].sleep(SECOND)
        assert qp.recv_cq.poll()[0] == 1
        return mr.read(5, 0)

    assert world.run(client(), server())[0] == b"READY"


def test_nobody_listening_refuses() -> None:
    world = World()
    world.listener.close()
    (error,) = world.run(connect(world))
    assert isinstance(error, ConnectionRefusedError)


def test_a_rejection_refuses() -> None:
    world = World()

    async def server() -> None:
        (await world.listener.request()).reject()

    error, _ = world.run(connect(world), server())
    assert isinstance(error, ConnectionRefusedError)


def test_closing_the_listener_rejects_what_is_queued() -> None:
    world = World()

    async def server() -> None:
        await world.runtimes[1].sleep(SECOND // 2)
        world.listener.close()
        world.listener.close()

    error, _ = world.run(connect(world), server())
    assert isinstance(error, ConnectionRefusedError)


@pytest.mark.parametrize("fault", ["link", "host"])
def test_an_unreachable_peer_times_out(fault: str) -> None:
    world = World()
    if fault == "link":
        world.link.set_up(False)
    else:
        world.devices[1].host.kill()
    times = []

    async def dial() -> None:
        try:
            await world.dialer.dial(3 * SECOND)
        finally:
            times.append(world.env.now)

    (error,) = world.run(dial())
    assert isinstance(error, TimeoutError)
    assert times == [3 * SECOND]


def test_a_silent_listener_times_out() -> None:
    world = World()
    error, late = world.run(connect(world, timeout_ns=SECOND), _too_late(world))
    assert isinstance(error, TimeoutError)
    assert isinstance(late, ConnectionAbortedError)


async def _too_late(world: World) -> None:
    await world.runtimes[1].sleep(20 * SECOND)
    await accept(world)


def test_the_listener_waits_until_its_deadline() -> None:
    world = World()
    (_, error) = world.run(_nothing(), world.listener.request(5 * SECOND))
    assert isinstance(error, TimeoutError)
    assert world.env.now == 5 * SECOND


async def _nothing() -> None:
    pass


def test_an_address_is_taken_once() -> None:
    world = World()
    with pytest.raises(OSError, match="already") as caught:
        SimListener(world.devices[1], ADDRESS)
    assert caught.value.errno == errno.EADDRINUSE
    SimListener(world.devices[1], "elsewhere")
    world.listener.close()
    SimListener(world.devices[1], ADDRESS)


def test_dialling_needs_a_link() -> None:
    fabric = Fabric(Timeline())
    lonely = fabric.add_device("x", fabric.add_host("a"))
    with pytest.raises(ValueError, match="no link"):
        SimDialer(lonely, ADDRESS)


@pytest.mark.parametrize("who", [0, 1])
def test_disconnecting_is_seen_by_the_peer(who: int) -> None:
    world = World()
    results: dict[int, Any] = {}

    async def end(side: int, opening: Callable[[World], Coroutine[Any, Any, Any]]) -> None:
        connection, qp, *_ = await opening(world)
        if side == who:
            await world.runtimes[side].sleep(SECOND)
            connection.disconnect()
            connection.disconnect()
        ready = await world.runtimes[side].wait(connection, deadline_ns=10 * SECOND)
        results[side] = (ready, connection.lost, state(qp), world.env.now)

    world.run(end(0, connect), end(1, accept))
    assert results[who][:3] == (True, "disconnected", e.IBV_QPS_ERR)
    assert results[1 - who][:3] == (True, "the peer disconnected", e.IBV_QPS_ERR)
    assert SECOND + LATENCY < results[1 - who][3] < SECOND + 10 * LATENCY


def test_a_disconnection_gets_through_when_the_link_is_back() -> None:
    world = World()

    async def client() -> None:
        connection, *_ = await connect(world)
        world.link.set_up(False)
        connection.disconnect()
        await world.runtimes[0].sleep(SECOND)
        world.link.set_up(True)

    async def server() -> int:
        connection, _ = await accept(world)
        await world.runtimes[1].wait(connection)
        return int(world.env.now)

    _, at_ns = world.run(client(), server())
    assert RESPONSE_TIMEOUT_NS < at_ns < RESPONSE_TIMEOUT_NS + SECOND


def test_a_killed_client_leaves_the_server_waiting_for_its_word() -> None:
    world = World()

    async def client() -> None:
        connection = await world.dialer.dial(SECOND)
        qp = make_qp(connection)
        await connection.connect(qp, b"", SECOND)

    task = world.start(0, client())
    server = world.start(1, outcome(accept(world)))
    world.env.run(until=2 * (64 + LATENCY) + 256 + LATENCY + 5)  # REQ has come, REP is on its way
    world.devices[0].host.kill()
    world.env.run()
    assert isinstance(task._error, TaskCancelled)
    assert isinstance(server._result, TimeoutError)
    assert world.env.now >= (REPEATS + 1) * RESPONSE_TIMEOUT_NS


@given(loss=st.sampled_from([0.0, 0.1, 0.5]), seed=st.integers(0, 200))
def test_connecting_survives_loss(loss: float, seed: int) -> None:
    world = World(loss, seed)
    client, server = world.run(connect(world, timeout_ns=1000 * SECOND), outcome(_accept_until(world)))
    if isinstance(client, TimeoutError):
        assert loss == 0.5  # the address could not be resolved in ten tries
        return
    assert client[2] == b"welcome"
    assert state(client[1]) == state(server[1]) == e.IBV_QPS_RTS


async def _accept_until(world: World) -> Any:
    connection = await world.listener.request(900 * SECOND)
    qp = make_qp(connection)
    await connection.accept(qp, b"welcome")
    return connection, qp
