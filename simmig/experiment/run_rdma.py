"""One scenario, carried out: a real guest, two RDMA devices of this host, and the same migration as simulated.

Both ends run in this process, as two tasks of one loop; the guest's processor is a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from simmig.experiment.errors import InputError
from simmig.experiment.machine import Devices, machine_of
from simmig.experiment.policy_choice import make_policy, parameters_of
from simmig.experiment.result import DeviceResult
from simmig.experiment.schema import Scenario
from simmig.guest.machine import Machine
from simmig.guest.real import RealGuest, different_pages
from simmig.migration import destination, source
from simmig.migration.config import Outcome
from simmig.migration.policies.own_code import prints_aside
from simmig.trace.events import AnyEvent, Emit, MemoryCompared, PortCounted, Side
from simmig.trace.metrics import Metrics
from simmig.trace.readers import Reader
from simmig.trace.recorder import Recorder, Sink
from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import Binding, load
from simmig.verbs.rdma.endpoint import RdmaDialer, RdmaListener
from simmig.verbs.rdma.runtime import RdmaRuntime, RdmaSignal
from simmig.verify.invariants import Invariants

PORT = 4444
CONTROL_BYTES = 16 << 20
"""Message buffers and queues of both ends, rounded up."""


class World:
    """Two devices of this host, and a guest's memory on either side."""

    def __init__(
        self, binding: Binding, scenario: Scenario, machine: Machine, devices: Devices, emit: Emit
    ) -> None:
        self.binding = binding
        self.config = scenario.migration.config()
        self.policy = make_policy(scenario.policy.name, scenario.policy.parameters)
        self.devices = devices
        self.emit = emit
        self.runtime = RdmaRuntime()
        ip = device.address(binding, devices.destination).ip
        with contextlib.ExitStack() as stack:  # of what was made, when something cannot be made
            try:
                self.listener = RdmaListener(binding, self.runtime, ip, PORT)
            except OSError as error:
                raise InputError(f"port {PORT} of {ip}, the destination's: {error.strerror or error}") from None
            stack.callback(self.listener.close)
            self.dialer = RdmaDialer(binding, self.runtime, ip, PORT, devices.source)
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
        before = [
            device.sent_bytes(self.binding, name) for name in (self.devices.source, self.devices.destination)
        ]
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
        self._count_port("source", self.devices.source, before[0])
        self._count_port("destination", self.devices.destination, before[1])

    def _compare(self) -> None:
        with self.runtime.halted():  # the guest stands still meanwhile, but not for the migration's sake
            different = different_pages(self.source.memory, self.destination.memory)
        pages = sum(block.pages for block in self.source.blocks)
        self.emit(MemoryCompared(self.runtime.now_ns(), "destination", pages, different))

    def _count_port(self, side: Side, name: str, before: int | None) -> None:
        now = device.sent_bytes(self.binding, name)
        if now is not None and before is not None:
            self.emit(PortCounted(self.runtime.now_ns(), side, now - before))


def run_rdma(
    scenario: Scenario,
    devices: Devices,
    live: Sequence[Reader] = (),
    readers: Sequence[Reader] = (),
    sink: Sink | None = None,
) -> DeviceResult:
    """Migrate on real devices; Ctrl-C cancels, and the source's guest goes on running.

    `live` see events as they come, at the migration's expense; `readers` and `sink` some time later. Raises
    InputError for a scenario that only a simulation can carry out, and RdmaUnavailable.
    """
    if scenario.guest.ballooned_pages:
        raise InputError("guest.ballooned: a real guest has no balloon")
    binding = load()
    for name in (devices.source, devices.destination):
        device.check(binding, name)
    machine = machine_of(scenario)
    device.check_memlock(2 * machine.pages * 4096 + CONTROL_BYTES)
    metrics, invariants = Metrics(), Invariants()
    recorder = Recorder((metrics, invariants, *readers), sink)

    def emit(event: AnyEvent) -> None:
        recorder.emit(event)
        for reader in live:
            reader(event)

    async def body() -> tuple[Outcome, bool, bool, int]:
        world = World(binding, scenario, machine, devices, emit if live else recorder.emit)
        try:
            async with interruptible(world.runtime) as cancel:
                await world.migrate(cancel)
            return world.outcome, world.source.running, world.destination.running, world.source.late_ns
        finally:
            world.close()

    with prints_aside():
        outcome, source_running, destination_running, late_ns = asyncio.run(body())
    recorder.flush()
    return DeviceResult(
        status=outcome.status,
        reason=outcome.reason,
        backend="rdma",
        policy=scenario.policy.name,
        policy_parameters=parameters_of(make_policy(scenario.policy.name, scenario.policy.parameters)),
        seed=scenario.seed,
        invariants=invariants.results(),
        source_running=source_running,
        destination_running=destination_running,
        trace_sha256=recorder.sha256(),
        metrics=metrics,
        devices=(devices.source, devices.destination),
        guest_late_ns=late_ns,
    )


@asynccontextmanager
async def interruptible(runtime: RdmaRuntime) -> AsyncIterator[RdmaSignal]:
    """A signal that Ctrl-C sets, as long as the block lasts."""
    cancel = runtime.signal()
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGINT, cancel.set)
    except (ValueError, RuntimeError):  # not the main thread: nobody's Ctrl-C comes here
        yield cancel
        return
    try:
        yield cancel
    finally:
        loop.remove_signal_handler(signal.SIGINT)
