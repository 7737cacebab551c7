from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import chain, repeat
from typing import Any

import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from simmig.guest.machine import Machine
from simmig.guest.sim import SimGuest, different_pages
from simmig.guest.workload import Uniform
from simmig.verbs.sim.fabric import Fabric
from simmig.verbs.sim.host import Host, HostCosts
from simmig.verbs.sim.link import Direction, LinkSpec
from simmig.verbs.sim.memory import ByteSegment
from simmig.verbs.sim.runtime import SimRuntime, SimTask
from simmig.verbs.sim.tcp import GIVE_UP_NS, SimSocket, SocketQueue, connect
from simmig.verbs.sim.tcp_pipe import PIECE_BYTES, RECEIVE_WINDOW_BYTES, SEND_BUFFER_BYTES, wire_bytes

PAGE = 4096
MIB = 1 << 20
SECOND = 10**9
GBIT = LinkSpec(10**9, latency_ns=50_000, mtu=1024)  # 8 ns a byte
SYN_NS = 90 * 8  # a segment without data, on that link


class World:
    """Two hosts, one link."""

    def __init__(
        self, spec: LinkSpec = GBIT, *, here: HostCosts | None = None, there: HostCosts | None = None
    ) -> None:
        self.env = simpy.Environment()
        fabric = Fabric(self.env, seed=1)
        self.hosts = [
            fabric.add_host(name, costs or HostCosts()) for name, costs in (("here", here), ("there", there))
        ]
        devices = [fabric.add_device(f"sim{i}", host) for i, host in enumerate(self.hosts)]
        self.link = fabric.connect(devices[0], devices[1], spec)
        self.runtimes = [SimRuntime(host) for host in self.hosts]
        self.queue: SocketQueue | None = SocketQueue(self.runtimes[1])

    @property
    def there(self) -> Direction:
        return self.link.directions[0]

    async def dial(self, timeout_ns: int = 10 * SECOND) -> SimSocket:
        return await connect(self.runtimes[0], self.there, lambda: self.queue, timeout_ns)

    async def accept(self) -> SimSocket:
        assert self.queue is not None
        return await self.queue.accept()

    def run(self, *sides: Coroutine[Any, Any, Any], until_ns: int | None = None) -> list[Any]:
        """Run one task a host at the same time, until both have ended; returns what they return."""
        tasks = [runtime.start(side, "side") for runtime, side in zip(self.runtimes, sides, strict=False)]
        while not all(task.done for task in tasks) and (until_ns is None or self.env.peek() <= until_ns):
            self.env.step()
        return [result(task) for task in tasks]


def result(task: SimTask) -> Any:
    """What a task has come to; raises what it raised; None while it runs."""
    if task._error is not None:
        raise task._error
    return task._result


async def receive_all(socket: SimSocket, limit_bytes: Callable[[], int] = lambda: 1 << 30) -> bytes:
    parts = []
    while part := await socket.receive(limit_bytes()):
        parts.append(part)
    return b"".join(parts)


specs = st.builds(
    LinkSpec,
    st.sampled_from([10**7, 10**9, 10**11]),
    latency_ns=st.sampled_from([0, 1000, 10**7]),
    mtu=st.sampled_from([256, 1024, 4096]),
    loss=st.sampled_from([0.0, 0.0, 0.01, 0.3]),
)
costs = st.sampled_from([HostCosts(), HostCosts(tcp_byte_ns=0.3, wake_ns=1000), HostCosts(tcp_byte_ns=20)])
sizes = st.lists(st.one_of(st.integers(0, 3000), st.sampled_from([PIECE_BYTES - 1, PIECE_BYTES + 1])), max_size=8)


@settings(max_examples=60)
@given(spec=specs, here=costs, there=costs, sends=sizes, reads=st.lists(st.integers(1, 10**6), max_size=30))
def test_what_goes_in_comes_out(
    spec: LinkSpec, here: HostCosts, there: HostCosts, sends: list[int], reads: list[int]
) -> None:
    world = World(spec, here=here, there=there)
    # Every four bytes number themselves.
    stream = b"".join(i.to_bytes(4, "big") for i in range(sum(sends) // 4 + 1))[: sum(sends)]
    limits = chain(reads, repeat(100_000))

    async def source() -> None:
        socket = await world.dial()
        start = 0
        for size in sends:
            await socket.send(stream[start : start + size])
            start += size
        socket.close()

    async def target() -> bytes:
        socket = await world.accept()
        data = await receive_all(socket, lambda: next(limits))
        assert not socket.lost
        socket.close()
        return data

    assert world.run(source(), target())[1] == stream


def test_both_directions_at_once() -> None:
    world = World()

    async def side(make: Callable[[], Coroutine[Any, Any, SimSocket]], data: bytes) -> bytes:
        socket = await make()
        await socket.send(data)
        received = b""
        while len(received) < 100_000:
            received += await socket.receive(1 << 20)
        return received

    one, other = bytes(range(250)) * 400, bytes(reversed(range(250))) * 400
    assert world.run(side(world.dial, one), side(world.accept, other)) == [other, one]


def test_connecting_takes_one_round_trip_and_a_half_on_the_other_side() -> None:
    world = World()

    async def source() -> int:
        await world.dial()
        return int(world.env.now)

    async def target() -> int:
        await world.accept()
        return int(world.env.now)

    round_trip = 2 * (GBIT.latency_ns + SYN_NS)
    assert world.run(source(), target()) == [round_trip, round_trip + GBIT.latency_ns]


def transfer_ns(world: World, length: int) -> int:
    """From the first send to the last byte read."""
    segment = ByteSegment(length)
    source_address, target_address = (host.memory.map(segment, length) for host in world.hosts)

    async def source() -> int:
        socket = await world.dial()
        begun = world.runtimes[0].now_ns()
        await socket.send_memory(source_address, length)
        return begun

    async def target() -> int:
        socket = await world.accept()
        await socket.receive_memory(target_address, length)
        await world.runtimes[1].checkpoint()
        return int(world.env.now)

    begun, ended = world.run(source(), target())
    return int(ended - begun)


@pytest.mark.parametrize("pieces", [1, 7, 64])
@pytest.mark.parametrize(("mtu", "segment"), [(1024, 1448), (4096, 8948)])
def test_a_transfer_takes_as_long_as_its_segments_do(pieces: int, mtu: int, segment: int) -> None:
    spec = LinkSpec(10**9, latency_ns=50_000, mtu=mtu)
    wire = pieces * (PIECE_BYTES + -(-PIECE_BYTES // segment) * 90)
    assert transfer_ns(World(spec), pieces * PIECE_BYTES) == wire * 8 + spec.latency_ns


def test_a_slow_copy_on_either_side_is_the_bottleneck() -> None:
    length = 64 * PIECE_BYTES
    slow = HostCosts(tcp_byte_ns=30)
    piece_wire_ns = wire_bytes(GBIT, PIECE_BYTES) * 8
    # One stage works all the time; the other adds what it does before the first or after the last piece.
    expected = length * 30 + piece_wire_ns + GBIT.latency_ns
    assert transfer_ns(World(here=slow), length) == expected
    assert transfer_ns(World(there=slow), length) == expected


def test_a_long_path_carries_a_window_each_round_trip() -> None:
    spec = LinkSpec(10**11, latency_ns=50_000_000)
    length = 128 * MIB
    # Three megabytes arrive together, their acknowledgements go back, the next three come.
    rounds = length / RECEIVE_WINDOW_BYTES
    assert transfer_ns(World(spec), length) == pytest.approx(rounds * 2 * spec.latency_ns, rel=0.02)


def test_two_sockets_share_the_link_and_one_alone_has_it() -> None:
    world = World()
    ended: list[int] = []

    async def source(pieces: int) -> None:
        socket = await world.dial()
        await socket.send(bytes(pieces * PIECE_BYTES))
        socket.close()

    async def target() -> None:
        socket = await world.accept()
        await receive_all(socket)
        ended.append(int(world.env.now))

    for pieces in (2, 6):
        world.runtimes[0].start(source(pieces), "source")
        world.runtimes[1].start(target(), "target")
    world.env.run()
    piece_ns = wire_bytes(GBIT, PIECE_BYTES) * 8
    # Packet by packet in turn until the short one ends, then the long one alone.
    assert ended == [pytest.approx(4 * piece_ns, rel=0.05), pytest.approx(8 * piece_ns, rel=0.05)]


def test_a_sender_waits_when_nobody_reads() -> None:
    world = World()
    accepted: list[int] = []

    async def source() -> None:
        socket = await world.dial()
        for _ in range(100):
            await socket.send(bytes(PIECE_BYTES))
            accepted.append(PIECE_BYTES)

    async def target() -> int:
        socket = await world.accept()
        await world.runtimes[1].sleep(SECOND)
        waited = sum(accepted)
        for _ in range(100 * PIECE_BYTES // 1000):
            await socket.receive(1000)
        return waited

    assert world.run(source(), target())[1] == SEND_BUFFER_BYTES + RECEIVE_WINDOW_BYTES
    assert sum(accepted) == 100 * PIECE_BYTES


def test_a_megabyte_of_memory_is_a_handful_of_events() -> None:
    world = World(LinkSpec(4 * 10**10, latency_ns=2000), here=HostCosts(tcp_byte_ns=0.1))
    steps = 0
    step = world.env.step

    def counted() -> None:
        nonlocal steps
        steps += 1
        step()

    world.env.step = counted  # type: ignore[method-assign]
    transfer_ns(world, 64 * MIB)
    assert steps / 64 < 7


def test_guest_pages_travel_as_they_were_when_sent() -> None:
    world = World(LinkSpec(10**10, latency_ns=2000, loss=0.001))
    machine = Machine((("pc.ram", 20 * MIB), ("pc.rom", 3 * PAGE)), 0.2, Uniform(20 * MIB, 10**9, 1))
    source, target = (
        SimGuest(host, runtime, machine, incoming=side == 1)
        for side, (host, runtime) in enumerate(zip(world.hosts, world.runtimes, strict=True))
    )
    differences: list[int] = []

    async def send() -> None:
        socket = await world.dial()
        await world.runtimes[0].sleep(SECOND // 10)
        await source.stop()
        for block in source.blocks:
            await socket.send(b"head!")  # the pages do not start at a page of the stream
            await socket.send_memory(block.address, block.length_bytes)
        await source.resume()  # some are still on their way
        assert await socket.receive(1) == b""
        differences.append(different_pages(source, target))

    async def receive() -> None:
        socket = await world.accept()
        for block in target.blocks:
            head = b""
            while len(head) < 5:
                head += await socket.receive(5 - len(head))
            assert head == b"head!"
            await socket.receive_memory(block.address, block.length_bytes)
        socket.close()

    twin_world = World()
    twin = SimGuest(twin_world.hosts[0], twin_world.runtimes[0], machine)
    begun = world.run(send(), receive())
    assert begun == [None, None]
    assert differences[0] > 0
    # What the source had at the stop is what a twin has that runs as long and then stands still.
    twin_world.env.run(until=source._progress.guest_ns)
    twin_world.run(twin.stop())
    assert different_pages(twin, target) == 0


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
