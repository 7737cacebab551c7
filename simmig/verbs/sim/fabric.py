"""The simulated world: hosts, their devices, the links between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from simmig.verbs.sim.host import Host, HostCosts
from simmig.verbs.sim.link import Direction, Link, LinkSpec
from simmig.verbs.sim.nic import SimDevice
from simmig.verbs.sim.profiles import IDEAL, Profile
from simmig.verbs.sim.pyverbs_error import PyverbsUserError
from simmig.verbs.sim.timeline import Timeline

_current: ContextVar[Fabric] = ContextVar("simmig_fabric")


def current_fabric() -> Fabric:
    """The fabric in use; raises PyverbsUserError when none is."""
    try:
        return _current.get()
    except LookupError:
        raise PyverbsUserError(
            "No simulated fabric is in use: make one and open devices within `with fabric.use():`"
        ) from None


class Fabric:
    """Hosts and devices on one timeline. `seed` decides which packets a lossy link loses."""

    def __init__(self, env: Timeline, seed: int = 0) -> None:
        self.env = env
        self.seed = seed
        self.hosts: dict[str, Host] = {}
        self.devices: dict[str, SimDevice] = {}
        self.links: list[Link] = []

    def add_host(self, name: str, costs: HostCosts = HostCosts()) -> Host:  # noqa: B008  (frozen)
        """A new host; raises ValueError when the name is taken."""
        if name in self.hosts:
            raise ValueError(f"there is a host {name!r} already")
        host = self.hosts[name] = Host(self.env, name, costs)
        return host

    def add_device(self, name: str, host: Host, profile: Profile = IDEAL) -> SimDevice:
        """A new device on a host, with one port; raises ValueError when the name is taken."""
        if name in self.devices:
            raise ValueError(f"there is a device {name!r} already")
        device = self.devices[name] = SimDevice(name, host, profile, len(self.devices))
        return device

    def connect(
        self, one: SimDevice, other: SimDevice, spec: LinkSpec, direction: type[Direction] = Direction
    ) -> Link:
        """Lay a link between two devices (or from one to itself); packets between them take the latest."""
        link = Link(spec, one, other, f"{self.seed}:{len(self.links)}", direction)
        self.links.append(link)
        there, back = link.directions
        for device, way in ((one, there), (other, back)):
            if link not in device.links:
                device.links.append(link)
            for gid in way.target.gids:
                device.routes[gid] = way
        return link

    @contextmanager
    def use(self) -> Iterator[Fabric]:
        """Make it the fabric in which `Context(name=...)` and `get_device_list()` look."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)
