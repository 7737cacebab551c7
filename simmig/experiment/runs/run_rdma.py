"""One scenario, carried out: a real guest, two RDMA devices of this host, and the same migration as simulated.

Both ends run in this process, as two tasks of one loop; the guest's processor is a process of its own.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from simmig.experiment.errors import InputError
from simmig.experiment.result import DeviceResult
from simmig.experiment.scenario.machine import Devices, machine_of
from simmig.experiment.scenario.policy_choice import make_policy, parameters_of
from simmig.experiment.scenario.schema import Scenario
from simmig.migration.config import Outcome
from simmig.own_code import prints_aside
from simmig.trace.events import AnyEvent
from simmig.trace.metrics import Metrics
from simmig.trace.readers import Reader
from simmig.trace.recorder import Recorder, Sink
from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import load
from simmig.verbs.rdma.runtime import RdmaRuntime, RdmaSignal
from simmig.verify.invariants import Invariants
from simmig.verify.migration.real_world import CONTROL_BYTES, PORT, PortTaken, RealWorld

__all__ = ["CONTROL_BYTES", "PORT", "interruptible", "run_rdma"]


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
        policy = make_policy(scenario.policy.name, scenario.policy.parameters)
        names = devices.source, devices.destination
        seen = emit if live else recorder.emit
        try:
            world = RealWorld(binding, names, machine, scenario.migration.config(), policy, seen)
        except PortTaken as error:
            raise InputError(str(error)) from None
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
