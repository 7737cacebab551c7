"""The device itself: its keys, its queue pairs, its ports. What `Context` opens."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, cast

from simpy.core import EmptySchedule

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.host import Host
from simmig.verbs.sim.link import PATH_MTUS, Direction, Link
from simmig.verbs.sim.parts import Informed, QueuePair, Region
from simmig.verbs.sim.profiles import Profile
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError

FIRST_QP_NUM = 17  # 0 and 1 are the management queue pairs; rxe starts here
QP_NUMS = 1 << 16  # a device's own; no two devices' coincide, so that a packet gone astray meets nobody
_ROCE_V1, _ROCE_V2 = int(e.IBV_GID_TYPE_ROCE_V1), int(e.IBV_GID_TYPE_ROCE_V2)
KEY_STEP = 0x100  # the low byte of a key is the owner's to vary


class SimDevice:
    """One RDMA device with one port, on a host. Made by `Fabric.add_device`."""

    __slots__ = (
        "_next_key",
        "contexts",
        "device_memory_used",
        "gid_types",
        "gids",
        "groups",
        "host",
        "index",
        "links",
        "listeners",
        "mrs",
        "name",
        "next_qp_num",
        "profile",
        "qps",
        "routes",
    )

    def __init__(self, name: str, host: Host, profile: Profile, index: int) -> None:
        self.name = name
        self.host = host
        self.profile = profile
        self.index = index
        low = f"{(index + 1) >> 16 & 0xFFFF:04x}:{index + 1 & 0xFFFF:04x}"
        self.gids: tuple[str, ...] = (
            f"fe80:0000:0000:0000:0000:00ff:{low}",
            f"0000:0000:0000:0000:0000:ffff:{low}",
        )
        self.gid_types = (_ROCE_V2,) * len(self.gids)
        self.device_memory_used = 0
        self.groups: dict[str, list[QueuePair]] = {}
        self.links: list[Link] = []
        self.routes: dict[str, Direction] = {}
        self.contexts: list[Informed] = []
        self.mrs: dict[int, Region] = {}  # regions, and windows bound
        self.qps: dict[int, QueuePair] = {}
        self.listeners: dict[str, Any] = {}
        self._next_key = KEY_STEP
        host.watchers.append(self._die)
        self.next_qp_num = FIRST_QP_NUM

    def address(self, mac: str, ip: str) -> None:
        """Give it the GIDs of an interface with that MAC and IPv4 address; before any link is laid."""
        first, *rest = (int(byte, 16) for byte in mac.split(":"))
        eui = (first ^ 2, *rest[:2], 0xFF, 0xFE, *rest[2:])
        link_local = "fe80:0000:0000:0000:" + ":".join(f"{eui[at]:02x}{eui[at + 1]:02x}" for at in (0, 2, 4, 6))
        octets = [int(octet) for octet in ip.split(".")]
        mapped = "0000:0000:0000:0000:0000:ffff:{:02x}{:02x}:{:02x}{:02x}".format(*octets)
        kinds = (_ROCE_V1, _ROCE_V2) if self.profile.has_roce_v1 else (_ROCE_V2,)
        rows = [(gid, kind) for gid in (link_local, mapped) for kind in kinds]
        self.gids = tuple(gid for gid, _ in rows)
        self.gid_types = tuple(kind for _, kind in rows)

    @property
    def guid(self) -> int:
        """Node GUID."""
        return 0x0200_0000_0000_0000 | (self.index + 1)

    @property
    def mtu(self) -> int:
        """Payload bytes of the largest packet all its links take."""
        return min((link.spec.mtu for link in self.links), default=4096)

    @property
    def mtu_code(self) -> int:
        """The same as an enum ibv_mtu."""
        return PATH_MTUS[self.mtu]

    @property
    def port_state(self) -> int:
        """IBV_PORT_ACTIVE while a link is up."""
        return e.IBV_PORT_ACTIVE if any(link.up for link in self.links) else e.IBV_PORT_DOWN

    def new_key(self) -> int:
        """A memory key never given out before."""
        key = self._next_key
        self._next_key += KEY_STEP
        return key & 0xFFFFFFFF

    def new_qp_num(self) -> int:
        """A queue pair number never given out before."""
        number = self.next_qp_num
        self.next_qp_num += 1
        return (self.index * QP_NUMS + number) & 0xFFFFFF

    def _die(self) -> None:
        for qp in self.qps.values():
            qp.abandon()

    def let_time_pass(self) -> bool:
        """Blocking code has nothing to do: pay the host's debt, else go on to the next event; False at the end."""
        env = self.host.env
        debt_ns = self.host.take_debt()
        if debt_ns:
            env.run(until=cast(int, env.now) + debt_ns)
            return True
        try:
            env.step()
        except EmptySchedule:
            return False
        return True

    def block_until(self, done: Callable[[], bool], what: str) -> None:
        """Let virtual time go on until it is so, for code that runs outside any simulated task.

        Raises PyverbsRDMAError: EAGAIN in a simulated task, which must wait through its runtime; EDEADLK when
        nothing is left to happen.
        """
        if self.host.env.active_process is not None:
            raise PyverbsRDMAError(
                f"{what}: a simulated task must not block, wait with Runtime.wait", errno.EAGAIN
            )
        while not done():
            if not self.let_time_pass():
                raise PyverbsRDMAError(
                    f"{what}: nothing is left to happen, it would block for ever", errno.EDEADLK
                )

    def settle_turns(self) -> None:
        """A region changes: what goes by reckoning does so up to now."""
        for link in self.links:
            for direction in link.directions:
                direction.settle_turns()

    def port_changed(self, up: bool) -> None:
        """A link of the port went up or down: every open context is told."""
        event = e.IBV_EVENT_PORT_ACTIVE if up else e.IBV_EVENT_PORT_ERR
        for context in self.contexts:
            context.raise_event(event, None)
