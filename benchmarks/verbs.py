"""Signalled writes simulated per second, against SimPy's raw timeouts per second, both in one run.

    python benchmarks/verbs.py [WRITES]

A coroutine keeps 512 writes of 1 MiB posted on a 40 Gbit/s link and takes completions with the loop of R27. The
third line is the ratio, and its inverse: how many raw timeouts one write costs. Then the same by several queue
pairs that share the link: how many events of the environment, and raw timeouts, a write costs them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from typing import Any

import simpy

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.addr import AHAttr, GlobalRoute
from simmig.verbs.sim.cq import CQ, CompChannel
from simmig.verbs.sim.device import Context
from simmig.verbs.sim.fabric import Fabric
from simmig.verbs.sim.link import LinkSpec
from simmig.verbs.sim.memory import Payload
from simmig.verbs.sim.mr import MR
from simmig.verbs.sim.nic import SimDevice
from simmig.verbs.sim.pd import PD
from simmig.verbs.sim.qp import QP, QPAttr, QPCap, QPInitAttr
from simmig.verbs.sim.runtime import SimRuntime
from simmig.verbs.sim.timeline import Timeline
from simmig.verbs.sim.wr import SGE, SendWR

CHUNK_BYTES = 1 << 20
QUEUE_DEPTH = 512
RUNS = 20


class Nothing:
    """Memory whose content does not matter, so that the device alone is measured."""

    length_bytes = 64 * CHUNK_BYTES

    def dma_read(self, offset: int, length: int) -> Payload:
        return b""

    def dma_write(self, offset: int, payload: Payload) -> None:
        pass


class End:
    """A device with a queue pair and memory."""

    def __init__(self, device: SimDevice) -> None:
        self.context = Context(device=device)
        self.pd = PD(self.context)
        self.channel = CompChannel(self.context)
        self.cq = CQ(self.context, 2 * QUEUE_DEPTH, None, self.channel, 0)
        cap = QPCap(QUEUE_DEPTH, 3, 1, 1, 0)
        self.qp = QP(self.pd, QPInitAttr(qp_type=e.IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=cap, sq_sig_all=0))
        memory = Nothing()
        address = device.host.memory.map(memory, memory.length_bytes)
        access = e.IBV_ACCESS_LOCAL_WRITE | e.IBV_ACCESS_REMOTE_WRITE
        self.mr = MR(self.pd, memory.length_bytes, access, address)

    def connect(self, peer: End) -> None:
        attr = QPAttr(path_mtu=e.IBV_MTU_4096)
        attr.qp_access_flags = e.IBV_ACCESS_REMOTE_WRITE
        attr.dest_qp_num = peer.qp.qp_num
        attr.ah_attr = AHAttr(is_global=1, gr=GlobalRoute(dgid=peer.context.query_gid(1, 1), sgid_index=1))
        attr.timeout, attr.retry_cnt = 14, 5
        self.qp.to_rts(attr)


async def write(source: End, target: End, runtime: SimRuntime, count: int) -> None:
    cq, channel, qp = source.cq, source.channel, source.qp
    posted = completed = 0
    cq.req_notify()
    while completed < count:
        while posted < count and posted - completed < QUEUE_DEPTH:
            offset = posted % 64 * CHUNK_BYTES
            sge = SGE(source.mr.buf + offset, CHUNK_BYTES, source.mr.lkey)
            wr = SendWR(
                wr_id=posted, opcode=e.IBV_WR_RDMA_WRITE, num_sge=1, sg=[sge], send_flags=e.IBV_SEND_SIGNALED
            )
            wr.set_wr_rdma(target.mr.rkey, target.mr.buf + offset)
            qp.post_send(wr)
            posted += 1
        await runtime.wait(channel)
        channel.get_cq_event(cq)
        cq.ack_events(1)
        cq.req_notify()
        polled = 16
        while polled == 16:
            polled, completions = cq.poll(16)
            for completion in completions:
                if completion.status:
                    raise RuntimeError(f"write {completion.wr_id} failed")
            completed += polled


def run_writes(count: int, flows: int = 1) -> int:
    """Write that many, by that many queue pairs; returns how many events it took."""
    env = Timeline()
    fabric = Fabric(env)
    devices = [fabric.add_device(f"rxe{index}", fabric.add_host(f"host{index}")) for index in range(2)]
    fabric.connect(devices[0], devices[1], LinkSpec(40_000_000_000, latency_ns=2_000, mtu=4096, header_bytes=74))
    runtime = SimRuntime(devices[0].host)
    tasks = []
    for flow in range(flows):
        source, target = (End(device) for device in devices)
        source.connect(target)
        target.connect(source)
        tasks.append(runtime.start(write(source, target, runtime, count // flows), f"writer {flow}"))
    env.run()
    if not all(task.done for task in tasks):
        raise RuntimeError("a writer did not finish")
    return env.number()


def run_timeouts(count: int) -> None:
    env = simpy.Environment()

    def tick(env: simpy.Environment) -> Generator[Any, Any, None]:
        while True:
            yield env.timeout(1)

    env.process(tick(env))
    env.run(until=count)


def best_rates(count: int) -> tuple[float, float]:
    """Timeouts and writes per second of processor time, each the fastest of several runs taken in turns."""
    timeouts_s = writes_s = float("inf")
    for _ in range(RUNS):
        timeouts_s = min(timeouts_s, duration_s(run_timeouts, count))
        writes_s = min(writes_s, duration_s(run_writes, count))
    return count / timeouts_s, count / writes_s


def duration_s(run: Callable[[int], object], count: int) -> float:
    begin = time.process_time()
    run(count)
    return time.process_time() - begin


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    timeouts, writes = best_rates(count)
    print(f"raw timeouts/s  {timeouts:12,.0f}")
    print(f"writes/s        {writes:12,.0f}")
    print(f"ratio           {writes / timeouts:12.3f}   (one write costs {timeouts / writes:.2f} raw timeouts)")
    for flows in (2, 8):
        begin = time.process_time()
        events = run_writes(count, flows)
        cost = (time.process_time() - begin) * timeouts / count
        print(f"{flows} queue pairs   {events / count:12.1f} events a write, {cost:.1f} raw timeouts")


if __name__ == "__main__":
    main()
