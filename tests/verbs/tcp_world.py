"""Two hosts with a link between them, and byte streams over it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import strategies as st

from simmig.verbs.sim.fabric import Fabric
from simmig.verbs.sim.host import HostCosts
from simmig.verbs.sim.link import Direction, LinkSpec
from simmig.verbs.sim.memory import ByteSegment
from simmig.verbs.sim.runtime import SimRuntime, SimTask
from simmig.verbs.sim.tcp import SimSocket, SocketQueue, connect
from simmig.verbs.sim.tcp_pipe import PIECE_BYTES
from simmig.verbs.sim.timeline import Timeline

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
        self.env = Timeline()
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
