"""How it ends: every wait, every side, the trace itself."""

from __future__ import annotations

from collections.abc import Mapping

from simmig.trace import events as ev
from simmig.verify.invariants.base import Check, Invariant, Key
from simmig.verify.invariants.ledger import KIND_MASK, KIND_RECV, Ledger

BOUND_NS = 120_000_000_000
"""Both sides have ended this long after a fault: four times the patience of the longest wait."""
_FLUSHED = "IBV_WC_WR_FLUSH_ERR"


class EveryWaitEnds(Invariant):
    """No lost wake-up, no deadlock, and bounded time to failure after a fault.

    Excused is a destination that nobody has talked to, and one at the end of a socket: a socket whose peer is
    silent has nothing to tell.
    """

    name = "every_wait_ends"
    rule = "R26, R27"
    words = "No side waits for what never comes; after a fault both have ended within 120 s."

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._fault_ns: int | None = None
        self._talked_to = False

    def checks(self) -> Mapping[Key, Check]:
        """Sides that are stuck, faults and ends."""
        return {
            ev.Stalled: self._on_stalled,
            ev.FaultInjected: self._on_fault,
            ev.ControlReceived: self._on_received,
            ev.MigrationEnded: self._on_ended,
        }

    def _on_received(self, event: ev.ControlReceived) -> None:
        self._talked_to |= event.side == "destination"

    def _on_stalled(self, event: ev.Stalled) -> None:
        if event.side == "source" or self._talked_to:
            self.broken(event, f"the {event.side} waits for what never comes")

    def _on_fault(self, event: ev.FaultInjected) -> None:
        self._fault_ns = event.t_ns

    def _on_ended(self, event: ev.MigrationEnded) -> None:
        if self._fault_ns is None or (event.side == "destination" and not self._talked_to):
            return
        if event.t_ns > self._fault_ns + BOUND_NS:
            waited_s = (event.t_ns - self._fault_ns) / 1e9
            self.broken(event, f"the {event.side} ended only {waited_s:.0f} s after the fault")


class NoSuccessAfterError(Invariant):
    """Errors stick.

    Receives flushed on the way down are no errors, and neither are the destination's own sends: the message they
    grant may have come all the same.
    """

    name = "no_success_after_error"
    rule = "protocol 5, R18"
    words = (
        "After a failed work request or an ERROR message no side completes, and the destination does not resume."
    )

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._errors: dict[ev.Side, str] = {}

    def checks(self) -> Mapping[Key, Check]:
        """Errors and successes."""
        return {
            ev.WorkFailed: self._on_failed,
            ev.ControlSent: self._on_message,
            ev.ControlReceived: self._on_message,
            ev.VmResumed: self._on_resumed,
            ev.MigrationEnded: self._on_ended,
        }

    def _on_failed(self, event: ev.WorkFailed) -> None:
        receive = event.wr_id & KIND_MASK >= KIND_RECV
        if not (receive and event.status == _FLUSHED) and (receive or event.side == "source"):
            self._errors.setdefault(event.side, event.status)

    def _on_message(self, event: ev.ControlSent | ev.ControlReceived) -> None:
        if event.type == "ERROR":
            self._errors.setdefault(event.side, "an ERROR message")

    def _on_resumed(self, event: ev.VmResumed) -> None:
        if event.side == "destination" and "destination" in self._errors:
            self.broken(event, f"the guest resumed on the destination after {self._errors['destination']}")

    def _on_ended(self, event: ev.MigrationEnded) -> None:
        if event.side == "source" and event.status == "completed" and "source" in self._errors:
            self.broken(event, f"the source completed after {self._errors['source']}")


class TraceIsWhole(Invariant):
    """A trace that is empty, cut short or only partly shown proves nothing."""

    name = "trace_is_whole"
    rule = "trace"
    words = (
        "The trace begins with the migration and tells the end of each side that took part, and nothing after it."
    )

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._talked_to = False

    def checks(self) -> Mapping[Key, Check]:
        """Beginning and ends; the reader tells what is out of place."""
        return {
            ev.MigrationBegan: self._on_began,
            ev.MigrationEnded: self._on_ended,
            ev.ControlReceived: self._on_received,
        }

    def _on_began(self, event: ev.MigrationBegan) -> None:
        if self.ledger.began is not event:
            self.broken(event, "the migration began a second time")
        elif "source" in self.ledger.status or self._talked_to:
            self.broken(event, "the migration began after it had")

    def _on_ended(self, event: ev.MigrationEnded) -> None:
        if event.status not in ("completed", "failed", "cancelled", "not-converging"):
            self.broken(event, f"the {event.side} ended as {event.status!r}")

    def _on_received(self, event: ev.ControlReceived) -> None:
        self._talked_to |= event.side == "destination"

    def conclude(self) -> str:
        """What is missing."""
        ledger = self.ledger
        if not ledger.sides:
            return "the trace is empty"
        if "source" in ledger.sides and ledger.began is None:
            return "the trace does not tell how the migration began"
        missing = [side for side in sorted(ledger.sides) if side not in ledger.status]
        if missing == ["destination"] and not self._talked_to:
            return ""  # nobody ever came
        return f"the trace does not tell how the {missing[0]} ended" if missing else ""


class NothingAfterTheEnd(Invariant):
    """Whatever a side has ended, it has ended."""

    name = "nothing_after_the_end"
    rule = "protocol 5"
    words = "A side does nothing more once it has ended, and its own time never runs backwards."

    def checks(self) -> Mapping[Key, Check]:
        """Nothing: whoever shows the events looks at their times anyway, and calls `out_of_time`."""
        return {}

    def out_of_time(self, event: ev.Event, last_ns: float) -> None:
        """An event that comes before its side's last one, or after its end."""
        if event.side in self.ledger.status:
            self.broken(event, f"{type(event).__name__} after the {event.side} had ended")
        else:
            self.broken(event, f"{type(event).__name__}: the {event.side}'s time runs backwards from {last_ns} ns")
