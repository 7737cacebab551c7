"""A running QEMU as the source: its VM goes to whoever listens, under any policy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from simmig.experiment.errors import InputError
from simmig.experiment.runs import exchange
from simmig.experiment.runs.ends import ASK_NS, Address, EndResult, MovedMachine, end_result, gives_account, stock
from simmig.experiment.runs.run_rdma import CONTROL_BYTES, interruptible
from simmig.experiment.scenario.policy_choice import make_policy
from simmig.experiment.scenario.schema import Scenario
from simmig.guest.api import PAGE_BYTES
from simmig.guest.qemu.errors import QemuError, Unsuitable
from simmig.guest.qemu.guest import QemuGuest
from simmig.guest.qemu.preflight import take
from simmig.migration import source
from simmig.migration.config import Outcome
from simmig.own_code import prints_aside
from simmig.trace.events import AnyEvent, DeviceStateSent, PortCounted, Side, WorkCompleted
from simmig.trace.readers import Reader
from simmig.trace.recorder import Sink
from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import Binding, load
from simmig.verbs.rdma.endpoint import RdmaDialer
from simmig.verbs.rdma.runtime import RdmaRuntime, RdmaSignal


class _QemuEnd:
    """The source's side: a QEMU's VM, and the events as they come."""

    side: Side = "source"

    def __init__(
        self,
        scenario: Scenario,
        binding: Binding,
        runtime: RdmaRuntime,
        guest: QemuGuest,
        live: Sequence[Reader],
    ) -> None:
        self.scenario = scenario
        self._binding = binding
        self._runtime = runtime
        self._guest = guest
        self._live = live
        self.events: list[AnyEvent] = []
        self.handed_over_ns: int | None = None

    def emit(self, event: AnyEvent) -> None:
        """Take an event."""
        if isinstance(event, DeviceStateSent):
            self._guest.handing_over()
        self.events.append(event)
        for reader in self._live:
            reader(event)

    @property
    def moved(self) -> MovedMachine:
        """The VM."""
        blocks = tuple((block.name, block.length_bytes) for block in self._guest.blocks)
        sent = (event.length_bytes for event in self.events if isinstance(event, DeviceStateSent))
        return MovedMachine(self._guest.machine_name, blocks, next(sent, 0))

    async def migrate(self, dialer: RdmaDialer, cancel: RdmaSignal) -> exchange.Account:
        """The migration; returns this end's account of it."""
        scenario = self.scenario
        binding, runtime = self._binding, self._runtime
        device.check_memlock(self._guest.pages * PAGE_BYTES + CONTROL_BYTES)
        policy = make_policy(scenario.policy.name, scenario.policy.parameters)
        before = {each: device.sent_bytes(binding, each) for each in device.devices(binding)}
        outcome = await source.migrate(
            scenario.migration.config(), self._guest, binding, runtime, dialer, policy, cancel, self.emit
        )
        used = dialer.device or ""
        sent_before = before.get(used)
        now = None if sent_before is None else device.sent_bytes(binding, used)
        if now is not None and sent_before is not None:
            self.emit(PortCounted(runtime.now_ns(), "source", now - sent_before))
        if outcome.status == "completed":
            self.handed_over_ns = self._last_send_ns()
        digests = b""
        if outcome.status == "completed" and gives_account(dialer.peer_data):
            digests = exchange.page_digests(self._guest.contents())
        return self._account(outcome, used, digests)

    def _last_send_ns(self) -> int:
        """When the destination had the end of the stream: the last message's completion."""
        sends = (event for event in self.events if isinstance(event, WorkCompleted) and event.opcode == "send")
        return max(event.t_ns for event in sends)

    def _account(self, outcome: Outcome, used: str, digests: bytes) -> exchange.Account:
        reason = "; ".join(filter(None, (outcome.reason, self._guest.lost)))
        return exchange.make_account(
            self._runtime.origin_ns, outcome.status, reason, self._guest.running, self.events, digests, used
        )


async def migrate_vm(
    scenario: Scenario,
    qmp: Path,
    to: Address,
    name: str | None,
    runtime: RdmaRuntime,
    cancel: RdmaSignal,
    live: Sequence[Reader] = (),
    readers: Sequence[Reader] = (),
    sink: Sink | None = None,
    hear: Callable[[str, int], None] = lambda _name, _at_ns: None,
) -> EndResult:
    """Migrate the VM of the QEMU whose QMP socket is `qmp` to whoever listens at `to`.

    Whatever the outcome but "completed", the VM runs on there. `hear` hears of QEMU's events, as of
    `QemuGuest.on_event`; the rest as of `ends.send`.
    """
    if scenario.migration.transport != "rdma":
        raise InputError("migration.transport: a machine that no scenario describes goes by rdma only")
    binding = load()
    if name is None:
        device.require(binding)
    guest = await take_hold(qmp)
    guest.on_event(hear)
    dialer = None
    try:
        dialer = RdmaDialer(binding, runtime, to.ip, to.port, name)
        end = _QemuEnd(scenario, binding, runtime, guest, live)
        own = await end.migrate(dialer, cancel)
        if not gives_account(dialer.peer_data):
            return end_result(
                end, own, None, exchange.Clock(), stock(scenario, own), readers, sink, end.handed_over_ns
            )
        theirs, clock, silence = await exchange.settle(
            runtime, guest.pages, own, dialer.dial_socket(ASK_NS), exchange.ask
        )
        handed_over_ns = end.handed_over_ns if theirs is None else None
        return end_result(end, own, theirs, clock, silence, readers, sink, handed_over_ns)
    finally:
        if dialer is not None:
            dialer.close()
        await guest.close()


def send_qemu(
    scenario: Scenario,
    qmp: Path,
    to: Address,
    name: str | None,
    live: Sequence[Reader] = (),
    readers: Sequence[Reader] = (),
    sink: Sink | None = None,
) -> EndResult:
    """`migrate_vm`, in a loop of its own; Ctrl-C cancels."""

    async def body() -> EndResult:
        runtime = RdmaRuntime()
        async with interruptible(runtime) as cancel:
            return await migrate_vm(scenario, qmp, to, name, runtime, cancel, live, readers, sink)

    with prints_aside():
        return asyncio.run(body())


async def take_hold(qmp: Path) -> QemuGuest:
    """The VM of the QEMU whose QMP socket is `qmp`; InputError names all that stands in the way."""
    try:
        return await take(qmp)
    except Unsuitable as unsuitable:
        raise InputError(*(f"--qemu {qmp}: {lack}" for lack in unsuitable.lacks)) from None
    except QemuError as error:
        raise InputError(f"--qemu {error}") from None
    except OSError as error:  # its memory's file, or its process, is not ours to open
        raise InputError(f"--qemu {qmp}: {error.filename or 'QEMU'}: {error.strerror or error}") from None
