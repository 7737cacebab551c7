"""The figures of a migration, computed from its trace alone, event by event, in bounded memory.

The same code reads a simulation, the real backend and stock QEMU's log; what a trace does not tell (a log of the
source says nothing of the destination's moments) is taken from the nearest thing it does tell.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, fields
from typing import Literal

from simmig.trace import events as ev
from simmig.trace.readers import EventReader
from simmig.trace.series import Amount, Gauge

Part = Literal["residual_pages", "drain", "device_state", "switch"]


@dataclass(slots=True)
class Counts:
    """What adds up, over the whole migration or over a part of it."""

    posted_bytes: int = 0
    data_pages: int = 0
    zero_pages: int = 0
    guest_writes: int = 0
    drains: int = 0
    drain_ns: int = 0
    forced_drain_ns: int = 0
    protocol_drain_ns: int = 0

    def copy(self) -> Counts:
        """As of now."""
        return Counts(*(getattr(self, f.name) for f in fields(self)))

    def since(self, earlier: Counts) -> Counts:
        """What was added after `earlier`."""
        return Counts(*(getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)))


@dataclass(slots=True)
class Stretch:
    """A round or a slice: when, and what was done in it."""

    index: int
    began_ns: int
    round: int
    dirty_pages: int = 0
    ended_ns: int = -1
    pending_bytes: int = 0
    counts: Counts = field(default_factory=Counts)

    @property
    def duration_ns(self) -> int:
        """How long it took; 0 when it never ended."""
        return max(0, self.ended_ns - self.began_ns)


@dataclass(slots=True)
class DowntimeParts:
    """What the downtime was spent on; they add up to it.

    Of a log of the source's alone `device_state_ns` goes until the source was done, and there is no switch.

    Attributes:
        residual_pages_ns: the last bitmap sync and the posting of the pages it left.
        drain_ns: waiting for writes, whoever asked for it.
        device_state_ns: from then until the destination has the device state.
        switch_ns: from then until the guest runs again.
    """

    residual_pages_ns: int = 0
    drain_ns: int = 0
    device_state_ns: int = 0
    switch_ns: int = 0


class Metrics(EventReader):
    """A reader of traces: show it every event, then read its attributes. Times are the trace's."""

    def __init__(self) -> None:
        self.began: ev.MigrationBegan | None = None
        self.setup_ended_ns: int | None = None
        self.stopped_ns: int | None = None
        self.resumed_ns: int | None = None
        self.resumed_side: ev.Side | None = None
        self._seen_ns = 0
        self.ended: dict[ev.Side, ev.MigrationEnded] = {}
        self.compared: ev.MemoryCompared | None = None
        self.counts = Counts()
        self.rounds: list[Stretch] = []
        self.slices: list[Stretch] = []
        self.pending_bytes = 0
        self.max_pending_bytes = 0
        self.pending_bytes_at_stop = 0
        self.downtime = DowntimeParts()
        self.pending = Gauge()
        self.remaining_pages = Gauge()
        self.arrived = Amount()
        self.dirtied = Amount()
        self.waited: dict[ev.AskedBy, Amount] = {"policy": Amount(), "wire": Amount(), "protocol": Amount()}
        self._control_bytes = 0
        self._port_bytes: int | None = None
        self._remaining = 0
        self._page_bytes = 4096
        self._over_socket = False
        self._outstanding: dict[int, deque[tuple[int, int]]] = {}
        self._draining: dict[ev.AskedBy, int] = {}
        self._dirtied_ns = 0
        self._phase: Part = "residual_pages"
        self._part_began_ns = 0
        self.handlers = {
            ev.MigrationBegan: self._on_began,
            ev.SetupEnded: self._on_setup_ended,
            ev.MigrationEnded: self._on_ended,
            ev.WorkPosted: self._on_posted,
            ev.WorkCompleted: self._on_completed,
            ev.WorkFailed: self._retire,
            ev.PagesDirtied: self._on_dirtied,
            ev.PagesSaved: self._on_saved,
            ev.BitmapSynced: self._on_synced,
            ev.RoundBegan: self._on_round_began,
            ev.RoundEnded: self._on_round_ended,
            ev.SliceBegan: self._on_slice_began,
            ev.SliceEnded: self._on_slice_ended,
            ev.DrainBegan: self._on_drain_began,
            ev.DrainEnded: self._on_drain_ended,
            ev.VmStopped: self._on_stopped,
            ev.VmResumed: self._on_resumed,
            ev.DeviceStateLoaded: self._on_device_state_loaded,
            ev.MemoryCompared: self._on_compared,
            ev.PortCounted: self._on_port,
        }

    @property
    def began_ns(self) -> int:
        """When the source started."""
        return self.began.t_ns if self.began is not None else 0

    @property
    def setup_time_ns(self) -> int:
        """From the start until the live phase; 0 when it was never reached."""
        return self.setup_ended_ns - self.began_ns if self.setup_ended_ns is not None else 0

    @property
    def total_time_ns(self) -> int:
        """From the start until the guest runs on the destination; without that, until the source was done."""
        if self.resumed_ns is not None and self.resumed_side == "destination":
            return self.resumed_ns - self.began_ns
        ended = self.ended.get("source")
        return (ended.t_ns if ended is not None else self._seen_ns) - self.began_ns

    @property
    def downtime_ns(self) -> int:
        """How long the guest stood still on both sides; where nobody saw it resume, until the source was done."""
        if self.stopped_ns is None:
            return 0
        if self.resumed_ns is not None:
            return self.resumed_ns - self.stopped_ns
        return max(0, self.began_ns + self.total_time_ns - self.stopped_ns)

    @property
    def throughput_bit_s(self) -> int:
        """RAM bits a second, from the end of the setup on."""
        live_ns = self.total_time_ns - self.setup_time_ns
        return self.counts.posted_bytes * 8 * 1_000_000_000 // live_ns if live_ns > 0 else 0

    @property
    def bytes_on_wire(self) -> int:
        """What the source's port sent, headers and retransmissions too; without a port's counter the payloads."""
        return self._port_bytes if self._port_bytes is not None else self.counts.posted_bytes + self._control_bytes

    def _on_began(self, event: ev.MigrationBegan) -> None:
        self.began = event
        self._page_bytes = event.page_bytes
        self._over_socket = event.transport == "tcp"
        self._dirtied_ns = event.t_ns

    def _on_setup_ended(self, event: ev.SetupEnded) -> None:
        if event.side == "source":
            self.setup_ended_ns = event.t_ns

    def _on_ended(self, event: ev.MigrationEnded) -> None:
        self.ended[event.side] = event
        if event.side == "source":
            self._account(event.t_ns)  # where nobody sees it resume, this ends the downtime
            self._close(self.rounds, event.t_ns)
            self._close(self.slices, event.t_ns)

    def _on_posted(self, event: ev.WorkPosted) -> None:
        length_bytes = event.length_bytes
        if event.opcode == "write":
            queue = self._outstanding.get(event.qp)
            if queue is None:
                queue = self._outstanding[event.qp] = deque()
            queue.append((event.wr_id, length_bytes))
            self.counts.posted_bytes += length_bytes
            self.pending_bytes = pending_bytes = self.pending_bytes + length_bytes
            if pending_bytes > self.max_pending_bytes:  # noqa: PLR1730  (once a write: a call is dear)
                self.max_pending_bytes = pending_bytes
            self.pending.set(event.t_ns, pending_bytes)
        elif event.opcode == "send" and event.side == "source":
            self._control_bytes += length_bytes

    def _on_completed(self, event: ev.WorkCompleted) -> None:
        if event.opcode == "write":
            self._retire(event)

    def _retire(self, event: ev.WorkCompleted | ev.WorkFailed) -> None:
        """A write is over, and so is what was posted before it on its queue pair (R14, R16)."""
        queue = self._outstanding.get(event.qp)
        if not queue or (queue[0][0] != event.wr_id and all(wr_id != event.wr_id for wr_id, _ in queue)):
            return
        wr_id = -1
        retired_bytes = 0
        while wr_id != event.wr_id:
            wr_id, length_bytes = queue.popleft()
            retired_bytes += length_bytes
        self.pending_bytes -= retired_bytes
        self.arrived.add(event.t_ns, retired_bytes)
        self.pending.set(event.t_ns, self.pending_bytes)

    def _on_dirtied(self, event: ev.PagesDirtied) -> None:
        """What a bitmap sync finds was written during the round that has just ended."""
        self.counts.guest_writes += event.writes
        if self.rounds and self.rounds[-1].ended_ns >= 0:
            self.rounds[-1].counts.guest_writes += event.writes
        self.dirtied.spread(self._dirtied_ns, event.t_ns, event.writes * self._page_bytes)
        self._dirtied_ns = event.t_ns

    def _on_saved(self, event: ev.PagesSaved) -> None:
        if event.how == "zero":
            self.counts.zero_pages += event.count
        else:
            self.counts.data_pages += event.count
            if self._over_socket:
                self.counts.posted_bytes += event.count * self._page_bytes
                self.arrived.add(event.t_ns, event.count * self._page_bytes)
        self._remaining = remaining = self._remaining - event.count
        self.remaining_pages.set(event.t_ns, remaining if remaining > 0 else 0)

    def _on_synced(self, event: ev.BitmapSynced) -> None:
        self._remaining = event.dirty_pages
        self.remaining_pages.set(event.t_ns, event.dirty_pages)

    def _on_round_began(self, event: ev.RoundBegan) -> None:
        self._remaining = event.dirty_pages
        self.remaining_pages.set(event.t_ns, event.dirty_pages)
        self._open(self.rounds, event.index, event.t_ns, event.dirty_pages)

    def _on_round_ended(self, event: ev.RoundEnded) -> None:
        self._close(self.rounds, event.t_ns)
        if self.stopped_ns is not None:
            self._enter("device_state", event.t_ns)

    def _on_slice_began(self, event: ev.SliceBegan) -> None:
        self._open(self.slices, event.index, event.t_ns, self._remaining)

    def _on_slice_ended(self, event: ev.SliceEnded) -> None:
        self._close(self.slices, event.t_ns)

    def _open(self, table: list[Stretch], index: int, t_ns: int, dirty_pages: int) -> None:
        self._seen_ns = t_ns
        self._close(table, t_ns)
        at_round = self.rounds[-1].index if self.rounds else index
        table.append(Stretch(index, t_ns, at_round, dirty_pages, counts=self.counts.copy()))

    def _close(self, table: list[Stretch], t_ns: int) -> None:
        self._seen_ns = t_ns
        if table and table[-1].ended_ns < 0:
            last = table[-1]
            last.ended_ns, last.pending_bytes = t_ns, self.pending_bytes
            last.counts = self.counts.since(last.counts)

    def _on_drain_began(self, event: ev.DrainBegan) -> None:
        self._account(event.t_ns)
        self._draining[event.asked_by] = event.t_ns
        if event.asked_by == "policy":
            self.counts.drains += 1

    def _on_drain_ended(self, event: ev.DrainEnded) -> None:
        began_ns = self._draining.get(event.asked_by)
        if began_ns is None:
            return
        self._account(event.t_ns)
        del self._draining[event.asked_by]
        waited_ns = event.t_ns - began_ns
        self.waited[event.asked_by].spread(began_ns, event.t_ns, waited_ns)
        match event.asked_by:
            case "policy":
                self.counts.drain_ns += waited_ns
            case "wire":
                self.counts.forced_drain_ns += waited_ns
            case "protocol":
                self.counts.protocol_drain_ns += waited_ns

    def _on_stopped(self, event: ev.VmStopped) -> None:
        if event.side == "source" and self.stopped_ns is None:
            self.stopped_ns = self._part_began_ns = self._seen_ns = event.t_ns
            self.pending_bytes_at_stop = self.pending_bytes

    def _on_device_state_loaded(self, event: ev.DeviceStateLoaded) -> None:
        self._enter("switch", event.t_ns)

    def _on_resumed(self, event: ev.VmResumed) -> None:
        if self.stopped_ns is not None and self.resumed_ns is None:
            self._account(event.t_ns)
            self.resumed_ns, self.resumed_side = event.t_ns, event.side
            self._seen_ns = event.t_ns

    def _on_compared(self, event: ev.MemoryCompared) -> None:
        self.compared = event

    def _on_port(self, event: ev.PortCounted) -> None:
        if event.side == "source":
            self._port_bytes = event.sent_bytes

    def _enter(self, phase: Part, t_ns: int) -> None:
        self._account(t_ns)
        self._phase = phase

    def _account(self, t_ns: int) -> None:
        """Add the time since the last boundary to the part of the downtime it belongs to."""
        if self.stopped_ns is None or self.resumed_ns is not None:
            return
        part = "drain" if self._draining else self._phase
        name = f"{part}_ns"
        setattr(self.downtime, name, getattr(self.downtime, name) + t_ns - self._part_began_ns)
        self._part_began_ns = t_ns
