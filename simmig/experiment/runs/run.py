"""One scenario, simulated: build the world, run it to its end, read its trace."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, cast

from simmig.experiment import leap
from simmig.experiment.errors import InputError
from simmig.experiment.result import Result
from simmig.experiment.runs.memory_need import require_memory
from simmig.experiment.scenario.machine import Subject, inflate_balloon, machine_of
from simmig.experiment.scenario.policy_choice import make_policy, parameters_of
from simmig.experiment.scenario.schema import Scenario
from simmig.guest.sim import SimGuest, different_pages
from simmig.migration import destination, source
from simmig.migration.config import Outcome
from simmig.migration.policies import Point, Policy, Sender, promise_of
from simmig.own_code import RAISED, prints_aside, told
from simmig.trace.events import (
    AnyEvent,
    Emit,
    HostDied,
    MemoryCompared,
    MigrationEnded,
    PortCounted,
    Promise,
    Side,
    Stalled,
)
from simmig.trace.metrics import Metrics
from simmig.trace.readers import Reader
from simmig.trace.recorder import Recorder, Sink
from simmig.verbs import sim
from simmig.verbs.api import Verbs
from simmig.verbs.sim.cm import SimDialer, SimListener
from simmig.verbs.sim.fabric import Fabric
from simmig.verbs.sim.host import HostCosts
from simmig.verbs.sim.interrupt import interrupt_between_events
from simmig.verbs.sim.link import LinkSpec
from simmig.verbs.sim.profiles import PROFILES
from simmig.verbs.sim.runtime import SimRuntime
from simmig.verbs.sim.timeline import Timeline
from simmig.verify.instants import run_to_rest
from simmig.verify.invariants import Invariants
from simmig.verify.migration.answering import Answering
from simmig.verify.patience import Endless, patience

VERBS = cast(Verbs, sim)
SIDES: tuple[Side, Side] = ("source", "destination")
ADDRESS = "10.0.0.2:4444"
MOST_EVENTS = 10_000_000
"""A longer trace takes more than some ten seconds to check: who wants it asks for it."""


def run(
    scenario: Scenario,
    readers: Sequence[Reader] = (),
    sink: Sink | None = None,
    subject: Subject | None = None,
    traced: bool = True,
    most_events: int | None = None,
    watch: leap.Watch | None = None,
) -> Result:
    """Simulate one migration.

    Args:
        scenario: what to simulate.
        readers: called with every event of the trace, in order.
        sink: where the trace is written, a JSON object a line.
        subject: a guest in place of the scenario's.
        traced: False when nobody wants the trace or its digest: the same figures, and where `leap` can, a hundred
            times as fast, with no invariant checked and no memory compared. The result names the engine.
        most_events: where `leap` can, a longer trace than that is not made: the result is one without.
        watch: told now and then how far a `leap` is that makes no trace, or none yet.

    Raises InputError when the guest cannot be built or the user's own policy raises.
    """
    if not traced and not readers and sink is None and subject is None:
        result = leap.untraced(scenario)
        if result is not None:
            return result
    if traced and subject is None:
        require_memory(machine_of(scenario))
        result = _leapt(scenario, readers, sink, most_events, watch)
        if result is not None:
            return result
    metrics, invariants = Metrics(), Invariants()
    recorder = Recorder((metrics, invariants, *readers), sink)
    world = Simulation(scenario, recorder.emit, subject)
    world.run()
    recorder.flush()
    source_running, destination_running = world.running
    return Result(
        status=world.outcome.status,
        reason=world.outcome.reason,
        backend="sim",
        policy=scenario.policy.name,
        policy_parameters=parameters_of(make_policy(scenario.policy.name, scenario.policy.parameters)),
        seed=scenario.seed,
        invariants=invariants.results(),
        source_running=source_running,
        destination_running=destination_running,
        trace_sha256=recorder.sha256() if traced else None,
        metrics=metrics,
        engine="events",
    )


def _leapt(
    scenario: Scenario,
    readers: Sequence[Reader],
    sink: Sink | None,
    most_events: int | None,
    watch: leap.Watch | None,
) -> Result | None:
    """The same by compiled code, where it can: the same trace, and every invariant checked on it."""
    invariants: list[Invariants] = []

    def record() -> Recorder:
        invariants.append(Invariants())
        return Recorder((invariants[-1], *readers), sink)

    result = leap.traced(scenario, record, not readers and sink is None, most_events, watch)
    if result is None or result.trace_sha256 is None:
        return result
    return replace(result, invariants=invariants[-1].results())


class Simulation:
    """Two hosts, a device each, a link between them, and the guest that moves; without `emit` nobody records.

    What may go wrong is brought about from outside, by events in `env`: on the `hosts`, on the `link`, by the
    `cancel` signals (the source's first, as everywhere).
    """

    def __init__(self, scenario: Scenario, emit: Emit | None, subject: Subject | None = None) -> None:
        self._emit = emit
        self._config = scenario.migration.config()
        self._policy = _Told(scenario.policy.name, make_policy(scenario.policy.name, scenario.policy.parameters))
        self.env = Timeline()
        fabric = Fabric(self.env, scenario.seed)
        tables = (scenario.host, scenario.destination_host or scenario.host)
        costs = [HostCosts(**table.model_dump(exclude={"model"})) for table in tables]
        self.hosts = hosts = [fabric.add_host(side, cost) for side, cost in zip(SIDES, costs, strict=True)]
        profile = PROFILES[scenario.device.profile]
        self._devices = [fabric.add_device(f"rdma{i}", host, profile) for i, host in enumerate(hosts)]
        table = scenario.link
        spec = LinkSpec(table.bandwidth_bit_s, table.latency_ns, table.mtu_bytes, table.header_bytes, table.loss)
        self.link = fabric.connect(self._devices[0], self._devices[1], spec)
        self._runtimes = [SimRuntime(host) for host in hosts]
        self.cancel = [runtime.signal() for runtime in self._runtimes]
        machine = machine_of(scenario) if subject is None else subject.machine
        require_memory(machine)
        self._source = SimGuest(hosts[0], self._runtimes[0], machine, emit=emit)
        self._destination = SimGuest(hosts[1], self._runtimes[1], machine, incoming=True, emit=emit)
        inflate_balloon(self._source, machine, scenario.guest.ballooned_pages)
        for first_page, count in subject.zero_runs if subject is not None else ():
            self._source.zero(first_page, count)
        self._listener = SimListener(self._devices[1], ADDRESS)
        self.different_pages: int | None = None
        """Pages in which the destination differed when it was about to resume; None while it was not."""
        self._outcomes: dict[Side, Outcome] = {}
        self._errors: list[Exception] = []

    @property
    def running(self) -> tuple[bool, bool]:
        """Whether the guest runs on the source, and on the destination."""
        return self._source.running, self._destination.running

    @property
    def outcome(self) -> Outcome:
        """The source's, unless that is content and the destination is not."""
        source_ended, destination_ended = (self._outcomes[side] for side in SIDES)
        return destination_ended if source_ended.status == "completed" else source_ended

    def run(self) -> None:
        """Migrate, and let everything come to rest.

        Raises InputError when the user's policy raises or does not answer, Endless when no time passes any more.
        """
        migrate = source.migrate(
            self._config,
            self._source,
            VERBS,
            self._runtimes[0],
            SimDialer(self._devices[0], ADDRESS),
            self._policy,
            self.cancel[0],
            self._emit,
        )
        receive = destination.receive(
            self._config,
            self._destination,
            VERBS,
            self._runtimes[1],
            self._listener,
            self.cancel[1],
            self._emit,
            self._compare,
        )
        tasks = [
            runtime.start(self._side(side, coroutine), side)
            for runtime, side, coroutine in zip(self._runtimes, SIDES, (migrate, receive), strict=True)
        ]
        try:
            watched = patience(lambda: self._policy.answering.calls, self._policy.answering.stuck)
            with interrupt_between_events(self.env), prints_aside(), watched:
                run_to_rest(self.env, self.hosts)
            for side, host, task in zip(SIDES, self.hosts, tasks, strict=True):
                if not host.alive:
                    self._record(HostDied(self._now_ns, side))
                elif not task.done:
                    self._record(Stalled(self._now_ns, side))
        finally:  # who is not done waits for what never comes, or was interrupted
            for task, signal in zip(tasks, self.cancel, strict=True):
                if not task.done:
                    signal.set()
                    run_to_rest(self.env, self.hosts)
        if self._policy.error is not None:
            raise self._policy.error
        if self._errors:
            raise self._errors[0]
        for side, host in zip(SIDES, self.hosts, strict=True):
            if side not in self._outcomes:
                self._end_for(
                    side, f"the {side} waits for what never comes" if host.alive else f"the {side}'s host died"
                )
        for side, direction in zip(SIDES, self.link.directions, strict=True):
            self._record(PortCounted(self._now_ns, side, direction.bytes_sent))

    @property
    def _now_ns(self) -> int:
        return int(self.env.now)

    async def _side(self, side: Side, coroutine: Coroutine[Any, Any, Outcome]) -> None:
        try:
            self._outcomes[side] = await coroutine
        except Exception as error:
            self._errors.append(error)
        if side == "destination":
            self._listener.close()

    def _end_for(self, side: Side, reason: str) -> None:
        """A side that did not end by itself has failed."""
        self._outcomes[side] = Outcome("failed", reason)
        self._record(MigrationEnded(self._now_ns, side, "failed", self._outcomes[side].reason))

    def _compare(self) -> None:
        self.different_pages = different_pages(self._source, self._destination)
        pages = sum(block.pages for block in self._source.blocks)
        self._record(MemoryCompared(self._now_ns, "destination", pages, self.different_pages))

    def _record(self, event: AnyEvent) -> None:
        if self._emit is not None:
            self._emit(event)


class _Told:
    """A policy that remembers, when it raises, what there is to tell: it is the user's input that is bad."""

    def __init__(self, name: str, policy: Policy) -> None:
        self.error: InputError | None = None
        self.name = name
        self.promise: Promise | None = promise_of(policy)
        self.answering = Answering(policy.drain)

    def drain(self, point: Point, sender: Sender) -> int | None:
        """What the policy answers."""
        try:
            return self.answering.drain(point, sender)
        except Endless as endless:
            self.error = InputError(f"policy {self.name}: {endless} ({sender.now_ns / 1e6:.3f} ms into the run)")
            raise self.error from None
        except RAISED as error:
            self.error = InputError(f"policy {self.name} raised {told(error)} at {point.value}")
            raise self.error from error
