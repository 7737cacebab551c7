"""Two devices of this host, a real guest on either side, and the migration between them: once, then look.

Both ends run in this process, as two tasks of one loop; each guest's processor is a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib

from simmig.guest.machine import Machine
from simmig.guest.real import RealGuest, different_pages
from simmig.migration import destination, source
from simmig.migration.config import MigrationConfig, Outcome
from simmig.migration.policies import Policy
from simmig.trace.events import Emit, MemoryCompared, PortCounted, Side
from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import Binding
from simmig.verbs.rdma.endpoint import RdmaDialer, RdmaListener
from simmig.verbs.rdma.runtime import RdmaRuntime, RdmaSignal

PORT = 4444
CONTROL_BYTES = 16 << 20
"""Message buffers and queues of both ends, rounded up."""


class PortTaken(OSError):
    """The destination cannot listen; the text says where, and why."""


class RealWorld:
    """Two devices of this host, the source's first, and a guest's memory on either side. Raises PortTaken."""

    def __init__(
        self,
        binding: Binding,
        devices: tuple[str, str],
        machine: Machine,
        config: MigrationConfig,
        policy: Policy,
        emit: Emit,
    ) -> None:
        self.binding = binding
        self.config = config
        self.policy = policy
        self.devices = devices
        self.emit = emit
        self.runtime = RdmaRuntime()
        ip = device.address(binding, devices[1]).ip
        with contextlib.ExitStack() as stack:  # of what was made, when something cannot be made
            try:
                self.listener = RdmaListener(binding, self.runtime, ip, PORT)
            except OSError as error:
                raise PortTaken(f"port {PORT} of {ip}, the destination's: {error.strerror or error}") from None
            stack.callback(self.listener.close)
            self.dialer = RdmaDialer(binding, self.runtime, ip, PORT, devices[0])
            self.source = RealGuest(self.runtime, machine, emit=emit)
            stack.callback(self.source.close)
            self.destination = RealGuest(self.runtime, machine, incoming=True, emit=emit)
            stack.pop_all()
        self.outcome = Outcome("failed", "not begun")

    def close(self) -> None:
        """Give everything back, guests included."""
        self.dialer.close()
        self.listener.close()
        self.source.close()
        self.destination.close()

    async def migrate(self, cancel: RdmaSignal) -> None:
        """The migration, both ends, until both have ended.

        `cancel` is the source's: the destination hears of it from there, as when it is another process.
        """
        before = [device.sent_bytes(self.binding, name) for name in self.devices]
        await self.source.resume()
        receiving = self.runtime.start(
            destination.receive(
                self.config,
                self.destination,
                self.binding,
                self.runtime,
                self.listener,
                self.runtime.signal(),
                self.emit,
                self._compare,
            ),
            "destination",
        )
        ended = await source.migrate(
            self.config, self.source, self.binding, self.runtime, self.dialer, self.policy, cancel, self.emit
        )
        if not self.dialer.connected:
            receiving.cancel()  # nobody will come
            with contextlib.suppress(asyncio.CancelledError):
                await receiving.join()
            self.outcome = ended
            return
        received: Outcome = await receiving.join()
        self.outcome = received if ended.status == "completed" else ended
        self._count_port("source", self.devices[0], before[0])
        self._count_port("destination", self.devices[1], before[1])

    def _compare(self) -> None:
        with self.runtime.halted():  # the guest stands still meanwhile, but not for the migration's sake
            different = different_pages(self.source.memory, self.destination.memory)
        pages = sum(block.pages for block in self.source.blocks)
        self.emit(MemoryCompared(self.runtime.now_ns(), "destination", pages, different))

    def _count_port(self, side: Side, name: str, before: int | None) -> None:
        now = device.sent_bytes(self.binding, name)
        if now is not None and before is not None:
            self.emit(PortCounted(self.runtime.now_ns(), side, now - before))
