from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from simmig.guest.machine import MIN_DEVICE_STATE_BYTES, Machine, Progress
from simmig.guest.memory import PagePayload
from simmig.guest.sim import SimGuest, different_pages
from simmig.guest.workload import Hotspot, Idle, Recorded, Sweep, Uniform, Workload
from simmig.trace.events import AnyEvent, PagesDirtied
from simmig.verbs.sim.host import Host, HostCosts
from simmig.verbs.sim.runtime import SimRuntime

PAGE = 4096
MIB = 1 << 20
GIB = 1 << 30
SECOND = 10**9
BLOCKS = (("pc.ram", 600 * PAGE), ("pc.bios", 64 * PAGE), ("pc.rom", 3 * PAGE))
PAGES = 667


class Rig:
    """One environment and the guests on it, each on a host of its own."""

    def __init__(self) -> None:
        self.env = simpy.Environment()

    def guest(
        self,
        machine: Machine,
        *,
        costs: HostCosts | None = None,
        incoming: bool = False,
        order: list[str] | None = None,
        emit: Callable[[AnyEvent], None] | None = None,
    ) -> SimGuest:
        host = Host(self.env, "here", costs or HostCosts())
        return SimGuest(host, SimRuntime(host), machine, incoming=incoming, order=order, emit=emit)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it as a task of some host, to its end; returns what it returns, raises what it raises."""
        results: list[Any] = []

        async def keep() -> None:
            results.append(await coroutine)

        task = SimRuntime(Host(self.env, "test", HostCosts())).start(keep(), "test")
        while not task.done:
            self.env.step()
        if not results:
            self.env.process(task.join())  # type: ignore[arg-type]
            self.env.run()
        return results[0]

    def pass_time(self, duration_ns: int) -> None:
        """Let virtual time go by."""
        if duration_ns:
            self.env.run(until=self.env.now + duration_ns)


def ids(guest: SimGuest, rig_host: Host, first: int, count: int) -> list[int]:
    """What a device reads: content ids of pages in the order of the guest's blocks."""
    found: list[int] = []
    for block in guest.blocks:
        low, high = max(first, block.first_page), min(first + count, block.first_page + block.pages)
        if low < high:
            address = block.address + (low - block.first_page) * PAGE
            mapping = rig_host.memory.find(address, (high - low) * PAGE)
            assert mapping is not None
            payload = mapping.read(address, (high - low) * PAGE)
            assert isinstance(payload, PagePayload)
            found.extend(int(word) for word in payload.ids)
    return found
