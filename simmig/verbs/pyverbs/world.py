"""The simulated devices a program sees: as many as asked for, every two linked, and the time that passes."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, count
from typing import Any, cast

import simpy

from simmig.verbs.pyverbs import session
from simmig.verbs.sim.device import Context
from simmig.verbs.sim.fabric import Fabric
from simmig.verbs.sim.host import HostCosts
from simmig.verbs.sim.link import LinkSpec
from simmig.verbs.sim.memory import AddressSpace
from simmig.verbs.sim.nic import SimDevice
from simmig.verbs.sim.profiles import Profile
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError
from simmig.verbs.sim.timeline import Timeline

IDLE_POLL_NS = 1_000_000
"""What a poll of an idle completion queue lets pass at most."""
LOOK_NS = 1_000
"""What a look into memory lets pass."""
_PACE_S = 0.001
_TRAFFIC_NS = 100_000  # a longer silence is somebody's timer
DEFAULT_LINK = LinkSpec(bandwidth_bit_s=10_000_000_000, latency_ns=1_000, mtu=4096, header_bytes=66)
_LOOPBACK = LinkSpec(bandwidth_bit_s=100_000_000_000, latency_ns=500, mtu=4096, header_bytes=66)
_QP_NUMS = 1 << 20  # so that all have as many digits, which programs exchange in messages of that length
_NAMES = {"rxe": "rxe{}", "mlx5": "mlx5_{}"}


@dataclass
class Interface:
    """The network interface of a device."""

    name: str
    ip: str
    mac: str


@dataclass
class World:
    """Devices of a profile, each on a host of its own, on one clock that stands still while nobody waits.

    Time passes when somebody waits for an event, polls an idle completion queue (up to the next completion in it,
    a millisecond or two round trips at most), looks into a region (a microsecond) or sleeps. With one thread that
    is all, and runs repeat; where several share the world, no timer runs faster than a real one, so that a slow
    program's peer does not give up on it.
    """

    profile: Profile
    devices: int | Sequence[str] = 2
    """How many, named as the profile's are, or their names."""
    spec: LinkSpec = DEFAULT_LINK
    seed: int = 0
    sharers: Callable[[], int] = lambda: 1
    """How many threads of programs share the world."""
    alone: Callable[[], bool] = lambda: True
    """Whether nobody but who waits could make something happen."""
    interfaces: dict[str, Interface] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.env = Timeline()
        self.fabric = Fabric(self.env, self.seed)
        self.memory = AddressSpace()  # one for all, as if each device were on a port of the same machine
        pattern = _NAMES.get(self.profile.name, self.profile.name + "{}")
        asked = self.devices
        names = [pattern.format(index) for index in range(asked)] if isinstance(asked, int) else asked
        for index, name in enumerate(names):
            host = self.fabric.add_host(f"host{index}", HostCosts())
            host.memory = self.memory
            device = self.fabric.add_device(name, host, self.profile)
            device.next_qp_num += _QP_NUMS
            interface = Interface(f"eth{index}", f"198.18.0.{index + 1}", f"02:00:00:00:00:{index + 1:02x}")
            self.interfaces[name] = interface
            device.address(interface.mac, interface.ip)
        devices = list(self.fabric.devices.values())
        for device in devices:
            self.fabric.connect(device, device, _LOOPBACK)
        for one, other in combinations(devices, 2):
            self.fabric.connect(one, other, self.spec)
        self.idle_ns = max(IDLE_POLL_NS, 4 * self.spec.latency_ns)
        self._watchers: list[Any] = []
        self.handles: dict[int, Any] = {}
        """What can be imported, by its handle."""
        self._next_handle = count(1)
        self.listeners: dict[tuple[str | None, int, int], Any] = {}
        """Of rdma_cm, by device (None: whichever is asked), port space and port."""
        self.directory: str | None = None
        """Where files that stand for something are put: by default with the system's temporary ones."""
        self.files: dict[str, Context] = {}
        """Contexts by the files that stand for their open contexts."""

    @property
    def now_ns(self) -> int:
        """The world's time."""
        return cast(int, self.env.now)

    def device(self, name: str) -> SimDevice:
        """The device of that name; raises PyverbsRDMAError."""
        device = self.fabric.devices.get(name)
        if device is None:
            raise PyverbsRDMAError(f"Failed to find device {name}")
        return device

    def number(self) -> int:
        """One never given out before."""
        return next(self._next_handle)

    def register(self, thing: Any) -> int:
        """A handle by which it can be imported."""
        handle = self.number()
        self.handles[handle] = thing
        return handle

    def wait(self, done: Callable[[], Any], what: str) -> None:
        """Let time pass until it is so.

        Raises PyverbsRDMAError (EDEADLK) when nothing is left to happen and nobody else could make it so.
        """
        while not done():
            if self.env.peek() == simpy.core.Infinity:
                if self.alone():
                    raise PyverbsRDMAError(
                        f"{what}: nothing is left to happen, it would block for ever", errno.EDEADLK
                    )
                session.changed.wait(0.1)
            else:
                self._step()

    def pass_time(self, duration_ns: int, done: Callable[[], Any] = lambda: False) -> None:
        """Let that much time pass, or less when it is so earlier; nothing when nothing is left to happen."""
        end_ns = self.now_ns + duration_ns
        while not done() and self.env.peek() <= end_ns:
            if not self._step():
                return
        if not done() and self.env.peek() != simpy.core.Infinity:
            self.env.run(until=end_ns) if end_ns > self.now_ns else None
        if self.sharers() > 1:
            session.changed.wait(0)  # somebody else's turn

    def look(self) -> None:
        """A look into memory has been taken."""
        self.pass_time(LOOK_NS)

    def keep_pace(self, watcher: Any) -> None:
        """Time passes as real time while there is a watcher, for a program that waits where nobody can see it."""
        self._watchers.append(watcher)
        if len(self._watchers) == 1:
            threading.Thread(target=self._keep_pace, name="pyverbs pace", daemon=True).start()

    def lose_pace(self, watcher: Any) -> None:
        """One watcher less."""
        self._watchers.remove(watcher)

    def _keep_pace(self) -> None:
        last = time.monotonic()
        while True:
            time.sleep(_PACE_S)
            with session.lock:
                if not self._watchers:
                    return
                now = time.monotonic()
                end_ns, last = self.now_ns + int((now - last) * 1e9), now
                while self.env.peek() <= end_ns:
                    self.env.step()
                session.changed.notify_all()

    def _step(self) -> bool:
        """The next event; False when a timer's was waited for in real time and something else happened."""
        due = self.env.peek()
        gap_ns = cast(int, due) - self.now_ns
        if gap_ns > _TRAFFIC_NS and self.sharers() > 1:
            began = time.monotonic()
            session.changed.wait(gap_ns / 1e9)
            waited = time.monotonic() - began >= gap_ns / 1e9 * 0.99
            if not waited or self.env.peek() != due:  # somebody else may have taken the step meanwhile
                return False
        self.env.step()
        session.changed.notify_all()
        return True
