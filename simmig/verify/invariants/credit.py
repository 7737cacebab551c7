"""The control channel's credit."""

from __future__ import annotations

from collections.abc import Mapping

from simmig.trace import events as ev
from simmig.verify.invariants.base import Check, Invariant, Key
from simmig.verify.invariants.ledger import Ledger


class CreditNeverExhausted(Invariant):
    """A SEND that meets no RECV kills the connection, for there are no RNR retries."""

    name = "credit_never_exhausted"
    rule = "protocol 4, R39"
    words = "A control message is sent only when the peer has a receive posted for it (an ERROR may go without)."

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._receives: dict[ev.Side, int] = {"source": 0, "destination": 0}

    def checks(self) -> Mapping[Key, Check]:
        """Receives posted, messages sent."""
        return {(ev.WorkPosted, "recv"): self._on_receive, ev.ControlSent: self._on_sent}

    def applies(self) -> bool:
        """Only a trace of both sides tells the peer's receives."""
        return self.ledger.both_sides

    def _on_receive(self, event: ev.WorkPosted) -> None:
        self._receives[event.side] += 1

    def _on_sent(self, event: ev.ControlSent) -> None:
        peer: ev.Side = "source" if event.side == "destination" else "destination"
        self._receives[peer] -= 1
        if self._receives[peer] < 0 and event.type != "ERROR":
            self.broken(event, f"the {event.side} sent {event.type}, and the {peer} has no receive posted")
