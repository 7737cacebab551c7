"""Two connected ends to ask a rule of: on simulated devices, and on real ones, in the same words.

A `World` says which devices; what a test touches are verbs objects under pyverbs' names, whose constants are
the same numbers in either world (`tests/device/test_rules_state.py` holds them together). Tests of what only a
simulation can show, faults and times to the nanosecond, use `tests/verbs/rig.py`.
"""

from __future__ import annotations

import errno
import importlib
import os
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import simpy

from simmig.experiment.fit.calibrate import profile_of
from simmig.verbs.sim import enums as e
from simmig.verbs.sim.fabric import Fabric
from simmig.verbs.sim.host import HostCosts
from simmig.verbs.sim.link import LinkSpec
from simmig.verbs.sim.profiles import Profile
from simmig.verbs.sim.timeline import Timeline
from tests.verbs.deviations import load

MODULES = ("device", "addr", "cq", "mr", "pd", "qp", "wr", "pyverbs_error")
ALL_ACCESS = e.IBV_ACCESS_LOCAL_WRITE | e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_REMOTE_READ
PATIENCE_S = 120
QUIET_S = 0.5
"""How long a real device is given to do what it should not do."""
_LINK = LinkSpec(bandwidth_bit_s=1_000_000_000, latency_ns=10_000, mtu=1024, header_bytes=0)


def _namespace(package: str) -> SimpleNamespace:
    """All classes of pyverbs, or of its mirror, side by side."""
    names: dict[str, Any] = {}
    for module in MODULES:
        names.update(vars(importlib.import_module(f"{package}.{module}")))
    return SimpleNamespace(**names)


class End:
    """One side: a context, a PD, a channel, a CQ for sends and receives, a queue pair."""

    def __init__(self, world: World, index: int, cap: Any, depth: int, signal_all: int) -> None:
        v = self.v = world.v
        self.world = world
        self.context = world.context(index)
        self.pd = v.PD(self.context)
        self.channel = world.channel(self.context)
        self.cq = v.CQ(self.context, depth, None, self.channel, 0)
        self.init_attr = v.QPInitAttr(
            qp_type=e.IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=cap, sq_sig_all=signal_all
        )
        self.qp = v.QP(self.pd, self.init_attr)
        self._buffers: list[Any] = []

    def buffer(self, length: int = 4096, access: int = ALL_ACCESS, pd: Any = None) -> Any:
        """A region of its own; kept, for pyverbs deregisters what nobody refers to."""
        mr = self.v.MR(pd or self.pd, length, access)
        self._buffers.append(mr)
        return mr

    def sge(self, mr: Any, length: int | None = None, offset: int = 0) -> Any:
        return self.v.SGE(mr.buf + offset, mr.length - offset if length is None else length, mr.lkey)

    def wr(
        self,
        opcode: int,
        mr: Any,
        remote: Any = None,
        length: int | None = None,
        wr_id: int = 0,
        flags: int = e.IBV_SEND_SIGNALED,
        imm: int = 0,
        rkey: int | None = None,
        remote_offset: int = 0,
        sg: Sequence[Any] | None = None,
    ) -> Any:
        """A work request of the send queue."""
        elements = [self.sge(mr, length)] if sg is None else list(sg)
        wr = self.v.SendWR(wr_id, opcode, len(elements), imm, elements, flags)
        if remote is not None:
            wr.set_wr_rdma(remote.rkey if rkey is None else rkey, remote.buf + remote_offset)
        return wr

    def send(self, mr: Any, length: int | None = None, wr_id: int = 0, **kwargs: Any) -> None:
        self.qp.post_send(self.wr(e.IBV_WR_SEND, mr, None, length, wr_id, **kwargs))

    def write(self, mr: Any, remote: Any, length: int | None = None, wr_id: int = 0, **kwargs: Any) -> None:
        self.qp.post_send(self.wr(e.IBV_WR_RDMA_WRITE, mr, remote, length, wr_id, **kwargs))

    def write_imm(self, mr: Any, remote: Any, length: int | None = None, wr_id: int = 0, **kwargs: Any) -> None:
        self.qp.post_send(self.wr(e.IBV_WR_RDMA_WRITE_WITH_IMM, mr, remote, length, wr_id, **kwargs))

    def read(self, mr: Any, remote: Any, length: int | None = None, wr_id: int = 0, **kwargs: Any) -> None:
        self.qp.post_send(self.wr(e.IBV_WR_RDMA_READ, mr, remote, length, wr_id, **kwargs))

    def recv_wr(self, mr: Any, length: int | None = None, wr_id: int = 0, sg: Sequence[Any] | None = None) -> Any:
        elements = [self.sge(mr, length)] if sg is None else list(sg)
        return self.v.RecvWR(wr_id, len(elements), elements)

    def recv(self, mr: Any, length: int | None = None, wr_id: int = 0) -> None:
        self.qp.post_recv(self.recv_wr(mr, length, wr_id))

    def wait(self, count: int = 1) -> list[Any]:
        """That many completions; fails the test when they do not come."""
        completions: list[Any] = []
        deadline = self.world.deadline()
        while len(completions) < count:
            got, new = self.cq.poll(count - len(completions))
            completions += new or []
            if not got:
                self.world.pause(deadline, f"{len(completions)} completions of {count}")
        return completions

    def wait_one(self) -> Any:
        return self.wait()[0]

    def poll_all(self) -> list[Any]:
        """What is there now, and what comes while everything comes to rest."""
        self.world.rest()
        found: list[Any] = []
        while self.world.waiting(self.cq):
            got, new = self.cq.poll(16)
            if not got:
                break
            found += new
        return found

    def state(self) -> int:
        return int(self.qp.query(e.IBV_QP_STATE)[0].qp_state)

    def wait_for_state(self, state: int) -> None:
        """Until the device says so."""
        deadline = self.world.deadline()
        while self.state() != state:
            self.world.pause(deadline, f"the queue pair in state {self.state()}, not {state}")

    def modify_to(self, state: int) -> None:
        """Into a state that takes no attributes."""
        attr = self.v.QPAttr()
        attr.qp_state = state
        self.qp.modify(attr, e.IBV_QP_STATE)


class World:
    """Two devices and the verbs that drive them; `profile` says whose behaviour is theirs."""

    v: SimpleNamespace
    profile: str

    def __init__(self) -> None:
        self._ends: list[End] = []  # kept: garbage would be destroyed in any order, which verbs objects refuse

    def context(self, index: int) -> Any:
        """Open the left device (0) or the right one (1)."""
        raise NotImplementedError

    def channel(self, context: Any) -> Any:
        """A completion channel whose get_cq_event does not block for ever."""
        return self.v.CompChannel(context)

    def deadline(self) -> float:
        """When patience ends, in this world's own terms."""
        return 0.0

    def pause(self, deadline: float, what: str) -> None:
        """Let something happen; fails the test when nothing will."""
        raise NotImplementedError

    def rest(self) -> None:
        """Let everything that is under way happen."""
        raise NotImplementedError

    def waiting(self, cq: Any) -> bool:
        """Whether to look into the queue once more."""
        return True

    def event(self, end: End) -> bool:
        """Whether the end's channel has an event, after a rest; takes it."""
        raise NotImplementedError

    def deviates(self, deviation: str) -> bool:
        """Whether these devices are known to deviate in that way (`deviations.toml`)."""
        raise NotImplementedError

    @property
    def oversized(self) -> int:
        """What a send too large is refused with: mlx5's driver says ENOMEM (rdma-core providers/mlx5/qp.c)."""
        return errno.ENOMEM if self.profile == "mlx5" else errno.EINVAL

    def close(self) -> None:
        """Give everything back."""

    def end(
        self, index: int, cap: tuple[int, ...] = (64, 64, 4, 4, 64), depth: int = 200, signal_all: int = 0
    ) -> End:
        """An end on that device, in RESET; `cap` as QPCap takes it."""
        end = End(self, index, self.v.QPCap(*cap), depth, signal_all)
        self._ends.append(end)
        return end

    def attributes(self, end: End, peer: End, **changes: Any) -> Any:
        """Attributes that bring a queue pair to RTS; `changes` by name."""
        v = self.v
        attr = v.QPAttr(path_mtu=e.IBV_MTU_1024)
        attr.qp_access_flags = ALL_ACCESS
        attr.dest_qp_num = peer.qp.qp_num
        route = v.GlobalRoute(dgid=peer.context.query_gid(1, 1), sgid_index=1)
        attr.ah_attr = v.AHAttr(is_global=1, gr=route)
        attr.max_rd_atomic = attr.max_dest_rd_atomic = 4
        attr.min_rnr_timer = 12  # 0.64 ms
        attr.timeout = 16  # 0.27 s: an emulated device may be slow to answer
        attr.retry_cnt = 6
        attr.rnr_retry = 6
        for name, value in changes.items():
            setattr(attr, name, value)
        return attr

    def connect(self, one: End, other: End, **changes: Any) -> None:
        """Bring both queue pairs to RTS."""
        one.qp.to_rts(self.attributes(one, other, **changes))
        other.qp.to_rts(self.attributes(other, one, **changes))

    def pair(self, connected: bool = True, **kwargs: Any) -> tuple[End, End]:
        """The left end and the right one; arguments of `end`, all others are attributes."""
        own = {name: kwargs.pop(name) for name in ("cap", "depth", "signal_all") if name in kwargs}
        left, right = self.end(0, **own), self.end(1, **own)
        if connected:
            self.connect(left, right, **kwargs)
        return left, right


class SimWorld(World):
    """Simulated devices of a profile."""

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self.v = _namespace("simmig.verbs.sim")
        self.profile = profile.name
        self._env = Timeline()
        self._fabric = Fabric(self._env, 0)
        hosts = [self._fabric.add_host(name, HostCosts()) for name in ("left", "right")]
        left, right = (self._fabric.add_device(f"rxe{index}", host, profile) for index, host in enumerate(hosts))
        self._fabric.connect(left, right, _LINK)

    def context(self, index: int) -> Any:
        with self._fabric.use():
            return self.v.Context(name=f"rxe{index}")

    def pause(self, deadline: float, what: str) -> None:
        if self._env.peek() == simpy.core.Infinity:
            pytest.fail(f"{what}, and nothing left to happen")
        self._env.step()

    def rest(self) -> None:
        self._env.run()

    def waiting(self, cq: Any) -> bool:
        return bool(cq.entries)  # a poll of an empty queue would let time go on, or end in an error

    def event(self, end: End) -> bool:
        self.rest()
        if not end.channel.events:
            return False
        end.channel.get_cq_event(end.cq)
        end.cq.ack_events(1)
        return True

    def deviates(self, deviation: str) -> bool:
        return load()[deviation].simulated and self.profile == "rxe"


class DeviceWorld(World):
    """The lab's two devices."""

    def __init__(self, channel: Callable[[Any], Any], names: tuple[str, str]) -> None:
        super().__init__()
        self.v = _namespace("pyverbs")
        self.profile = profile_of(names[0])
        self._channel = channel
        self._names = names
        self._contexts: list[Any] = []

    def context(self, index: int) -> Any:
        context = self.v.Context(name=self._names[index])
        self._contexts.append(context)
        return context

    def channel(self, context: Any) -> Any:
        return self._channel(context)

    def deadline(self) -> float:
        return time.monotonic() + PATIENCE_S

    def pause(self, deadline: float, what: str) -> None:
        if time.monotonic() > deadline:
            pytest.fail(f"{what}, after {PATIENCE_S} s")
        time.sleep(0.002)

    def rest(self) -> None:
        time.sleep(QUIET_S)

    def event(self, end: End) -> bool:
        self.rest()
        try:
            end.channel.get_cq_event(end.cq)
        except self.v.PyverbsError:  # non-blocking, and empty
            return False
        end.cq.ack_events(1)
        return True

    def deviates(self, deviation: str) -> bool:
        return self.profile == "rxe" and load()[deviation].on(os.uname().release)

    def close(self) -> None:
        for context in self._contexts:
            context.close()


def refused(world: World, code: int, call: Callable[..., object], *args: Any) -> None:
    """The call must raise PyverbsRDMAError with that errno."""
    with pytest.raises(world.v.PyverbsRDMAError) as caught:
        call(*args)
    assert errno.errorcode.get(caught.value.error_code) == errno.errorcode[code]


def write_pattern(mr: Any, seed: int = 0) -> bytes:
    """Fill a buffer with bytes that differ from place to place; returns them."""
    data = bytes((index * 7 + (index >> 8) + seed) & 0xFF for index in range(mr.length))
    mr.write(data, len(data))
    return data
