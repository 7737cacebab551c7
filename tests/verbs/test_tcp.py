"""Simulated TCP while all is well: what comes out, and when."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from itertools import chain, repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simmig.guest.machine import Machine
from simmig.guest.sim import SimGuest, different_pages
from simmig.guest.workload import Uniform
from simmig.verbs.sim.host import HostCosts
from simmig.verbs.sim.link import LinkSpec
from simmig.verbs.sim.tcp import SimSocket
from simmig.verbs.sim.tcp_pipe import PIECE_BYTES, RECEIVE_WINDOW_BYTES, SEND_BUFFER_BYTES, wire_bytes
from tests.verbs.tcp_world import (
    GBIT,
    MIB,
    PAGE,
    SECOND,
    SYN_NS,
    World,
    costs,
    receive_all,
    sizes,
    specs,
    transfer_ns,
)


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
