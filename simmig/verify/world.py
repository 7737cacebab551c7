"""The world a case runs in: two hosts, a link between them, and the faults as they come."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, cast

from simpy.events import URGENT

from simmig.trace.events import FaultInjected, HostDied, PortCounted, Side, Stalled
from simmig.verbs.sim.cm import SimConnection, SimDialer, SimListener
from simmig.verbs.sim.fabric import Fabric
from simmig.verbs.sim.host import HostCosts
from simmig.verbs.sim.interrupt import interrupt_between_events
from simmig.verbs.sim.link import LinkSpec
from simmig.verbs.sim.profiles import PROFILES
from simmig.verbs.sim.tcp import SimSocket
from simmig.verbs.sim.waiting import LightEvent
from simmig.verify import faults as f
from simmig.verify.patience import Endless
from simmig.verify.runtime import CheckedRuntime
from simmig.verify.watch import SIDES, Watch
from simmig.verify.wire import CheckedDirection

ADDRESS = "10.0.0.2:4444"
HEADER_BYTES = 74
PATIENCE_NS = 200_000_000_000
"""By then both sides must have ended: more than any side's longest patience and TCP's hundred seconds."""
BUSY_HOST = HostCosts(
    register_ns=20_000,
    register_page_ns=200,
    deregister_ns=5_000,
    post_ns=300,
    poll_ns=100,
    wake_ns=3_000,
    scan_page_ns=50,
    message_ns=500,
    stop_ns=10_000,
    resume_ns=10_000,
)
"""A host on which everything takes its time; the figures are of the size that fitted hosts in models/ have."""


class Ending(Protocol):
    """How one side ended."""

    @property
    def status(self) -> str:
        """In a word."""

    @property
    def reason(self) -> str:
        """Why; empty for no reason."""


class CheckedWorld:
    """Everything of one run that is no subject's own; `run` once, then look."""

    def __init__(self, watch: Watch, busy_host: bool, profile: str, bandwidth: int, latency_ns: int, mtu: int):
        self.watch = watch
        self.env = watch.env
        watch.act = self._act
        fabric = Fabric(self.env, 0)
        costs = BUSY_HOST if busy_host else HostCosts()
        self.hosts = self.env.hosts = [fabric.add_host(side, costs) for side in SIDES]
        devices = [fabric.add_device(f"rdma{i}", host, PROFILES[profile]) for i, host in enumerate(self.hosts)]
        spec = LinkSpec(bandwidth, latency_ns, mtu, HEADER_BYTES)
        self.link = fabric.connect(devices[0], devices[1], spec, CheckedDirection)
        self.runtimes = [CheckedRuntime(host, watch, side) for host, side in zip(self.hosts, SIDES, strict=True)]
        self.cancel = [runtime.signal() for runtime in self.runtimes]
        self.dialer = _Dialer(devices[0], ADDRESS)
        self.listener = _Listener(devices[1], ADDRESS)
        self.outcomes: dict[Side, Ending] = {}
        self.ended_ns: dict[Side, int] = {}
        self.escaped: dict[Side, Exception] = {}
        self.uncancelled: list[Side] = []
        self.endless = ""
        """What would never have ended, in words."""

    def plan_packets(self, faults: tuple[f.Fault, ...]) -> None:
        """Have these packets of the plan meet their fate."""
        for side, direction in zip(SIDES, self.link.directions, strict=True):
            mine = [fault for fault in faults if isinstance(fault, f.Packet) and fault.side == side]
            cast(CheckedDirection, direction).plan(mine, self.watch.happened.append)

    def run_sides(self, sides: Sequence[Coroutine[Any, Any, Ending]]) -> None:
        """Both sides, until the world is at rest or patience at an end; who has not ended by then is cancelled."""
        watch = self.watch
        tasks = [
            runtime.start(self._side(side, coroutine), side)
            for runtime, side, coroutine in zip(self.runtimes, SIDES, sides, strict=True)
        ]
        self._rest(PATIENCE_NS)
        waiting = [index for index, task in enumerate(tasks) if not task.done]
        for index in waiting:
            if self.lives(index) and not self.may_wait(index):
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

    def may_wait(self, index: int) -> bool:
        """Whether a side may wait for ever: for one that never came, or hangs while its device answers."""
        return index == 1 and (not self.listener.made or self.runtimes[0].hangs)

    def occasions(self) -> dict[str, int]:
        """How often there was a chance for each kind of fault."""
        watch = self.watch
        counts = {f"{side} call {call}": number for (side, call), number in watch.called.items()}
        for side, direction in zip(SIDES, self.link.directions, strict=True):
            counts[f"{side} packet"] = cast(CheckedDirection, direction).seen
            counts[f"{side} not-ready"] = watch.asked[side]
        counts["event"] = len(watch.events)
        return counts

    async def _side(self, side: Side, coroutine: Coroutine[Any, Any, Ending]) -> None:
        try:
            self.outcomes[side] = await coroutine
        except Endless as endless:
            self.endless = self.endless or f"the {side} does not wait: {endless}"
        except Exception as error:
            self.escaped[side] = error
        if side == "destination":
            self.listener.close()
        self.ended_ns[side] = int(self.env.now)

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
