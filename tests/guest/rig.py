"""A simulated guest on a host of its own, and the machines it is tried with."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
from hypothesis import strategies as st

from simmig.guest.machine import Machine
from simmig.guest.memory import PagePayload
from simmig.guest.sim import SimGuest
from simmig.guest.workload import Hotspot, Idle, Mixture, Recorded, Sweep, Uniform
from simmig.trace.events import AnyEvent
from simmig.verbs.sim.host import Host, HostCosts
from simmig.verbs.sim.memory import Payload
from simmig.verbs.sim.runtime import SimRuntime
from simmig.verbs.sim.timeline import Timeline

PAGE = 4096
MIB = 1 << 20
SECOND = 10**9
BLOCKS = (("pc.ram", 600 * PAGE), ("pc.bios", 64 * PAGE), ("pc.rom", 3 * PAGE))
PAGES = 667
ORDERS = [["pc.ram", "pc.bios", "pc.rom"], ["pc.rom", "pc.ram", "pc.bios"], ["pc.bios", "pc.rom", "pc.ram"]]

workloads = st.one_of(
    st.just(Idle()),
    st.builds(Sweep, st.integers(1, PAGES).map(lambda n: n * PAGE), st.integers(0, 10**9)),
    st.builds(Uniform, st.integers(1, PAGES).map(lambda n: n * PAGE), st.integers(0, 10**9), st.integers(0, 99)),
    st.builds(
        Hotspot, st.just(500 * PAGE), st.integers(0, 10**9), st.just(20 * PAGE), st.floats(0, 1), st.just(4)
    ),
    st.builds(
        Mixture,
        st.just(((20 * PAGE, 10**8), (300 * PAGE, 10**7), (100 * PAGE, 0))),
        st.just(6),
    ),
    st.just(Recorded([(10**6, 590, 60), (2 * 10**6, 0, 5), (2 * 10**6, 100, 50)])),
)


class Rig:
    """A guest on a host of its own."""

    def __init__(
        self,
        machine: Machine,
        *,
        env: Timeline | None = None,
        costs: HostCosts | None = None,
        incoming: bool = False,
        order: list[str] | None = None,
        emit: Callable[[AnyEvent], None] | None = None,
    ) -> None:
        self.env = env or Timeline()
        self.host = Host(self.env, "here", costs or HostCosts())
        self.runtime = SimRuntime(self.host)
        self.guest = SimGuest(self.host, self.runtime, machine, incoming=incoming, order=order, emit=emit)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it as a task of the host to its end; returns what it returns, raises what it raises."""
        outcome: list[Any] = []

        async def keep() -> None:
            try:
                outcome.append(await coroutine)
            except Exception as error:
                outcome.append(error)

        task = self.runtime.start(keep(), "test")
        while not task.done:
            self.env.step()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def pass_time(self, duration_ns: int) -> None:
        """Let virtual time go by."""
        if duration_ns:
            self.env.run(until=self.env.now + duration_ns)

    def read(self, page: int, count: int) -> Payload:
        """What a device reads from pages of one block."""
        block = next(b for b in self.guest.blocks if b.first_page <= page < b.first_page + b.pages)
        address = block.address + (page - block.first_page) * PAGE
        mapping = self.host.memory.find(address, count * PAGE)
        assert mapping is not None
        return mapping.read(address, count * PAGE)

    def put(self, page: int, payload: Payload, offset_bytes: int = 0) -> None:
        """Have a device write there."""
        block = next(b for b in self.guest.blocks if b.first_page <= page < b.first_page + b.pages)
        address = block.address + (page - block.first_page) * PAGE + offset_bytes
        mapping = self.host.memory.find(address, 1)
        assert mapping is not None
        mapping.write(address, payload)

    def ids(self) -> list[int]:
        """The content ids of all pages."""
        found: list[int] = []
        for block in self.guest.blocks:
            payload = self.read(block.first_page, block.pages)
            assert isinstance(payload, PagePayload)
            found.extend(int(word) for word in payload.ids)
        return found

    def sync(self, bitmap: np.ndarray[Any, np.dtype[np.bool_]] | None = None) -> set[int]:
        """The pages of a sync into that bitmap (an empty one)."""
        bitmap = np.zeros(PAGES, dtype=np.bool_) if bitmap is None else bitmap
        before = int(np.count_nonzero(bitmap))
        ballooned = int(np.count_nonzero(bitmap & self.guest.ballooned()))
        turned_on = self.guest.sync_dirty(bitmap)
        assert turned_on == int(np.count_nonzero(bitmap)) - before + ballooned
        return set(np.flatnonzero(bitmap).tolist())


def copy_memory(source: Rig, target: Rig) -> None:
    """Copy all blocks, by name, as a device would."""
    places = {block.name: block.first_page for block in target.guest.blocks}
    for block in source.guest.blocks:
        for page in range(0, block.pages, 256):
            payload = source.read(block.first_page + page, min(256, block.pages - page))
            target.put(places[block.name] + page, payload)
