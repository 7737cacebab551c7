"""A migration that stock QEMU (RDMA, source side) has logged, as typed records.

Times are nanoseconds since the migration was asked for (its state became "setup"). A printed line carries the time
at which its printing began. Pages count through all RAM blocks laid end to end in the source's order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

QEMU_PAGE_BYTES = 4096
_ENOUGH = 0.9
"""Of what has begun, the share whose end the log must have."""


@dataclass(frozen=True, slots=True)
class LoggedBlock:
    """A RAM block: where it lies in QEMU's address space and in the guest's (`offset_bytes`, ram_addr_t)."""

    name: str
    address: int
    offset_bytes: int
    length_bytes: int
    first_page: int


@dataclass(slots=True)
class LoggedRun:
    """A run of pages that left the bitmap.

    Attributes:
        seen_ns: the run is being sent off.
        posted_ns: it is about to be posted, or (zero) found to be zero.
        returned_ns, completed_ns: the post came back, its completion was polled.
        scan_ns: how long the source had been gathering its pages since its last message was through, -1 where it
            had done more than that.
        after_write_ns: the same since the run before, a write, was posted.
        prepare_ns: how long it took from `seen_ns` to `posted_ns`, -1 where it had to be registered first.
    """

    seen_ns: int
    posted_ns: int
    block: int
    chunk: int
    first_page: int
    pages: int
    zero: bool
    key: int = 0
    returned_ns: int = -1
    completed_ns: int = -1
    scan_ns: int = -1
    after_write_ns: int = -1
    prepare_ns: int = -1

    @property
    def length_bytes(self) -> int:
        """Its size in memory."""
        return self.pages * QEMU_PAGE_BYTES


@dataclass(slots=True)
class LoggedMessage:
    """A control message.

    Attributes:
        ready_ns: the READY that let it go was polled.
        waited: the source had to wait for that.
        follows: the source did nothing else since it posted the message before.
        pending_writes: writes whose completion had not been polled when it was posted.
        completed_ns: its own completion was polled.
        answered_ns: its answer was polled, -1 where none is due.
    """

    type: str
    posted_ns: int
    ready_ns: int
    waited: bool
    follows: bool
    pending_writes: int
    completed_ns: int = -1
    answered_ns: int = -1


@dataclass(slots=True)
class LoggedRegistration:
    """A chunk to be registered on both sides: asked for, and `began_ns` to `ended_ns` registered at the source."""

    asked_ns: int
    block: int
    chunk: int
    length_bytes: int = 0
    began_ns: int = -1
    ended_ns: int = -1
    key: int = 0


@dataclass(slots=True)
class LoggedSync:
    """A bitmap sync: `left_pages` were dirty still, `new_pages` turned dirty since the one before."""

    began_ns: int
    ended_ns: int = -1
    new_pages: int = 0
    left_pages: int = -1


@dataclass(slots=True)
class LoggedSlice:
    """A RAM section: begun, its first message through, drained, and its end flagged."""

    began_ns: int
    opened_ns: int = -1
    drained_ns: int = -1
    ended_ns: int = -1


@dataclass(frozen=True, slots=True)
class LoggedEstimate:
    """QEMU's estimate: bytes per millisecond, and the threshold it derives."""

    t_ns: int
    bandwidth_bytes_ms: int
    threshold_bytes: int
    spent_ms: int = 0


@dataclass(slots=True)
class LoggedPause:
    """The source slept because its rate limit was used up."""

    began_ns: int
    ended_ns: int = -1


@dataclass(slots=True)
class Recording:
    """Everything the log tells. See the records for what the times mean.

    Attributes:
        line_ns: what printing one line costs the host: the lower quartile of all gaps between lines.
        thread_began_ns: connected; the migration thread runs (QEMU's setup-time begins here).
        pinned_ns: how long the source registered all its memory, None without pin-all.
        blocks_asked_ns, blocks_told_ns: RAM BLOCKS REQUEST posted, its RESULT polled.
        decided_ns: pending was found to be below the threshold (downtime begins here).
        ended_ns: the migration thread has left its loop; QEMU's total-time and downtime end here.
        last_ns: the log's last line.
        began_late: the log begins in the middle of the migration; times count from its first line then.
        lost_pages: pages by which the log's lines and QEMU's own counts differ, where lines are lost.
    """

    blocks: list[LoggedBlock] = field(default_factory=list)
    runs: list[LoggedRun] = field(default_factory=list)
    messages: list[LoggedMessage] = field(default_factory=list)
    registrations: list[LoggedRegistration] = field(default_factory=list)
    syncs: list[LoggedSync] = field(default_factory=list)
    slices: list[LoggedSlice] = field(default_factory=list)
    estimates: list[LoggedEstimate] = field(default_factory=list)
    pauses: list[LoggedPause] = field(default_factory=list)
    pin_all: bool = False
    line_ns: int = 0
    thread_began_ns: int = -1
    setup_ended_ns: int = -1
    pinned_ns: int | None = None
    blocks_asked_ns: int = -1
    blocks_told_ns: int = -1
    decided_ns: int = -1
    stopped_ns: int = -1
    saved_ns: int = -1
    ended_ns: int = -1
    last_ns: int = 0
    began_late: bool = False
    lost_pages: int = 0

    @property
    def complete(self) -> bool:
        """Whether the log goes on to the migration's end."""
        return self.ended_ns >= 0 and self.decided_ns >= 0 and len(self.syncs) > 2

    @property
    def pages(self) -> int:
        """Pages of all RAM blocks."""
        return sum(block.length_bytes for block in self.blocks) // QEMU_PAGE_BYTES

    @property
    def first_round_ended_ns(self) -> int:
        """The first bitmap sync after the one at setup: what lies before is setup and first round.

        Where the log ends before that, its last line.
        """
        return self.syncs[1].began_ns if len(self.syncs) > 1 else self.last_ns + 1

    @property
    def downtime_limit_ns(self) -> int | None:
        """The limit QEMU ran with: threshold over bandwidth, whole milliseconds; None without an estimate."""
        best = max(self.estimates, key=lambda estimate: estimate.bandwidth_bytes_ms, default=None)
        if best is None or not best.bandwidth_bytes_ms:
            return None
        return best.threshold_bytes // best.bandwidth_bytes_ms * 1_000_000

    def lacking(self) -> list[str]:
        """Events of which so many are not in the log that nothing can be made of it."""
        writes = [run for run in self.runs if not run.zero]
        requests = [message for message in self.messages if message.type == "REGISTER REQUEST"]
        halves = {
            "qemu_rdma_write_flush": (len(writes), sum(run.returned_ns >= 0 for run in writes)),
            "qemu_rdma_poll_write": (len(writes), sum(run.completed_ns >= 0 for run in writes)),
            "qemu_rdma_poll_other": (len(self.messages), sum(m.completed_ns >= 0 for m in self.messages)),
            "qemu_rdma_register_and_get_keys": (len(requests), sum(c.began_ns >= 0 for c in self.registrations)),
            "qemu_rdma_write_one_recvregres": (len(requests), sum(c.ended_ns >= 0 for c in self.registrations)),
        }
        return [event for event, (begun, ended) in halves.items() if ended < _ENOUGH * begun - 1]

    def mend(self) -> None:
        """Leave out what a log with lost lines, or one that ends early, has only half of."""
        if not self.complete:
            self._cut_off()
        self.runs = [run for run in self.runs if run.zero or run.completed_ns >= 0]
        for run in self.runs:
            if not run.zero and run.returned_ns < run.posted_ns:
                run.returned_ns = run.posted_ns
        self.messages = [
            message
            for message in self.messages
            if message.completed_ns >= 0 and (message.type != "REGISTER REQUEST" or message.answered_ns >= 0)
        ]
        self.registrations = [chunk for chunk in self.registrations if chunk.ended_ns >= 0 and chunk.length_bytes]
        self.syncs = [sync for sync in self.syncs if sync.ended_ns >= 0]
        self.slices = [section for section in self.slices if section.drained_ns >= 0]
        for section in self.slices:
            section.ended_ns = max(section.ended_ns, section.drained_ns)
            section.opened_ns = section.opened_ns if section.opened_ns >= 0 else section.began_ns
        self.pauses = [pause for pause in self.pauses if pause.ended_ns >= 0]

    def _cut_off(self) -> None:
        """A log that ends early: its last sync counts when its pages are known."""
        self.decided_ns = self.stopped_ns = self.saved_ns = self.ended_ns = -1
