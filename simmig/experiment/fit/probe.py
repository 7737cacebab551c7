"""What a pair of devices and their hosts can do, measured by some seconds of work on them: the raw samples.

Two processes, as in `pair.py`: one registers memory and lets it be written to, this one registers memory of its
own and writes. Every figure is a list of samples in nanoseconds; `calibrate.py` makes costs of them.
"""

from __future__ import annotations

import asyncio
import mmap
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from simmig.experiment.runs.pair import beside
from simmig.experiment.runs.run_rdma import PORT
from simmig.experiment.scenario.machine import Devices
from simmig.guest.api import PAGE_BYTES, RamBlock
from simmig.migration.ram import DirtyBitmap
from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import Binding, load
from simmig.verbs.rdma.cm import RdmaConnection
from simmig.verbs.rdma.endpoint import RdmaDialer, RdmaListener
from simmig.verbs.rdma.runtime import RdmaRuntime

_MIB = 1 << 20
MESSAGE_BYTES = _MIB
_STREAM_MESSAGES = 8
_STREAMS = 3
_PINGS = 24
_PING_BYTES = 8
_REGISTERED_PAGES = (1, 64, 256, 1024, 4096)
_REGISTRATIONS = 5
_SCANNED_PAGES = 4096
_SCANS = 5
_TIMEOUT_NS = 10_000_000_000
_GRANT = struct.Struct(">QI")


@dataclass
class Samples:
    """Times in ns. Pairs are (pages or bytes, ns)."""

    register: list[tuple[int, int]] = field(default_factory=list)
    """Memory of this host that holds something."""
    register_fresh: list[tuple[int, int]] = field(default_factory=list)
    """Memory that nothing was written to yet, as a destination's is."""
    deregister: list[tuple[int, int]] = field(default_factory=list)
    polled_ping: list[int] = field(default_factory=list)
    """A write of a few bytes until its completion is polled, by polling all the time."""
    awaited_ping: list[int] = field(default_factory=list)
    """The same, by waiting for the completion channel."""
    small_post: list[int] = field(default_factory=list)
    large_post: list[int] = field(default_factory=list)
    """Posting 1 MiB on a queue with nothing in flight."""
    empty_poll: list[int] = field(default_factory=list)
    full_poll: list[int] = field(default_factory=list)
    """A poll that finds one completion."""
    interval: list[int] = field(default_factory=list)
    """Between the completions of two writes of 1 MiB posted together."""
    scan: list[int] = field(default_factory=list)
    """Per page."""
    sync: list[int] = field(default_factory=list)
    """Per page."""
    zero_test: list[int] = field(default_factory=list)
    """Per page."""
    mtu_bytes: int = 4096
    packet_bytes: list[float] = field(default_factory=list)
    """What the network interface counted per full packet, if anybody counts."""

    def add(self, later: Samples) -> None:
        """Take in what was measured at another time."""
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(later, each.name)
            setattr(self, each.name, mine + theirs if isinstance(mine, list) else theirs)


class _Queue:
    """A queue pair, its completion queue, and memory to register."""

    def __init__(self, binding: Binding, connection: RdmaConnection) -> None:
        context = connection.context
        self.binding = binding
        self.pd = binding.PD(context)
        self.channel = binding.CompChannel(context)
        self.cq = binding.CQ(context, 64, None, self.channel, 0)
        cap = binding.QPCap(32, 3, 1, 1, 0)
        init = binding.QPInitAttr(
            qp_type=binding.enums.IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=cap, sq_sig_all=0
        )
        self.qp = binding.QP(self.pd, init)
        connection.prepare(self.qp)

    def region(self, length_bytes: int, address: int, remote: bool = False) -> Any:
        enums = self.binding.enums
        access = enums.IBV_ACCESS_LOCAL_WRITE | (enums.IBV_ACCESS_REMOTE_WRITE if remote else 0)
        return self.binding.MR(self.pd, length_bytes, access, address)

    def close(self) -> None:
        self.qp.close()
        self.cq.close()
        self.channel.close()
        self.pd.close()


class _Memory:
    """Anonymous memory."""

    def __init__(self, length_bytes: int, touched: bool) -> None:
        self._map = mmap.mmap(-1, length_bytes)
        self._bytes = np.frombuffer(self._map, dtype=np.uint8)
        if touched:
            self._bytes[::PAGE_BYTES] = 1
        self.address = int(self._bytes.ctypes.data)

    def close(self) -> None:
        del self._bytes
        self._map.close()


def probe(devices: Devices) -> Samples:
    """Measure; raises RdmaUnavailable, PeerFailed or OSError."""
    binding = load()
    device.check_memlock(max(_REGISTERED_PAGES) * PAGE_BYTES + 2 * MESSAGE_BYTES)
    ip = device.address(binding, devices.destination).ip
    with beside(lambda ready: asyncio.run(_serve(binding, ip, ready))):
        try:
            return asyncio.run(_measure(binding, ip, devices))
        except binding.PyverbsError as error:
            raise OSError(f"measuring {devices.source}: {error}") from error


async def _serve(binding: Binding, ip: str, ready: Callable[[], None]) -> None:
    runtime = RdmaRuntime()
    listener = RdmaListener(binding, runtime, ip, PORT)
    ready()
    connection = await listener.request()
    queue = _Queue(binding, connection)
    memory = _Memory(MESSAGE_BYTES, touched=True)
    region = queue.region(MESSAGE_BYTES, memory.address, remote=True)
    await connection.accept(queue.qp, _GRANT.pack(memory.address, region.rkey))
    await runtime.wait(connection)
    region.close()
    queue.close()
    listener.close()


async def _measure(binding: Binding, ip: str, devices: Devices) -> Samples:
    samples = Samples()
    runtime = RdmaRuntime()
    dialer = RdmaDialer(binding, runtime, ip, PORT, devices.source)
    connection = await dialer.dial(_TIMEOUT_NS)
    queue = _Queue(binding, connection)
    address, rkey = _GRANT.unpack_from(await connection.connect(queue.qp, b"", _TIMEOUT_NS))
    samples.mtu_bytes = 128 << queue.qp.query(binding.enums.IBV_QP_PATH_MTU)[0].path_mtu
    memory = _Memory(MESSAGE_BYTES, touched=True)
    region = queue.region(MESSAGE_BYTES, memory.address)
    writer = _Writer(queue, runtime, region, address, rkey)
    _registrations(queue, samples)
    for awaited in (False, True):
        for _ in range(_PINGS):
            await writer.ping(samples, awaited)
    before = device.sent_bytes(binding, devices.source)
    for _ in range(_STREAMS):
        await writer.stream(samples)
    after = device.sent_bytes(binding, devices.source)
    packets = _STREAMS * _STREAM_MESSAGES * MESSAGE_BYTES / samples.mtu_bytes
    if before is not None and after is not None and after - before >= packets * samples.mtu_bytes:
        samples.packet_bytes.append((after - before) / packets)
    _host_work(samples)
    region.close()
    queue.close()
    memory.close()
    dialer.close()
    return samples


class _Writer:
    """Writes from one region to one at the peer."""

    def __init__(self, queue: _Queue, runtime: RdmaRuntime, region: Any, address: int, rkey: int) -> None:
        self._queue = queue
        self._runtime = runtime
        self._region = region
        self._address = address
        self._rkey = rkey

    def _post(self, length_bytes: int) -> int:
        """How long the post took."""
        binding = self._queue.binding
        wr = binding.SendWR(
            wr_id=1,
            opcode=binding.enums.IBV_WR_RDMA_WRITE,
            num_sge=1,
            sg=[binding.SGE(self._region.buf, length_bytes, self._region.lkey)],
            send_flags=binding.enums.IBV_SEND_SIGNALED,
        )
        wr.set_wr_rdma(self._rkey, self._address)
        began_ns = time.monotonic_ns()
        self._queue.qp.post_send(wr)
        return time.monotonic_ns() - began_ns

    def _poll(self) -> int:
        """How many completions there are, one at most."""
        count, completions = self._queue.cq.poll(1)
        if count and completions[0].status:
            raise OSError(f"a write failed with status {completions[0].status}")
        return int(count)

    async def _wait(self) -> None:
        """Until a completion can be polled."""
        queue = self._queue
        queue.cq.req_notify()
        if not self._poll():
            await self._runtime.wait(queue.channel)
            queue.channel.get_cq_event(queue.cq)
            queue.cq.ack_events(1)
            while not self._poll():
                pass

    async def ping(self, samples: Samples, awaited: bool) -> None:
        """One small write, there and back."""
        began_ns = time.monotonic_ns()
        samples.small_post.append(self._post(_PING_BYTES))
        if awaited:
            await self._wait()
            samples.awaited_ping.append(time.monotonic_ns() - began_ns)
            return
        while True:
            asked_ns = time.monotonic_ns()
            if self._poll():
                break
            samples.empty_poll.append(time.monotonic_ns() - asked_ns)
        ended_ns = time.monotonic_ns()
        samples.full_poll.append(ended_ns - asked_ns)
        samples.polled_ping.append(ended_ns - began_ns)
        del samples.empty_poll[:-1000]

    async def stream(self, samples: Samples) -> None:
        """Several large writes at once."""
        samples.large_post.append(self._post(MESSAGE_BYTES))
        for _ in range(_STREAM_MESSAGES - 1):
            self._post(MESSAGE_BYTES)
        last_ns = 0
        for _ in range(_STREAM_MESSAGES):
            await self._wait()
            now_ns = time.monotonic_ns()
            if last_ns:
                samples.interval.append(now_ns - last_ns)
            last_ns = now_ns


def _registrations(queue: _Queue, samples: Samples) -> None:
    for _ in range(_REGISTRATIONS):
        for pages in _REGISTERED_PAGES:
            for touched, into in ((True, samples.register), (False, samples.register_fresh)):
                memory = _Memory(pages * PAGE_BYTES, touched)
                began_ns = time.monotonic_ns()
                region = queue.region(pages * PAGE_BYTES, memory.address, remote=not touched)
                registered_ns = time.monotonic_ns()
                region.close()
                into.append((pages, registered_ns - began_ns))
                samples.deregister.append((pages, time.monotonic_ns() - registered_ns))
                memory.close()


def _host_work(samples: Samples) -> None:
    """What the migration does itself: walk a bitmap, merge a dirty log into it, look whether pages are zero."""
    pages = _SCANNED_PAGES
    log = np.zeros(pages, dtype=np.uint32)
    memory = np.zeros((256, PAGE_BYTES // 8), dtype=np.uint64)
    memory[:] = 0  # fault it in
    for _ in range(_SCANS):
        bitmap = DirtyBitmap([RamBlock("ram", 0, pages * PAGE_BYTES, 0, 0)])
        began_ns = time.monotonic_ns()
        while bitmap.take(256) is not None:
            pass
        samples.scan.append((time.monotonic_ns() - began_ns) // pages)
        began_ns = time.monotonic_ns()
        written = log.copy() != log
        np.count_nonzero(written & ~bitmap.bits)
        bitmap.bits |= written
        bitmap.rescan()
        samples.sync.append((time.monotonic_ns() - began_ns) // pages)
        began_ns = time.monotonic_ns()
        memory.any()
        samples.zero_test.append((time.monotonic_ns() - began_ns) // len(memory))
