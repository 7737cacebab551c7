"""A migration between two processes, on two hosts or on one: the source's end, and the destination's.

Each end records its own events; when all is over the two exchange them (`exchange.py`), so that both have the
whole trace and the same figures. An end that cannot reach the other has its own view only, and leaves open what it
does not show.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from simmig.experiment.amounts import format_bytes
from simmig.experiment.errors import InputError
from simmig.experiment.result import DeviceResult
from simmig.experiment.runs import exchange
from simmig.experiment.runs.run_rdma import CONTROL_BYTES, PORT, interruptible
from simmig.experiment.scenario.machine import machine_of
from simmig.experiment.scenario.policy_choice import make_policy, parameters_of
from simmig.experiment.scenario.schema import Scenario
from simmig.guest.api import PAGE_BYTES
from simmig.guest.kept import KeptGuest
from simmig.guest.real import RealGuest
from simmig.migration import destination, source, wire
from simmig.migration.config import Outcome
from simmig.own_code import prints_aside
from simmig.trace.events import AnyEvent, PortCounted, Side, VmResumed
from simmig.trace.metrics import Metrics
from simmig.trace.readers import Reader
from simmig.trace.recorder import Recorder, Sink
from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import Binding, load
from simmig.verbs.rdma.endpoint import RdmaDialer, RdmaListener
from simmig.verbs.rdma.runtime import RdmaRuntime, RdmaSignal
from simmig.verify.invariants import Invariants

ASK_NS = 2_000_000_000
"""How long a source tries to reach its destination once more, when all is over."""
_ANSWER_NS = 10_000_000_000
"""How long a destination waits for its source to ask, once it has ended."""
STOCK = "a stock QEMU, which gives no account"
_STOCK_BATCH = "; it answers one registration a message, so that a batch is chunks that lie side by side"
_STOCK_REASON = "; if it refused something, it says what on its standard error, where it was started"
_SOURCE_DOES_NOT_KNOW = frozenset({"memory_identical", "destination_running"})
_DESTINATION_KNOWS = frozenset(
    {"status", "reason", "backend", "devices", "side", "peer", "peer_silence", "machine"}
    | {"invariants", "destination_running", "seed", "trace_sha256"}
)
"""Of a run's figures, by an end that could not ask the other."""


@dataclass(frozen=True)
class Address:
    """An IP address and a port."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True)
class MovedMachine:
    """A machine that no scenario describes: its name, RAM blocks (name, bytes) and how long its state is."""

    name: str
    blocks: tuple[tuple[str, int], ...]
    state_bytes: int

    @property
    def words(self) -> str:
        """For a headline."""
        total_bytes = sum(length_bytes for _, length_bytes in self.blocks)
        return f"machine {self.name}, {format_bytes(total_bytes)} in {len(self.blocks)} blocks"


@dataclass(frozen=True)
class EndResult(DeviceResult):
    """A migration as one end knows it.

    Attributes:
        side: which end.
        peer: the other end's account; None when it could not be asked.
        silence: why not.
        clock_uncertainty_ns: how far the other end's times may be off; 0 on one host.
        machine: the machine that was moved, when it is not a scenario's.
    """

    side: Side
    peer: exchange.Account | None
    silence: str
    clock_uncertainty_ns: int
    machine: MovedMachine | None = None

    @property
    def guest(self) -> str:
        """The machine in words."""
        return "" if self.machine is None else self.machine.words

    @property
    def remark(self) -> str:
        """How the other end ended, or why nobody knows."""
        if self.peer is None:
            return self.silence
        return self.peer.status + (f" ({self.peer.reason})" if self.peer.reason else "")

    def figures(self) -> dict[str, Any]:
        """As every run's, what this end cannot know null; `side`, and of the other end `peer`."""
        figures = super().figures() | {"side": self.side, "peer": None, "peer_silence": self.silence}
        figures["machine"] = None if self.machine is None else asdict(self.machine)
        if self.peer is not None:
            figures["peer"] = {
                "status": self.peer.status,
                "reason": self.peer.reason,
                "clock_uncertainty_ns": self.clock_uncertainty_ns,
            }
            return figures
        unknown = _SOURCE_DOES_NOT_KNOW if self.side == "source" else figures.keys() - _DESTINATION_KNOWS
        return figures | dict.fromkeys(unknown)


class End(Protocol):
    """What a result needs to know of an end."""

    @property
    def scenario(self) -> Scenario:
        """How to migrate."""

    @property
    def side(self) -> Side:
        """Which end."""

    @property
    def moved(self) -> MovedMachine | None:
        """The machine, if it is not a scenario's and known by now."""


class _End:
    """One side: its guest, its events as they come, the way to the other side."""

    def __init__(
        self, scenario: Scenario, side: Side, live: Sequence[Reader], machine: KeptGuest | None = None
    ) -> None:
        if scenario.guest.ballooned_pages:
            raise InputError("guest.ballooned: a real guest has no balloon")
        if machine is not None and scenario.migration.transport != "rdma":
            raise InputError("migration.transport: a machine that no scenario describes goes by rdma only")
        self.binding: Binding = load()
        self.scenario = scenario
        self.side = side
        own = machine_of(scenario) if machine is None else None
        pages = own.pages if own is not None else sum(block.pages for block in machine.blocks) if machine else 0
        device.check_memlock(pages * PAGE_BYTES + CONTROL_BYTES)
        self.config = scenario.migration.config()
        self.runtime = RdmaRuntime()
        self.origin_ns = self.runtime.origin_ns
        self.events: list[AnyEvent] = []
        self.digests = b""
        self.device = ""
        self._live = live
        self.kept = machine
        self.guest: RealGuest | KeptGuest
        if own is not None:
            self.guest = RealGuest(self.runtime, own, incoming=side == "destination", emit=self.emit)
        else:
            assert machine is not None
            self.guest = machine

    def emit(self, event: AnyEvent) -> None:
        """Take an event of this side."""
        self.events.append(event)
        for reader in self._live:
            reader(event)

    @property
    def pages(self) -> int:
        """In all blocks."""
        return sum(block.pages for block in self.guest.blocks)

    def digest(self) -> None:
        """Remember what the memory is; the clock stands still meanwhile, as wherever memory is compared."""
        with self.runtime.halted():
            self.digests = exchange.page_digests(self.guest.memory.pages)

    def count_port(self, name: str, before: int | None) -> None:
        """Record what the device's port has sent since, and that it took part."""
        self.device = name
        now = device.sent_bytes(self.binding, name)
        if now is not None and before is not None:
            self.emit(PortCounted(self.runtime.now_ns(), self.side, now - before))

    def account(self, outcome: Outcome) -> exchange.Account:
        """What this end has to tell."""
        return exchange.make_account(
            self.origin_ns,
            outcome.status,
            outcome.reason,
            self.guest.running,
            self.events,
            self.digests,
            self.device,
            self.guest.late_ns,
        )

    @property
    def moved(self) -> MovedMachine | None:
        """The machine, if it is not a scenario's and known by now."""
        if self.kept is None or not self.kept.blocks:
            return None
        blocks = tuple((block.name, block.length_bytes) for block in self.kept.blocks)
        return MovedMachine(self.kept.machine_name, blocks, len(self.kept.state))


def send(
    scenario: Scenario,
    to: Address,
    name: str | None,
    live: Sequence[Reader] = (),
    readers: Sequence[Reader] = (),
    sink: Sink | None = None,
    machine: KeptGuest | None = None,
) -> EndResult:
    """Migrate a guest of this process to whoever listens at `to`; Ctrl-C cancels, and the guest goes on running.

    The guest is the scenario's, or that `machine`, which is closed. `name` is the device to send from; without it
    the routes decide. `live` see this end's events as they come, `readers` and `sink` get the whole trace in the
    end. Raises InputError and RdmaUnavailable.
    """

    async def body() -> EndResult:
        end = _End(scenario, "source", live, machine)
        dialer = None
        try:
            if name is None:
                device.require(end.binding)
            dialer = RdmaDialer(end.binding, end.runtime, to.ip, to.port, name)
            policy = make_policy(scenario.policy.name, scenario.policy.parameters)
            before = {each: device.sent_bytes(end.binding, each) for each in device.devices(end.binding)}
            async with interruptible(end.runtime) as cancel:
                await end.guest.resume()
                outcome = await source.migrate(
                    end.config, end.guest, end.binding, end.runtime, dialer, policy, cancel, end.emit
                )
            if dialer.device is not None:
                end.count_port(dialer.device, before.get(dialer.device))
            tells = gives_account(dialer.peer_data)
            if tells and not end.guest.running:
                end.digest()
            own = end.account(outcome)
            if not tells:
                return end_result(end, own, None, exchange.Clock(), stock(scenario, own), readers, sink)
            theirs, clock, silence = await exchange.settle(
                end.runtime, end.pages, own, dialer.dial_socket(ASK_NS), exchange.ask
            )
            return end_result(end, own, theirs, clock, silence, readers, sink)
        finally:
            if dialer is not None:
                dialer.close()
            end.guest.close()

    with prints_aside():
        return asyncio.run(body())


def receive(
    scenario: Scenario,
    listen: Address | None,
    name: str | None,
    listening: Callable[[Address], None],
    live: Sequence[Reader] = (),
    readers: Sequence[Reader] = (),
    sink: Sink | None = None,
    machine: KeptGuest | None = None,
) -> EndResult:
    """Wait for one source and take its guest over into this process; Ctrl-C cancels.

    Listens at `listen`, by default at the address of the device `name`, or of this host's only one. `listening` is
    called with the address as soon as a source may come; the guest becomes the scenario's, or `machine`; the rest
    as in `send`.
    """

    async def body() -> EndResult:
        end = _End(scenario, "destination", live, machine)
        listener = None
        try:
            async with interruptible(end.runtime) as cancel:
                if name is not None:
                    device.check(end.binding, name)
                device.require(end.binding)
                at = listen or Address(_own_ip(end.binding, name), PORT)
                try:
                    listener = RdmaListener(end.binding, end.runtime, at.ip, at.port)
                except OSError as error:
                    raise InputError(f"--listen {at}: {_text(error)}") from None
                listening(at)
                before = {each: device.sent_bytes(end.binding, each) for each in device.devices(end.binding)}
                outcome = await _take_over(end, listener, cancel)
            if listener.device is not None:
                end.count_port(listener.device, before.get(listener.device))
            own = end.account(outcome)
            if not listener.visited:
                return end_result(end, own, None, exchange.Clock(), "no source came", readers, sink)
            if not gives_account(listener.peer_data):
                return end_result(end, own, None, exchange.Clock(), STOCK, readers, sink)
            deadline_ns = end.runtime.now_ns() + _ANSWER_NS
            theirs, clock, silence = await exchange.settle(
                end.runtime, end.pages, own, listener.socket(deadline_ns), exchange.answer
            )
            return end_result(end, own, theirs, clock, silence, readers, sink)
        finally:
            if listener is not None:
                listener.close()
            end.guest.close()

    return asyncio.run(body())


def stock(scenario: Scenario, own: exchange.Account) -> str:
    """What is to be said of a destination that is a stock QEMU."""
    batch = scenario.migration.registration_batch > 1 and not scenario.migration.pin_all
    return STOCK + (_STOCK_BATCH if batch else "") + (_STOCK_REASON if own.status == "failed" else "")


def gives_account(peer_data: bytes | None) -> bool:
    """Whether the peer, of which that is the private data, is to be asked. A socket's can only be a simmig."""
    try:
        return peer_data is None or wire.is_simmig(peer_data)
    except wire.WireError:
        return False


async def _take_over(end: _End, listener: RdmaListener, cancel: RdmaSignal) -> Outcome:
    """The destination's migration. An interrupt cancels the wait for a source, or the migration."""

    def compare() -> None:
        if gives_account(listener.peer_data):
            end.digest()

    receiving = end.runtime.start(
        destination.receive(end.config, end.guest, end.binding, end.runtime, listener, cancel, end.emit, compare),
        "destination",
    )

    def give_up() -> None:
        if not listener.visited:
            receiving.cancel()

    cancel.add_waiter(give_up)
    if cancel.is_set:
        give_up()
    with contextlib.suppress(asyncio.CancelledError):
        outcome: Outcome = await receiving.join()
        return outcome
    return Outcome("cancelled", "cancelled by the user, no source had come")


def _own_ip(binding: Binding, name: str | None) -> str:
    name = name or device.only(binding)
    return device.address(binding, name).ip


def end_result(
    end: End,
    own: exchange.Account,
    theirs: exchange.Account | None,
    clock: exchange.Clock,
    silence: str,
    readers: Sequence[Reader],
    sink: Sink | None,
    handed_over_ns: int | None = None,
) -> EndResult:
    """One end's migration, from what it and, where it was asked, the other end recorded.

    `handed_over_ns` is when the destination had all, where nobody tells when it resumed.
    """
    scenario, side = end.scenario, end.side
    metrics, invariants = Metrics(), Invariants()
    recorder = Recorder((metrics, invariants, *readers), sink)
    events, outcome = own.trace, own
    accounts: tuple[exchange.Account, ...] = (own,)
    if theirs is not None:
        there, here = accounts = (own, theirs) if side == "source" else (theirs, own)
        events = exchange.whole_trace(there, here, clock)
        outcome = here if there.status == "completed" else there  # as of a run in one process
    for event in events:
        recorder.emit(event)
    recorder.flush()
    if handed_over_ns is not None:
        metrics(VmResumed(handed_over_ns, "destination"))  # in no trace: nobody saw it
    policy = make_policy(scenario.policy.name, scenario.policy.parameters)
    running = {side: own.running, _other(side): theirs is not None and theirs.running}
    return EndResult(
        status=outcome.status,
        reason=outcome.reason,
        backend="rdma",
        policy=scenario.policy.name,
        policy_parameters=parameters_of(policy),
        seed=scenario.seed,
        invariants=invariants.results(),
        source_running=running["source"],
        destination_running=running["destination"],
        trace_sha256=recorder.sha256(),
        metrics=metrics,
        devices=tuple(account.device for account in accounts if account.device),
        guest_late_ns=accounts[0].late_ns,
        side=side,
        peer=theirs,
        silence=silence,
        clock_uncertainty_ns=clock.uncertainty_ns,
        machine=end.moved,
    )


def _other(side: Side) -> Side:
    return "destination" if side == "source" else "source"


def _text(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
