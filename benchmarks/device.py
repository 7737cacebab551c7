"""Writes of 1 MiB through simmig's backend, over what ib_write_bw (perftest) makes of the same link and boot.

In the lab: simmig lab --rate '100 Mbit/s' -- python benchmarks/device.py
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from typing import Any

from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import Binding, load
from simmig.verbs.rdma.cm import RdmaConnection
from simmig.verbs.rdma.endpoint import RdmaDialer, RdmaListener
from simmig.verbs.rdma.errors import RdmaUnavailable
from simmig.verbs.rdma.runtime import RdmaRuntime

SOURCE, DESTINATION = "rxe0", "rxe1"
PORT = 4445
WRITE_BYTES = 1 << 20
WRITES = 60
DEPTH = 32
TARGET = 0.95
TIMEOUT_NS = 60_000_000_000
PATIENCE_S = 300


class Queue:
    """A queue pair, and a region to write from or to."""

    def __init__(self, verbs: Binding, connection: RdmaConnection) -> None:
        enums = verbs.enums
        self.pd = verbs.PD(connection.context)
        self.channel = verbs.CompChannel(connection.context)
        self.cq = verbs.CQ(connection.context, 2 * DEPTH, None, self.channel, 0)
        cap = verbs.QPCap(DEPTH, 1, 1, 1, 0)
        init = verbs.QPInitAttr(qp_type=enums.IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=cap, sq_sig_all=0)
        self.qp = verbs.QP(self.pd, init)
        access = enums.IBV_ACCESS_LOCAL_WRITE | enums.IBV_ACCESS_REMOTE_WRITE
        self.mr = verbs.MR(self.pd, WRITE_BYTES, access)
        connection.prepare(self.qp)

    def close(self) -> None:
        for each in (self.qp, self.mr, self.cq, self.channel, self.pd):
            each.close()


async def _pump(verbs: Binding, runtime: RdmaRuntime, active: RdmaConnection, here: Queue, there: Queue) -> float:
    """Write, DEPTH at a time; returns bit/s."""
    enums = verbs.enums
    sge = verbs.SGE(here.mr.buf, WRITE_BYTES, here.mr.lkey)
    posted = done = 0
    here.cq.req_notify()
    began_ns = time.monotonic_ns()
    while done < WRITES:
        while posted < WRITES and posted - done < DEPTH:
            wr = verbs.SendWR(
                wr_id=posted,
                opcode=enums.IBV_WR_RDMA_WRITE,
                num_sge=1,
                sg=[sge],
                send_flags=enums.IBV_SEND_SIGNALED,
            )
            wr.set_wr_rdma(there.mr.rkey, there.mr.buf)
            here.qp.post_send(wr)
            posted += 1
        if not await runtime.wait(here.channel, active, deadline_ns=runtime.now_ns() + TIMEOUT_NS) or active.lost:
            raise SystemExit(f"device: {active.lost or 'no completion'} after {done} writes")
        here.channel.get_cq_event(here.cq)
        here.cq.ack_events(1)
        here.cq.req_notify()
        while (polled := here.cq.poll(16))[0]:
            if any(completion.status for completion in polled[1]):
                raise SystemExit("device: a write failed")
            done += polled[0]
    return WRITES * WRITE_BYTES * 8e9 / (time.monotonic_ns() - began_ns)


async def simmig_bit_s(verbs: Binding) -> float:
    """What simmig's backend makes of the link."""
    runtime = RdmaRuntime()
    ip = device.address(verbs, DESTINATION).ip
    listener = RdmaListener(verbs, runtime, ip, PORT)
    dialer = RdmaDialer(verbs, runtime, ip, PORT, SOURCE)

    async def serve() -> Queue:
        passive = await listener.request()
        queue = Queue(verbs, passive)
        await passive.accept(queue.qp, b"")
        return queue

    server: asyncio.Task[Any] = asyncio.create_task(serve())
    active = await dialer.dial(TIMEOUT_NS)
    here = Queue(verbs, active)
    await active.connect(here.qp, b"", TIMEOUT_NS)
    there = await server
    bit_s = await _pump(verbs, runtime, active, here, there)
    here.close()
    there.close()
    dialer.close()
    listener.close()
    return bit_s


def perftest_bit_s(verbs: Binding) -> float:
    """What ib_write_bw makes of it (average, as it reports with --report_gbits)."""
    options = ["-x", str(device.address(verbs, SOURCE).gid_index), "-s", str(WRITE_BYTES), "-n", str(WRITES)]
    options += ["-t", str(DEPTH), "-F", "--report_gbits"]
    server = subprocess.Popen(["ib_write_bw", "-d", DESTINATION, *options], stdout=subprocess.DEVNULL)
    try:
        time.sleep(2)  # until it listens
        ip = device.address(verbs, DESTINATION).ip
        client = ["ib_write_bw", "-d", SOURCE, *options, ip]
        done = subprocess.run(client, check=True, capture_output=True, text=True, timeout=PATIENCE_S)
        server.wait(PATIENCE_S)
    finally:
        server.kill()
    row = re.search(rf"^\s*{WRITE_BYTES}\s+\d+\s+[\d.]+\s+([\d.]+)", done.stdout, re.MULTILINE)
    if row is None:
        raise SystemExit(f"device: ib_write_bw said\n{done.stdout}")
    return float(row[1]) * 1e9


def main() -> int:
    """Three of each, in turn; the medians are compared."""
    try:
        verbs = load()
        device.check(verbs, SOURCE)
        device.check(verbs, DESTINATION)
    except RdmaUnavailable as reason:
        print(f"device: left out: {reason}")
        return 0
    if shutil.which("ib_write_bw") is None:
        print("device: left out: there is no ib_write_bw (on Debian: apt-get install perftest)")
        return 0
    pairs = [(asyncio.run(simmig_bit_s(verbs)), perftest_bit_s(verbs)) for _ in range(3)]
    ours, theirs = (sorted(column)[1] for column in zip(*pairs, strict=True))
    ratio = ours / theirs
    print(json.dumps({"simmig_bit_s": round(ours), "ib_write_bw_bit_s": round(theirs), "ratio": round(ratio, 3)}))
    return 0 if ratio >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
