"""Two connected ends to try a rule on, in terms that a real device has as well.

`Rig` and `End` are all that most rule tests touch: verbs objects under pyverbs' names, posting, and waiting for
completions by polling. What only a simulation can do (faults, virtual time to the nanosecond) is in `rig.sim`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import simpy

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.addr import AHAttr, GlobalRoute
from simmig.verbs.sim.cq import CQ, WC, CompChannel
from simmig.verbs.sim.device import Context
from simmig.verbs.sim.fabric import Fabric
from simmig.verbs.sim.host import HostCosts
from simmig.verbs.sim.link import Direction, LinkSpec
from simmig.verbs.sim.mr import MR
from simmig.verbs.sim.nic import SimDevice
from simmig.verbs.sim.pd import PD
from simmig.verbs.sim.profiles import IDEAL, Profile
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError
from simmig.verbs.sim.qp import QP, QPAttr, QPCap, QPInitAttr
from simmig.verbs.sim.timeline import Timeline
from simmig.verbs.sim.wr import SGE, RecvWR, SendWR

ALL_ACCESS = e.IBV_ACCESS_LOCAL_WRITE | e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_REMOTE_READ
SPEC = LinkSpec(bandwidth_bit_s=8_000_000_000, latency_ns=1_000, mtu=1024, header_bytes=0)
"""A byte a nanosecond and a microsecond of latency: times that can be read."""


class End:
    """One side: a context, a PD, a channel, a CQ for sends and receives, a queue pair."""

    def __init__(self, context: Context, cap: QPCap, depth: int, signal_all: int) -> None:
        self.context = context
        self.pd = PD(context)
        self.channel = CompChannel(context)
        self.cq = CQ(context, depth, None, self.channel, 0)
        self.init_attr = QPInitAttr(qp_type=e.IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=cap, sq_sig_all=signal_all)
        self.qp = QP(self.pd, self.init_attr)

    def buffer(self, length: int = 4096, access: int = ALL_ACCESS, pd: PD | None = None) -> MR:
        return MR(pd or self.pd, length, access)

    def send(self, mr: MR, length: int | None = None, wr_id: int = 0, **kwargs: Any) -> None:
        self.qp.post_send(send_wr(mr, length, wr_id, **kwargs))

    def write(self, mr: MR, remote: MR, length: int | None = None, wr_id: int = 0, **kwargs: Any) -> None:
        self.qp.post_send(rdma_wr(e.IBV_WR_RDMA_WRITE, mr, remote, length, wr_id, **kwargs))

    def write_imm(self, mr: MR, remote: MR, length: int | None = None, wr_id: int = 0, **kwargs: Any) -> None:
        self.qp.post_send(rdma_wr(e.IBV_WR_RDMA_WRITE_WITH_IMM, mr, remote, length, wr_id, **kwargs))

    def read(self, mr: MR, remote: MR, length: int | None = None, wr_id: int = 0, **kwargs: Any) -> None:
        self.qp.post_send(rdma_wr(e.IBV_WR_RDMA_READ, mr, remote, length, wr_id, **kwargs))

    def recv(self, mr: MR, length: int | None = None, wr_id: int = 0) -> None:
        self.qp.post_recv(recv_wr(mr, length, wr_id))

    def wait(self, count: int = 1, cq: CQ | None = None) -> list[WC]:
        """That many completions; fails the test when nothing is left that could bring them."""
        cq = cq or self.cq
        completions: list[WC] = []
        idle = 0
        while len(completions) < count:
            got, new = cq.poll(count - len(completions))
            completions += new
            idle = 0 if got or self.context.device.host.env.peek() < simpy.core.Infinity else idle + 1
            if idle > 1:
                pytest.fail(f"{len(completions)} completions of {count}, and nothing left to happen")
        return completions

    def wait_one(self) -> WC:
        return self.wait()[0]

    def poll_all(self) -> list[WC]:
        """What is there now, without waiting."""
        return self.cq.poll(len(self.cq.entries))[1] if self.cq.entries else []

    def next_event(self) -> int:
        event = self.context.get_async_event()
        event.ack()
        return int(event.event_type)

    def state(self) -> int:
        return int(self.qp.query(e.IBV_QP_STATE)[0].qp_state)


def sge(mr: MR, length: int | None = None, offset: int = 0) -> SGE:
    return SGE(mr.buf + offset, mr.length - offset if length is None else length, mr.lkey)


def send_wr(
    mr: MR,
    length: int | None = None,
    wr_id: int = 0,
    flags: int = e.IBV_SEND_SIGNALED,
    imm: int | None = None,
    sg: Sequence[SGE] | None = None,
) -> SendWR:
    elements = [sge(mr, length)] if sg is None else list(sg)
    opcode = e.IBV_WR_SEND if imm is None else e.IBV_WR_SEND_WITH_IMM
    return SendWR(wr_id, opcode, len(elements), imm or 0, elements, flags)


def rdma_wr(
    opcode: int,
    mr: MR,
    remote: MR,
    length: int | None = None,
    wr_id: int = 0,
    flags: int = e.IBV_SEND_SIGNALED,
    imm: int = 0,
    rkey: int | None = None,
    remote_offset: int = 0,
    sg: Sequence[SGE] | None = None,
) -> SendWR:
    elements = [sge(mr, length)] if sg is None else list(sg)
    wr = SendWR(wr_id, opcode, len(elements), imm, elements, flags)
    wr.set_wr_rdma(remote.rkey if rkey is None else rkey, remote.buf + remote_offset)
    return wr


def recv_wr(mr: MR, length: int | None = None, wr_id: int = 0) -> RecvWR:
    return RecvWR(wr_id, 1, [sge(mr, length)])


def attributes(end: End, peer: End, **changes: Any) -> QPAttr:
    """Attributes that bring a queue pair to RTS; `changes` by name."""
    attr = QPAttr(path_mtu=e.IBV_MTU_1024)
    attr.qp_access_flags = ALL_ACCESS
    attr.dest_qp_num = peer.qp.qp_num
    attr.ah_attr = AHAttr(is_global=1, gr=GlobalRoute(dgid=peer.context.query_gid(1, 1), sgid_index=1))
    attr.max_rd_atomic = attr.max_dest_rd_atomic = 4
    attr.min_rnr_timer = 12  # 0.64 ms
    attr.timeout = 10  # 4.2 ms
    attr.retry_cnt = 3
    attr.rnr_retry = 3
    for name, value in changes.items():
        setattr(attr, name, value)
    return attr


def as_rxe(rig: Rig, by_the_rule: int, on_rxe: int) -> int:
    """What to expect where soft-RoCE has another word (`deviations.toml`)."""
    return int(on_rxe if rig.profile.name == "rxe" else by_the_rule)


def drain_with_notice(end: End) -> None:
    """Go to SQD, and ask to be told when that is done."""
    attr = QPAttr(qp_state=e.IBV_QPS_SQD)
    attr.en_sqd_async_notify = 1
    end.qp.modify(attr, e.IBV_QP_STATE | e.IBV_QP_EN_SQD_ASYNC_NOTIFY)


@dataclass
class Sim:
    """What only a simulation offers."""

    env: Timeline
    fabric: Fabric

    @property
    def now(self) -> int:
        return int(self.env.now)

    @property
    def there(self) -> Direction:
        return self.fabric.links[0].directions[0]

    @property
    def back(self) -> Direction:
        return self.fabric.links[0].directions[1]

    def run(self) -> None:
        """Until nothing is left to happen."""
        self.env.run()

    def run_to(self, at_ns: int) -> None:
        self.env.run(until=at_ns)

    def at(self, at_ns: int, action: Callable[[], object]) -> None:
        """Do something at that time."""

        def wait() -> Any:
            yield self.env.timeout(at_ns - self.now)
            # As code of no task, so that it may use what blocks.
            self.env.process(later())

        def later() -> Any:
            action()
            yield self.env.timeout(0)

        self.env.process(wait())


class Rig:
    """Two ends, by default connected."""

    def __init__(
        self,
        profile: Profile = IDEAL,
        spec: LinkSpec = SPEC,
        cap: QPCap | None = None,
        depth: int = 200,
        signal_all: int = 0,
        connected: bool = True,
        costs: HostCosts | None = None,
        seed: int = 0,
        **changes: Any,
    ) -> None:
        env = Timeline()
        fabric = Fabric(env, seed)
        self.profile = profile
        self.sim = Sim(env, fabric)
        hosts = [fabric.add_host(name, costs or HostCosts()) for name in ("left", "right")]
        self.devices: list[SimDevice] = [
            fabric.add_device(f"rxe{index}", host, profile) for index, host in enumerate(hosts)
        ]
        fabric.connect(self.devices[0], self.devices[1], spec)
        self.cap = cap or QPCap(64, 64, 4, 4, 64)
        self._depth = depth
        self._signal_all = signal_all
        with fabric.use():
            self.left, self.right = (self.end(index) for index in range(2))
        if connected:
            self.connect(self.left, self.right, **changes)

    def end(self, index: int) -> End:
        """Another end on that device."""
        with self.sim.fabric.use():
            context = Context(name=f"rxe{index}")
        return End(context, self.cap, self._depth, self._signal_all)

    @staticmethod
    def connect(one: End, other: End, **changes: Any) -> None:
        """Bring both queue pairs to RTS."""
        one.qp.to_rts(attributes(one, other, **changes))
        other.qp.to_rts(attributes(other, one, **changes))


def refused(code: int, call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    """The call must raise PyverbsRDMAError with that errno."""
    with pytest.raises(PyverbsRDMAError) as caught:
        call(*args, **kwargs)
    assert errno.errorcode.get(caught.value.error_code) == errno.errorcode[code]


def write_pattern(mr: MR, seed: int = 0) -> bytes:
    """Fill a buffer with bytes that differ from place to place; returns them."""
    data = bytes((index * 7 + (index >> 8) + seed) & 0xFF for index in range(mr.length))
    mr.write(data, len(data))
    return data


def finish(rig: Rig, end: End) -> list[tuple[int, int, int]]:
    """Run to the end; the end's completions as (time, wr_id, status)."""
    env = rig.sim.env
    found = []
    while env.peek() < float("inf"):
        env.step()
        found += [(rig.sim.now, wc.wr_id, int(wc.status)) for wc in end.poll_all()]
    return found
