"""The reader that shows a trace to every invariant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from simmig.trace import events as ev
from simmig.trace.reader import read_trace
from simmig.trace.readers import EventReader
from simmig.verify.invariants.accounting import AccountingMatchesWire, DrainsReachTarget, PendingWithinPromise
from simmig.verify.invariants.base import Check, Invariant, Key
from simmig.verify.invariants.credit import CreditNeverExhausted
from simmig.verify.invariants.device_state import DeviceStateOnce
from simmig.verify.invariants.ends import EveryWaitEnds, NoSuccessAfterError, NothingAfterTheEnd, TraceIsWhole
from simmig.verify.invariants.estimates import EstimatesInTime
from simmig.verify.invariants.guest import (
    BalloonedPagesStay,
    MemoryIdentical,
    NoWriteInFlightAtResume,
    OneSideRuns,
)
from simmig.verify.invariants.keys import KeysOutliveWrites, KeysRegistered
from simmig.verify.invariants.ledger import Ledger
from simmig.verify.invariants.merging import RunsAreMerged
from simmig.verify.invariants.rate import RateLimitKept
from simmig.verify.invariants.rounds import RoundsAreDue
from simmig.verify.invariants.stop import StopFitsEstimate
from simmig.verify.invariants.work import (
    AllWorkEnded,
    BuffersOwned,
    CompletionsMatchPosts,
    OneWritePerChunk,
    QueuesNeverOverrun,
    WritesWithinChunk,
)
from simmig.verify.verdict import Violation

CATALOGUE: tuple[type[Invariant], ...] = (
    MemoryIdentical,
    OneSideRuns,
    NoWriteInFlightAtResume,
    CompletionsMatchPosts,
    AllWorkEnded,
    OneWritePerChunk,
    WritesWithinChunk,
    BuffersOwned,
    QueuesNeverOverrun,
    KeysRegistered,
    KeysOutliveWrites,
    CreditNeverExhausted,
    AccountingMatchesWire,
    PendingWithinPromise,
    DrainsReachTarget,
    RateLimitKept,
    BalloonedPagesStay,
    StopFitsEstimate,
    RoundsAreDue,
    EstimatesInTime,
    RunsAreMerged,
    DeviceStateOnce,
    EveryWaitEnds,
    NoSuccessAfterError,
    NothingAfterTheEnd,
    TraceIsWhole,
)
_LATECOMERS = (ev.PortCounted, ev.HostDied, ev.Stalled, ev.FaultInjected, ev.MemoryCompared)
"""Told of a side by somebody else, who may have another clock."""
_OPCODES = ("write", "send", "recv")
_ENDED = float("inf")


class Invariants(EventReader):
    """A reader of traces: show it every event, then `results` and `violations` tell what held.

    Works on traces of any origin: simulated, of devices, or made of a log of QEMU's. Memory is bounded by what may
    be outstanding and registered at a time.
    """

    def __init__(self) -> None:
        self._ledger = ledger = Ledger()
        self._all = [kind(ledger) for kind in CATALOGUE]
        self._order = next(each for each in self._all if isinstance(each, NothingAfterTheEnd))
        self._asked: dict[Key, list[tuple[int, Check]]] = {}
        for number, each in enumerate(self._all):
            for key, check in each.checks().items():
                self._asked.setdefault(key, []).append((number, check))
        self._last_ns: dict[ev.Side, float] = {"source": -1, "destination": -1}
        self.handlers = {kind: self._handler(kind) for kind in get_args(ev.AnyEvent)}

    def results(self) -> dict[str, bool]:
        """Each invariant's name, and whether it held. One that the trace cannot tell of is left out."""
        broken = {violation.invariant for violation in self.violations}
        return {each.name: each.name not in broken for each in self._all if each.applies()}

    @property
    def not_applicable(self) -> list[str]:
        """Names of the invariants that this trace cannot tell of, or that are about what it does not have."""
        return [each.name for each in self._all if not each.applies()]

    @property
    def noted(self) -> list[Violation]:
        """The first violation of each invariant so far, in the order of their happening."""
        found = (each.violation for each in self._all if each.applies())
        return sorted((each for each in found if each is not None), key=lambda each: each.event)

    @property
    def violations(self) -> list[Violation]:
        """The same when the trace is over: what is missing then is a violation, too."""
        ledger = self._ledger
        at_end = [
            Violation(each.name, each.rule, words, ledger.last_ns, max(0, ledger.index))
            for each in self._all
            if each.violation is None and each.applies() and (words := each.conclude())
        ]
        return self.noted + at_end

    def _handler(self, kind: type) -> Callable[[Any], None]:
        """What shows one type of events to those who asked for it; all in one, for every event comes by."""
        first = self._first_of(kind)
        head = () if first is None else (first,)
        ledger, last_ns, out_of_time = self._ledger, self._last_ns, self._order.out_of_time
        if kind in _LATECOMERS:
            told = self._chain(kind, "")

            def handle_latecomer(event: Any) -> None:
                ledger.index += 1
                for check in told:
                    check(event)

            return handle_latecomer
        of_work = kind in (ev.WorkPosted, ev.WorkCompleted)
        chains = {opcode: (*head, *self._chain(kind, opcode)) for opcode in (_OPCODES if of_work else ("",))}
        plain = chains.get("", ())

        def handle(event: Any) -> None:
            ledger.index += 1
            t_ns, side = event.t_ns, event.side
            if t_ns < last_ns[side]:
                out_of_time(event, last_ns[side])
            elif last_ns[side] < 0:
                ledger.sides.add(side)
                last_ns[side] = t_ns
            else:
                last_ns[side] = t_ns
            for check in chains[event.opcode] if of_work else plain:
                check(event)

        return handle

    def _chain(self, kind: type, opcode: str) -> tuple[Check, ...]:
        """Who asked for that, in the catalogue's order."""
        asked = [*self._asked.get(kind, ()), *self._asked.get((kind, opcode), ())]
        return tuple(check for _, check in sorted(asked, key=lambda each: each[0]))

    def _first_of(self, kind: type) -> Check | None:
        ledger = self._ledger
        known: dict[type, Check] = {
            ev.WorkPosted: ledger.posted,
            ev.WorkCompleted: ledger.completed_work,
            ev.WorkFailed: ledger.failed_work,
            ev.MigrationBegan: self._began,
            ev.MigrationEnded: self._ended,
        }
        return known.get(kind)

    def _began(self, event: ev.MigrationBegan) -> None:
        if self._ledger.began is None:
            self._ledger.began = event

    def _ended(self, event: ev.MigrationEnded) -> None:
        self._ledger.status[event.side] = event.status
        self._last_ns[event.side] = _ENDED
        self._ledger.last_ns = max(self._ledger.last_ns, event.t_ns)


def read_violations(path: Path) -> list[Violation]:
    """Check the trace file at `path`; raises TraceError when it cannot be read or is cut short."""
    invariants = Invariants()
    for event in read_trace(path):
        invariants(event)
    return invariants.violations
