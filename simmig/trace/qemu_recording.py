"""A migration that stock QEMU (7.2, RDMA, source side) has logged, as typed records.

Times are nanoseconds since the migration was asked for (its state became "setup"). A printed line carries the time
at which its printing began. Pages count through all RAM blocks laid end to end in the source's order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

QEMU_PAGE_BYTES = 4096


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
    """

    blocks: list[LoggedBlock] = field(default_factory=list)
    runs: list[LoggedRun] = field(default_factory=list)
    messages: list[LoggedMessage] = field(default_factory=list)
    registrations: list[LoggedRegistration] = field(default_factory=list)
    syncs: list[LoggedSync] = field(default_factory=list)
    slices: list[LoggedSlice] = field(default_factory=list)
    estimates: list[LoggedEstimate] = field(default_factory=list)
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

    @property
    def pages(self) -> int:
        """Pages of all RAM blocks."""
        return sum(block.length_bytes for block in self.blocks) // QEMU_PAGE_BYTES

    @property
    def first_round_ended_ns(self) -> int:
        """The first bitmap sync after the one at setup: what lies before is setup and first round."""
        return self.syncs[1].began_ns

    @property
    def downtime_limit_ns(self) -> int | None:
        """The limit QEMU ran with: threshold over bandwidth, whole milliseconds; None without an estimate."""
        best = max(self.estimates, key=lambda estimate: estimate.bandwidth_bytes_ms, default=None)
        if best is None or not best.bandwidth_bytes_ms:
            return None
        return best.threshold_bytes // best.bandwidth_bytes_ms * 1_000_000

    def missing(self) -> list[str]:
        """What the log of a complete migration would have and this one has not."""
        moments = [
            self.thread_began_ns,
            self.setup_ended_ns,
            self.blocks_told_ns,
            self.decided_ns,
            self.stopped_ns,
            self.ended_ns,
        ]
        if self.pin_all:
            moments.append(-1 if self.pinned_ns is None else self.pinned_ns)
        writes = [run for run in self.runs if not run.zero]
        zeros = sum(message.type == "COMPRESS" for message in self.messages)
        requests = [message for message in self.messages if message.type == "REGISTER REQUEST"]
        chunks = self.registrations
        found = {
            "bitmap syncs": len(self.syncs) < 3 or self.syncs[-1].ended_ns < 0,
            "phases": min(moments) < 0,
            "ends of writes": any(min(run.returned_ns, run.completed_ns) < 0 for run in writes),
            "ends of control messages": any(message.completed_ns < 0 for message in self.messages),
            "answers": any(message.answered_ns < 0 for message in requests),
            "registrations": len(requests) != len(chunks)
            or any(chunk.ended_ns < 0 or not chunk.length_bytes for chunk in chunks),
            "zero pages": zeros != len(self.runs) - len(writes),
            "ends of slices": not self.slices or any(section.ended_ns < 0 for section in self.slices),
        }
        return [what for what, is_missing in found.items() if is_missing]
