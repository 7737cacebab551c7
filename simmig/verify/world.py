"""The world a case runs in: two hosts, a link, a guest, the protocol as it ships, and the faults as they come."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, cast

from simpy.events import URGENT

from simmig.guest.sim import RamSegment, SimGuest, different_pages
from simmig.migration import destination, source
from simmig.migration.config import Outcome
from simmig.migration.policies import Policy
from simmig.trace.events import FaultInjected, HostDied, MemoryCompared, PortCounted, Side, Stalled
from simmig.verbs.api import Verbs
from simmig.verbs.sim.cm import SimConnection, SimDialer, SimListener
from simmig.verbs.sim.fabric import Fabric
from simmig.verbs.sim.host import HostCosts
from simmig.verbs.sim.interrupt import interrupt_between_events
from simmig.verbs.sim.link import LinkSpec
from simmig.verbs.sim.profiles import PROFILES
from simmig.verbs.sim.tcp import SimSocket
from simmig.verbs.sim.waiting import LightEvent
from simmig.verify import faults as f
from simmig.verify.case import BUSY_HOST, Small
from simmig.verify.device import CheckedVerbs
from simmig.verify.patience import Endless
from simmig.verify.runtime import CheckedRuntime
from simmig.verify.thrift import Thrift
from simmig.verify.watch import SIDES, Watch
from simmig.verify.wire import CheckedDirection

ADDRESS = "10.0.0.2:4444"
HEADER_BYTES = 74
PATIENCE_NS = 200_000_000_000
"""By then both sides must have ended: more than the protocol's longest patience and TCP's hundred seconds."""


class World:
    """Everything of one run; `run` once, then look."""

    def __init__(self, small: Small, watch: Watch, policy: Policy) -> None:
        self.watch = watch
        self.env = watch.env
        watch.act = self._act
        watch.touch = self._touch
        fabric = Fabric(self.env, 0)
        costs = BUSY_HOST if small.busy_host else HostCosts()
        self.hosts = self.env.hosts = [fabric.add_host(side, costs) for side in SIDES]
        devices = [
            fabric.add_device(f"rdma{i}", host, PROFILES[small.profile]) for i, host in enumerate(self.hosts)
        ]
        spec = LinkSpec(small.bandwidth_bit_s, small.latency_ns, small.mtu, HEADER_BYTES)
        self.link = fabric.connect(devices[0], devices[1], spec, CheckedDirection)
        self.runtimes = [CheckedRuntime(host, watch, side) for host, side in zip(self.hosts, SIDES, strict=True)]
        self.cancel = [runtime.signal() for runtime in self.runtimes]
        machine = small.machine()
        order = [name for name, _ in machine.blocks]
        self.guests = [
            SimGuest(self.hosts[0], self.runtimes[0], machine, emit=watch.emit),
            SimGuest(
                self.hosts[1],
                self.runtimes[1],
                machine,
                incoming=True,
                order=order[::-1] if small.reversed_blocks else order,
                emit=watch.emit,
            ),
        ]
        self.thrift = Thrift(self.guests[0])
        watch.readers.append(self.thrift)
        theirs = {block.name: block for block in self.guests[1].blocks}
        in_order = [theirs[block.name] for block in self.guests[0].blocks]
        watch.blocks = [(block.offset_bytes, block.length_bytes) for block in in_order]
        self._inflate(small)
        self.dialer = _Dialer(devices[0], ADDRESS)
        self.listener = _Listener(devices[1], ADDRESS)
        self.compared = False
        self.outcomes: dict[Side, Outcome] = {}
        self.ended_ns: dict[Side, int] = {}
        self.escaped: dict[Side, Exception] = {}
        self.endless = ""
        """What would never have ended, in words."""
        self._small = small
        self._policy = policy

    def plan_packets(self, faults: tuple[f.Fault, ...]) -> None:
        """Have these packets of the plan meet their fate."""
        for side, direction in zip(SIDES, self.link.directions, strict=True):
            mine = [fault for fault in faults if isinstance(fault, f.Packet) and fault.side == side]
            cast(CheckedDirection, direction).plan(mine, self.watch.happened.append)

    def run(self) -> None:
        """Both sides, until the world is at rest or patience at an end; who has not ended by then is cancelled."""
        small, watch = self._small, self.watch
        verbs = [cast(Verbs, CheckedVerbs(watch, side)) for side in SIDES]
        migrate = source.migrate(
            small.config(),
            self.guests[0],
            verbs[0],
            self.runtimes[0],
            self.dialer,
            self._policy,
            self.cancel[0],
            watch.emit,
        )
        receive = destination.receive(
            small.config(destination=True),
            self.guests[1],
            verbs[1],
            self.runtimes[1],
            self.listener,
            self.cancel[1],
            watch.emit,
            self._compare,
        )
        tasks = [
            runtime.start(self._side(side, coroutine), side)
            for runtime, side, coroutine in zip(self.runtimes, SIDES, (migrate, receive), strict=True)
        ]
        self._rest(PATIENCE_NS)
        waiting = [index for index, task in enumerate(tasks) if not task.done]
        for index in waiting:
            if self.lives(index) and not self._may_wait(index):
                watch.emit(Stalled(int(self.env.now), SIDES[index]))
            self.cancel[index].set()
        if waiting:
            self._rest(int(self.env.now) + PATIENCE_NS)
        self.uncancelled = [side for side, task in zip(SIDES, tasks, strict=True) if not task.done]
        watch.silent = set(SIDES) if self.uncancelled else watch.silent
        for task in tasks:
            task.cancel()
        for side, direction in zip(SIDES, self.link.directions, strict=True):
            watch.emit(PortCounted(int(self.env.now), side, direction.bytes_sent))
        if self.uncancelled:
            self._rest(int(self.env.now) + 1)

    def _rest(self, until_ns: int) -> None:
        """What would never end is ended, and remembered."""
        try:
            with interrupt_between_events(self.env):
                self.env.rest(until_ns)
        except Endless as endless:
            self.endless = self.endless or str(endless)

    def lives(self, index: int) -> bool:
        """Whether that side neither died nor hangs."""
        return self.hosts[index].alive and not self.runtimes[index].hangs

    def _may_wait(self, index: int) -> bool:
        """Whether a side may wait for ever: for a source that never came, or hangs while its device answers."""
        return index == 1 and (not self.listener.made or self.runtimes[0].hangs)

    async def _side(self, side: Side, coroutine: Coroutine[Any, Any, Outcome]) -> None:
        try:
            self.outcomes[side] = await coroutine
        except Endless as endless:
            self.endless = self.endless or f"the {side} does not wait: {endless}"
        except Exception as error:
            self.escaped[side] = error
        if side == "destination":
            self.listener.close()
        self.ended_ns[side] = int(self.env.now)

    def _inflate(self, small: Small) -> None:
        """The guest gives pages back: those it says, or the last ones that its workload leaves alone."""
        guest = self.guests[0]
        if small.ballooned_from is not None:
            guest.balloon(small.ballooned_from, small.ballooned_pages)
            return
        left = min(small.ballooned_pages, sum(small.pages) - small.set_pages)
        for block in reversed(guest.blocks):
            count = min(left, block.pages)
            if count > 0:
                guest.balloon(block.first_page + block.pages - count, count)
                left -= count

    def _compare(self) -> None:
        pages = sum(block.pages for block in self.guests[0].blocks)
        self.compared = True
        different = different_pages(self.guests[0], self.guests[1])
        self.watch.emit(MemoryCompared(int(self.env.now), "destination", pages, different))

    def _touch(self, segment: Any, offset: int, clear: bool) -> None:
        """The guest writes to the page there, or clears it, now, if it runs."""
        guest = self.guests[0]
        if guest.running and isinstance(segment, RamSegment):
            for block in guest.blocks:
                mapping = self.hosts[0].memory.find(block.address, block.length_bytes)
                if mapping is not None and mapping.segment is segment:
                    page = block.first_page + offset // 4096
                    (guest.write_zeros if clear else guest.write)(page)
                    if clear:
                        self.thrift.cleared.add(page)

    # --- faults -----------------------------------------------------------------------------------------------

    def _act(self, fault: f.Fault) -> None:
        """The fault comes as soon as whoever is running now waits."""
        self.watch.emit(FaultInjected(int(self.env.now), getattr(fault, "side", "source"), f.kind_of(fault)))
        event = LightEvent(lambda _: self._strike(fault))
        self.env.schedule(cast(Any, event), URGENT)

    def _strike(self, fault: f.Fault) -> None:
        match fault:
            case f.Dies():
                self.watch.emit(HostDied(int(self.env.now), fault.side))
                self.watch.silent.add(fault.side)
                self.hosts[SIDES.index(fault.side)].kill()
            case f.Hangs():
                self.runtimes[SIDES.index(fault.side)].hangs = True
            case f.LinkDown():
                self.link.set_up(False)
                if fault.for_ns is not None:
                    back = LightEvent(lambda _: self.link.set_up(True))
                    self.env.schedule(cast(Any, back), delay=fault.for_ns)
            case f.Disconnect():
                for connection in (self.dialer if fault.side == "source" else self.listener).made:
                    if isinstance(connection, SimConnection):
                        connection._lose("taken down by the network")
                    else:
                        connection._was_reset()
            case f.Cancel():
                self.cancel[SIDES.index(fault.side)].set()
            case _:
                raise AssertionError(fault)


class _Dialer(SimDialer):
    """Keeps the connections it makes, for whoever wants to break them."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.made: list[SimConnection | SimSocket] = []

    async def dial(self, timeout_ns: int) -> SimConnection:
        self.made.append(connection := await super().dial(timeout_ns))
        return connection

    async def dial_socket(self, timeout_ns: int) -> SimSocket:
        self.made.append(socket := await super().dial_socket(timeout_ns))
        return socket


class _Listener(SimListener):
    """The same for a destination."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.made: list[SimConnection | SimSocket] = []

    async def request(self, deadline_ns: int | None = None) -> SimConnection:
        self.made.append(connection := await super().request(deadline_ns))
        return connection

    async def socket(self, deadline_ns: int | None = None) -> SimSocket:
        self.made.append(socket := await super().socket(deadline_ns))
        return socket
