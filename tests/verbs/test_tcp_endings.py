"""Simulated TCP at its ends and in trouble: closing, resets, dead peers, nobody there, loss."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from simmig.verbs.sim.host import Host, HostCosts
from simmig.verbs.sim.link import LinkSpec
from simmig.verbs.sim.memory import ByteSegment
from simmig.verbs.sim.runtime import SimRuntime, SimTask
from simmig.verbs.sim.tcp import GIVE_UP_NS, SimSocket
from tests.verbs.tcp_world import (
    GBIT,
    MIB,
    SECOND,
    SYN_NS,
    World,
    result,
    transfer_ns,
)


def test_the_stream_ends_after_its_data() -> None:
    world = World()

    async def source() -> None:
        socket = await world.dial()
        await socket.send(b"last words")
        socket.close()
        socket.close()
        with pytest.raises(OSError, match="closed"):
            await socket.send(b"more")
        with pytest.raises(OSError, match="closed"):
            await socket.receive(1)

    async def target() -> list[bytes]:
        socket = await world.accept()
        parts = [await socket.receive(4), await socket.receive(100), await socket.receive(100)]
        assert await socket.receive(1) == b""
        assert await world.runtimes[1].wait(socket)
        with pytest.raises(OSError, match="ended 8192 bytes early"):
            await socket.receive_memory(world.hosts[1].memory.map(ByteSegment(8192), 8192), 8192)
        return parts

    assert world.run(source(), target())[1] == [b"last", b" words", b""]


@pytest.mark.parametrize("read", [False, True])
def test_a_socket_closed_under_data_resets_its_peer(read: bool) -> None:
    world = World()

    async def source() -> str:
        socket = await world.dial()
        await socket.send(b"hello")
        await world.runtimes[0].sleep(SECOND)
        if read:  # the peer had read all there was: only more data meets a closed socket
            assert not socket.lost
            assert await socket.receive(1) == b""
            await socket.send(b"are you there?")
            await world.runtimes[0].wait(world.runtimes[0].signal(), deadline_ns=2 * SECOND)
        assert await world.runtimes[0].wait(socket)
        with pytest.raises(ConnectionResetError):
            await socket.send(b"x")
        return socket.lost

    async def target() -> None:
        socket = await world.accept()
        await world.runtimes[1].wait(socket)
        if read:
            assert await socket.receive(100) == b"hello"
        socket.close()

    assert world.run(source(), target())[0] == "connection reset by peer"


def test_a_reset_that_gets_lost_is_drawn_again() -> None:
    world = World(LinkSpec(10**9, latency_ns=50_000, mtu=1024, loss=0.9))

    async def source() -> str:
        socket = await world.dial(10**6 * SECOND)
        await socket.send(b"hello")
        while not socket.lost:
            await world.runtimes[0].wait(socket)
        return socket.lost

    async def target() -> None:
        socket = await world.accept()
        await world.runtimes[1].wait(socket)
        socket.close()

    assert world.run(source(), target())[0] == "connection reset by peer"


def exchange(world: World, trouble: Callable[[], None]) -> list[Any]:
    """A large transfer, into the middle of which trouble comes; each side returns why it lost the connection."""

    async def source() -> str:
        socket = await world.dial()
        with suppress(OSError):
            await socket.send(bytes(32 * MIB))
        return socket.lost

    async def target() -> str:
        socket = await world.accept()
        received = 0
        with suppress(OSError):
            while received < 32 * MIB:
                received += len(await socket.receive(MIB))
        return socket.lost

    runtime = SimRuntime(Host(world.env, "fate", HostCosts()))

    async def fate() -> None:
        await runtime.sleep(SECOND // 10)
        trouble()

    runtime.start(fate(), "fate")
    return world.run(source(), target())


def test_without_a_link_both_sides_give_up_in_time() -> None:
    world = World()
    assert exchange(world, lambda: world.link.set_up(False)) == ["the peer does not answer"] * 2
    assert world.env.now == SECOND // 10 + GIVE_UP_NS


def test_a_cable_pulled_for_a_while_costs_time_only() -> None:
    world = World()

    def pull() -> None:
        world.link.set_up(False)

        async def plug() -> None:
            await SimRuntime(world.hosts[0]).sleep(30 * SECOND)
            world.link.set_up(True)

        world.runtimes[0].start(plug(), "plug")

    assert exchange(world, pull) == ["", ""]
    # Retransmissions are tried at doubling intervals: the next one after 30 s is within another 30.
    assert 30 * SECOND < world.env.now < 62 * SECOND


@pytest.mark.parametrize("side", [0, 1])
def test_a_dead_peer_is_given_up(side: int) -> None:
    world = World()
    tasks: list[SimTask] = []

    async def survivor(make: Callable[[], Coroutine[Any, Any, SimSocket]]) -> str:
        socket = await make()
        with pytest.raises(TimeoutError):
            await (socket.send(bytes(32 * MIB)) if side == 1 else socket.receive(1))
        assert socket.lost
        return socket.lost

    async def victim(make: Callable[[], Coroutine[Any, Any, SimSocket]]) -> None:
        socket = await make()
        await world.runtimes[side].wait(world.runtimes[side].signal())
        socket.close()

    makes = [world.dial, world.accept]
    tasks.append(world.runtimes[1 - side].start(survivor(makes[1 - side]), "survivor"))
    world.runtimes[side].start(victim(makes[side]), "victim")
    world.env.run(until=SECOND)
    world.hosts[side].kill()
    world.env.run()
    assert result(tasks[0]) == "the peer does not answer"
    assert world.env.now <= SECOND + GIVE_UP_NS


@pytest.mark.parametrize("unread", [False, True], ids=["end of the stream", "reset"])
@pytest.mark.parametrize("death", ["host", "link"])
@pytest.mark.parametrize("early", [False, True], ids=["broken, then closed", "closed, then broken"])
def test_what_is_said_last_to_a_peer_that_hears_nothing_is_not_said_for_ever(
    death: str, unread: bool, early: bool
) -> None:
    world = World()
    sockets: list[SimSocket] = []

    async def side(make: Callable[[], Coroutine[Any, Any, SimSocket]]) -> None:
        sockets.append(await make())

    world.run(side(world.dial), side(world.accept))
    one, other = sockets

    async def speak() -> None:
        await other.send(b"never read")

    if unread:
        world.run(speak())
        world.env.run()
    dead = world.hosts[1] if one._host is world.hosts[0] else world.hosts[0]

    def close() -> None:
        one.close()
        other.close()

    def break_off() -> None:
        dead.kill() if death == "host" else world.link.set_up(False)

    for act in (close, break_off) if early else (break_off, close):
        act()
    begin_ns = int(world.env.now)
    while world.env.peek() < begin_ns + 4 * GIVE_UP_NS:
        world.env.step()
    assert world.env.peek() == float("inf")


def test_nobody_listening_refuses() -> None:
    world = World()

    async def source() -> int:
        with pytest.raises(ConnectionRefusedError):
            await world.dial()
        return int(world.env.now)

    assert world.queue is not None
    world.queue.close()
    assert world.run(source())[0] == 2 * (GBIT.latency_ns + SYN_NS)
    world.queue = None
    world.run(source())


def test_nobody_there_times_out() -> None:
    world = World()
    world.link.set_up(False)

    async def source() -> int:
        with pytest.raises(TimeoutError):
            await world.dial(5 * SECOND)
        return int(world.env.now)

    assert world.run(source())[0] == 5 * SECOND


def test_a_lost_request_is_sent_again() -> None:
    world = World()
    world.link.set_up(False)

    async def source() -> int:
        await world.dial()
        return int(world.env.now)

    async def target() -> None:
        await world.runtimes[1].sleep(SECOND // 2)
        world.link.set_up(True)

    assert world.run(source(), target())[0] == SYN_NS + SECOND + 2 * (SYN_NS + GBIT.latency_ns)


def test_accepting_has_a_deadline_and_an_end() -> None:
    world = World()
    queue = world.queue
    assert queue is not None

    async def target() -> int:
        with pytest.raises(TimeoutError):
            await queue.accept(deadline_ns=1000)
        now = int(world.env.now)
        queue.close()
        with pytest.raises(OSError, match="listening"):
            await queue.accept()
        return now

    assert world.run(target())[0] == 1000


def test_memory_that_is_not_mapped_is_refused() -> None:
    world = World()

    async def source() -> None:
        socket = await world.dial()
        for call in (socket.send_memory(4096, 1), socket.receive_memory(4096, 1)):
            with pytest.raises(OSError, match="Bad address"):
                await call

    world.run(source())


@pytest.mark.parametrize("loss", [0.001, 0.03])
def test_loss_costs_round_trips(loss: float) -> None:
    clean = transfer_ns(World(LinkSpec(10**10, latency_ns=10**6)), 32 * MIB)
    lossy = transfer_ns(World(LinkSpec(10**10, latency_ns=10**6, loss=loss)), 32 * MIB)
    assert clean < lossy == transfer_ns(World(LinkSpec(10**10, latency_ns=10**6, loss=loss)), 32 * MIB)
