"""The guest: its memory, and where it runs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

from simmig.trace import events as ev
from simmig.verify.invariants.base import Check, Invariant, Key
from simmig.verify.invariants.ledger import Ledger

_AT_SOCKET = (-1, -1)


class MemoryIdentical(Invariant):
    """What a migration is for."""

    name = "memory_identical"
    rule = "protocol 1"
    words = "When the guest resumes on the destination, its memory is the source's, page by page."

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._compared = False
        self._resumed = False

    def checks(self) -> Mapping[Key, Check]:
        """The comparison, and the resume that it has to come before."""
        return {ev.MemoryCompared: self._on_compared, ev.VmResumed: self._on_resumed}

    def applies(self) -> bool:
        """A recording of one side compares nothing."""
        return self.ledger.both_sides or not self.ledger.completed

    def _on_compared(self, event: ev.MemoryCompared) -> None:
        self._compared = True
        if event.different_pages:
            self.broken(event, f"{event.different_pages} of {event.pages} pages differ")

    def _on_resumed(self, event: ev.VmResumed) -> None:
        if event.side == "destination" and not self._compared:
            self.broken(event, "the guest resumed on the destination and nobody compared its memory")

    def conclude(self) -> str:
        """A completed migration has been compared."""
        return "completed, and nobody compared the memory" if self.ledger.completed and not self._compared else ""


class OneSideRuns(Invariant):
    """Exactly one side has the guest after any outcome.

    Excused is what no protocol of two parties can rule out: the end of the stream was sent and the source's
    transport gave up on its acknowledgement. (Of a socket the trace tells when the device state was sent, no
    more.) A side whose host died has no guest.
    """

    name = "one_side_runs"
    rule = "protocol 1"
    words = "The guest never runs on both sides, and afterwards on exactly one: the destination if it completed."

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._running: dict[ev.Side, bool] = {"source": True, "destination": False}
        self._died: set[ev.Side] = set()
        self._last_send: tuple[int, int] | None = None  # queue pair and id of the SEND of the stream's end
        self._last_posted = (0, 0)
        self._only_the_end_is_left = False
        self._unknown = False

    def checks(self) -> Mapping[Key, Check]:
        """Stops and resumes, and the fate of the stream's end."""
        return {
            ev.VmStopped: self._on_stopped,
            ev.VmResumed: self._on_resumed,
            ev.HostDied: self._on_died,
            (ev.WorkPosted, "send"): self._on_posted,
            ev.ControlSent: self._on_sent,
            ev.DeviceStateSent: self._on_device_state,
            (ev.WorkCompleted, "send"): self._on_completed,
            ev.MigrationEnded: self._on_ended,
        }

    def applies(self) -> bool:
        """A recording of one side does not tell where the guest went."""
        return self.ledger.both_sides or not self.ledger.completed

    def _on_stopped(self, event: ev.VmStopped) -> None:
        self._running[event.side] = False

    def _on_resumed(self, event: ev.VmResumed) -> None:
        self._running[event.side] = True
        if all(self._running.values()) and self._last_send is None:  # else the source's end will tell
            self.broken(event, f"the guest resumed on the {event.side} while it ran on the other side")

    def _on_died(self, event: ev.HostDied) -> None:
        self._died.add(event.side)
        self._running[event.side] = False

    def _on_posted(self, event: ev.WorkPosted) -> None:
        if event.side == "source":
            self._last_posted = event.qp, event.wr_id

    def _on_sent(self, event: ev.ControlSent) -> None:
        if event.side == "source" and event.type == "QEMU_FILE":
            self._last_send = self._last_posted if self._only_the_end_is_left else None

    def _on_device_state(self, _: ev.DeviceStateSent) -> None:
        self._only_the_end_is_left = True
        if self.ledger.began is not None and self.ledger.began.transport == "tcp":
            self._last_send = _AT_SOCKET

    def _on_completed(self, event: ev.WorkCompleted) -> None:
        if event.side == "source" and self._last_send == (event.qp, event.wr_id):
            self._last_send = None

    def _on_ended(self, event: ev.MigrationEnded) -> None:
        """The source, of all reasons only when its transport failed, may have to guess."""
        if event.side == "source":
            self._unknown = self._last_send is not None and event.status == "failed"
            if all(self._running.values()) and not self._unknown:
                self.broken(event, f"the guest runs on both sides, and the source's migration is {event.status}")

    def conclude(self) -> str:
        """Who runs the guest in the end."""
        if self._unknown:
            return ""
        status = self.ledger.status.get("source", "not ended")
        right: ev.Side = "destination" if status == "completed" else "source"
        wrong: ev.Side = "source" if status == "completed" else "destination"
        if self._running[wrong]:
            return f"the source's migration is {status}, and the guest runs on the {wrong}"
        if not self._running[right] and right not in self._died:
            return f"the source's migration is {status}, and the guest does not run on the {right}"
        return ""


class NoWriteInFlightAtResume(Invariant):
    """A write that lands later lands in a running guest."""

    name = "no_write_in_flight_at_resume"
    rule = "R22"
    words = "When the guest resumes on the destination, every RAM write has completed."

    def checks(self) -> Mapping[Key, Check]:
        """Resumes."""
        return {ev.VmResumed: self._on_resumed}

    def _on_resumed(self, event: ev.VmResumed) -> None:
        pending = self.ledger.pending_bytes
        if event.side == "destination" and pending:
            self.broken(event, f"the guest resumed with {pending} bytes of writes outstanding")

    def applies(self) -> bool:
        """A recording of one side does not tell when that was."""
        return self.ledger.both_sides or not self.ledger.completed


class BalloonedPagesStay(Invariant):
    """Memory that the guest has given back is not its memory."""

    name = "ballooned_pages_stay"
    rule = "protocol 1"
    words = "No page is sent that the guest had given back when the migration began."

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._runs: tuple[tuple[int, int], ...] = ()
        self._firsts: list[int] = []

    def checks(self) -> Mapping[Key, Check]:
        """Pages sent."""
        return {ev.MigrationBegan: self._on_began, ev.PagesSaved: self._on_saved}

    def _on_began(self, event: ev.MigrationBegan) -> None:
        self._runs = event.ballooned
        self._firsts = [first for first, _ in self._runs]

    def _on_saved(self, event: ev.PagesSaved) -> None:
        if not self._runs:
            return
        index = bisect_right(self._firsts, event.page + event.count - 1) - 1
        if index >= 0 and sum(self._runs[index]) > event.page:
            self.broken(
                event, f"pages {event.page} to {event.page + event.count - 1} were sent, some ballooned out"
            )
