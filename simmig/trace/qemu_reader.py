"""Makes a `Recording` of one attempt at a migration that a QEMU trace log tells of, in one pass.

An event that contradicts what came before (lines may be lost, repeated or garbled) is left out and counted, and
the reader goes on: the counts that QEMU prints itself put it right again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from simmig.trace.qemu_log import LogError, LogLine
from simmig.trace.qemu_recording import (
    QEMU_PAGE_BYTES,
    LoggedBlock,
    LoggedEstimate,
    LoggedMessage,
    LoggedPause,
    LoggedRegistration,
    LoggedRun,
    LoggedSlice,
    LoggedSync,
    Recording,
)
from simmig.trace.qemu_versions import Understood

_Record = TypeVar("_Record")
_Values = dict[str, str]

_SEND_COMPLETED, _ANSWER_RECEIVED = 2000, 4001
_ROUND, _FINAL = 1, 3  # flags of registration_start and _stop
_MAX_BLOCK_BYTES = 1 << 43
# What may stand between two control messages without anything having been done in between.
_IDLE = {
    "qemu_rdma_poll_recv",
    "qemu_rdma_poll_other",
    "qemu_rdma_exchange_get_response_start",
    "qemu_rdma_post_send_control",
}


class OddLine(ValueError):
    """An event that cannot be, after those before it; the text says why."""


class Reader:
    """One attempt, from the first of its events that the log has.

    Args:
        began_ns: when that was, on the log's clock.
        late: the log begins in the middle of it.
        blocks: the guest's RAM, for a log that does not tell it before it is needed.
    """

    def __init__(self, began_ns: int, *, late: bool = False, blocks: list[LoggedBlock] | None = None) -> None:
        self.recording = Recording(began_late=late)
        self.state = ""
        self._began_ns = began_ns
        self._now_ns = 0
        self._event = ""
        self._before = ("", 0)  # the line above: event and time
        self._idle_since_message = False
        self._gaps: list[int] = []
        self._seen_ns = -1
        self._scan_ns = -1
        self._after_write_ns = -1
        self._in_flight: dict[tuple[int, int], LoggedRun] = {}
        self._ready_ns = -1
        self._ready_waited = False
        self._sent_ns = -1
        self._closing = 0
        self._dirty_pages = 0
        self._handlers: dict[str, Callable[[_Values], None]] = {
            "migrate_set_state": self._state,
            "rdma_add_block": self._add_block,
            "qemu_rdma_connect_pin_all_outcome": self._pin_outcome,
            "savevm_state_header": self._header,
            "qemu_rdma_exchange_send_waiting": self._pinned,
            "migration_thread_setup_complete": self._setup_complete,
            "pending": self._pending,
            "migrate_transferred": self._estimate,
            "migration_rate_limit_pre": self._limited,
            "migration_rate_limit_post": self._limit_over,
            "migration_bitmap_sync_start": self._sync_start,
            "migration_bitmap_sync_end": self._sync_end,
            "registration_start": self._slice_start,
            "registration_stop": self._slice_stop,
            "qemu_rdma_write_one_top": self._run_seen,
            "qemu_rdma_write_one_zero": self._run_zero,
            "qemu_rdma_write_one_sendreg": self._register_ask,
            "qemu_rdma_register_and_get_keys": self._register_own,
            "qemu_rdma_write_one_recvregres": self._register_key,
            "qemu_rdma_write_one_post": self._run_posted,
            "qemu_rdma_write_flush": self._run_returned,
            "qemu_rdma_poll_write": self._run_completed,
            "qemu_rdma_poll_recv": self._ready_polled,
            "qemu_rdma_poll_other": self._other_polled,
            "qemu_rdma_exchange_get_response_start": self._response,
            "qemu_rdma_post_send_control": self._send,
            "migration_thread_low_pending": self._low_pending,
            "migration_completion_vm_stop": self._vm_stop,
            "migrate_global_state_pre_save": self._pre_save,
            "migration_thread_after_loop": self._after_loop,
        }
        for block in blocks or []:
            self._take_block(block.name, block.address, block.offset_bytes, block.length_bytes)
        if late:
            # As if its first sync were this moment; how much is dirty, the next line that tells will say.
            self.recording.syncs.append(LoggedSync(0, 0, 0, self._dirty_pages))

    @property
    def completed(self) -> bool:
        """Whether the migration has."""
        return self.state == "completed"

    def take(self, line: LogLine, understood: Understood) -> None:
        """The next event. Raises OddLine when it cannot be; it is left out then."""
        self._event = understood.event
        self._now_ns = line.t_ns - self._began_ns
        if len(self.recording.syncs) < 2:
            self._gaps.append(self._now_ns - self._before[1])
        handler = self._handlers.get(understood.event)
        try:
            if handler is not None:
                handler(understood.values)
        finally:
            if understood.event not in _IDLE:
                self._idle_since_message = False
            self._before = (understood.event, self._now_ns)
            self.recording.last_ns = self._now_ns

    def finish(self, path: Path) -> Recording:
        """The attempt is over: what it told, made fit for use. Raises LogError when that is too little."""
        recording = self.recording
        if not recording.messages:
            far = f" (its state became {self.state!r})" if self.state else ""
            raise LogError(path, None, f"holds no RDMA migration{far}: the events qemu_rdma_* are missing")
        if not recording.blocks:
            raise LogError(path, None, "does not tell the guest's RAM blocks (rdma_add_block, rdma_delete_block)")
        if lacking := recording.lacking():
            raise LogError(path, None, f"the log lacks events: {', '.join(lacking)}")
        if recording.complete and len(recording.syncs) > 1:
            # No pending size follows the last sync: what was sent beyond what was known to be dirty it has found.
            recording.syncs[-1].new_pages = max(0, -self._dirty_pages)
        self._gaps.sort()
        recording.line_ns = self._gaps[len(self._gaps) // 4] if self._gaps else 0
        recording.mend()
        return recording

    def _since(self, *events: str) -> int:
        """Time since the line above, or -1 when that is none of these events."""
        event, t_ns = self._before
        return self._now_ns - t_ns if event in events else -1

    # Phases

    def _state(self, values: _Values) -> None:
        self.state = values["state"]

    def _add_block(self, values: _Values) -> None:
        self._take_block(values["name"], *(int(values[key]) for key in ("address", "offset", "length")))

    def _take_block(self, name: str, address: int, offset: int, length: int) -> None:
        if not 0 < length <= _MAX_BLOCK_BYTES or length % QEMU_PAGE_BYTES:
            raise OddLine(f"RAM block {name} has a length that cannot be: {length}")
        recording = self.recording
        if any(block.address == address for block in recording.blocks):
            raise OddLine(f"RAM block {name} is added twice")
        recording.blocks.append(LoggedBlock(name, address, offset, length, recording.pages))
        self._dirty_pages = recording.pages

    def _pin_outcome(self, values: _Values) -> None:
        self.recording.pin_all = values["pinned"] != "0"

    def _header(self, _: _Values) -> None:
        self.recording.thread_began_ns = self._now_ns

    def _pinned(self, _: _Values) -> None:
        pinned_ns = self._since("qemu_rdma_exchange_send_issue_callback")
        if pinned_ns >= 0:
            self.recording.pinned_ns = pinned_ns

    def _setup_complete(self, _: _Values) -> None:
        self.recording.setup_ended_ns = self._now_ns

    def _low_pending(self, _: _Values) -> None:
        self.recording.decided_ns = self._now_ns

    def _vm_stop(self, _: _Values) -> None:
        self.recording.stopped_ns = self._now_ns

    def _pre_save(self, _: _Values) -> None:
        self.recording.saved_ns = self._now_ns

    def _after_loop(self, _: _Values) -> None:
        self.recording.ended_ns = self._now_ns

    # Rounds and slices

    def _pending(self, values: _Values) -> None:
        pages = int(values["size"]) // QEMU_PAGE_BYTES
        recording = self.recording
        sync = recording.syncs[-1] if recording.syncs else None
        if pages > recording.pages > 0:
            raise OddLine(f"{pages} pages are said to be pending where there are {recording.pages}")
        if sync is not None and self._before[0] == "migration_bitmap_sync_end":
            if pages < sync.left_pages:
                recording.lost_pages += sync.left_pages - pages
                sync.left_pages = pages
            sync.new_pages = pages - sync.left_pages
        elif pages != self._dirty_pages and not (recording.began_late and not recording.runs):
            recording.lost_pages += abs(pages - self._dirty_pages)
        self._dirty_pages = pages

    def _estimate(self, values: _Values) -> None:
        self.recording.estimates.append(
            LoggedEstimate(self._now_ns, int(values["bandwidth"]), int(values["threshold"]), int(values["spent"]))
        )

    def _limited(self, _: _Values) -> None:
        self.recording.pauses.append(LoggedPause(self._now_ns))

    def _limit_over(self, _: _Values) -> None:
        self._last(self.recording.pauses).ended_ns = self._now_ns

    def _sync_start(self, _: _Values) -> None:
        self.recording.syncs.append(LoggedSync(self._now_ns, left_pages=max(0, self._dirty_pages)))

    def _sync_end(self, _: _Values) -> None:
        self._last(self.recording.syncs).ended_ns = self._now_ns

    def _slice_start(self, values: _Values) -> None:
        if int(values["flags"]) in {_ROUND, _FINAL}:
            self.recording.slices.append(LoggedSlice(self._now_ns))

    def _slice_stop(self, values: _Values) -> None:
        if int(values["flags"]) in {_ROUND, _FINAL}:
            self._last(self.recording.slices).drained_ns = self._now_ns
            self._closing = 2  # REGISTER FINISHED, and the stream's end-of-section flag

    # Runs of pages

    def _run_seen(self, _: _Values) -> None:
        self._seen_ns = self._now_ns
        just_sent = self._before == ("qemu_rdma_poll_other", self._sent_ns)
        self._scan_ns = self._now_ns - self._sent_ns if just_sent else -1
        last = self.recording.runs[-1] if self.recording.runs else None
        busy = last is not None and last.returned_ns > self._sent_ns
        self._after_write_ns = self._now_ns - last.returned_ns if last is not None and busy else -1

    def _run_zero(self, values: _Values) -> None:
        index = int(values["block"])
        block = self._block(index)
        offset = int(values["offset"]) - block.offset_bytes
        self._add_run(index, int(values["chunk"]), offset, int(values["length"]), zero=True)

    def _run_posted(self, values: _Values) -> None:
        where = int(values["address"], 16)
        for index, block in enumerate(self.recording.blocks):
            if block.address <= where < block.address + block.length_bytes:
                offset = where - block.address
                run = self._add_run(index, int(values["chunk"]), offset, int(values["length"]), zero=False)
                self._in_flight[index, run.chunk] = run
                return
        raise OddLine("a write from outside all RAM blocks")

    def _add_run(self, index: int, chunk: int, offset: int, length: int, *, zero: bool) -> LoggedRun:
        block = self._block(index)
        inside = offset >= 0 and length > 0 and offset + length <= block.length_bytes
        if not inside or offset % QEMU_PAGE_BYTES or length % QEMU_PAGE_BYTES:
            raise OddLine(f"a run of {length} bytes at {offset} of RAM block {block.name}")
        pages = length // QEMU_PAGE_BYTES
        seen_ns = self._seen_ns if self._seen_ns >= 0 else self._now_ns
        run = LoggedRun(
            seen_ns, self._now_ns, index, chunk, block.first_page + offset // QEMU_PAGE_BYTES, pages, zero
        )
        run.scan_ns = self._scan_ns
        run.after_write_ns = self._after_write_ns
        run.prepare_ns = self._since("qemu_rdma_write_one_top")
        self._dirty_pages -= pages
        self.recording.runs.append(run)
        return run

    def _run_returned(self, _: _Values) -> None:
        self._last(self.recording.runs).returned_ns = self._now_ns

    def _run_completed(self, values: _Values) -> None:
        run = self._in_flight.pop((int(values["block"]), int(values["chunk"])), None)
        if run is None:
            raise OddLine("a write completes that was never posted")
        run.completed_ns = self._now_ns

    def _register_ask(self, values: _Values) -> None:
        chunk, index = int(values["chunk"]), int(values["block"])
        self._block(index)
        self.recording.registrations.append(LoggedRegistration(self._now_ns, index, chunk))

    def _register_own(self, values: _Values) -> None:
        registration = self._last(self.recording.registrations)
        registration.length_bytes = int(values["length"])
        registration.began_ns = self._now_ns

    def _register_key(self, values: _Values) -> None:
        registration = self._last(self.recording.registrations)
        registration.key = int(values["key"], 16)
        registration.ended_ns = self._now_ns

    # Control messages

    def _ready_polled(self, _: _Values) -> None:
        self._ready_ns = self._now_ns
        self._ready_waited = False

    def _response(self, values: _Values) -> None:
        if values["type"] == "READY":
            self._ready_waited = True

    def _send(self, values: _Values) -> None:
        kind = values["type"]
        self.recording.messages.append(
            LoggedMessage(
                kind,
                self._now_ns,
                self._ready_ns,
                self._ready_waited,
                self._idle_since_message,
                len(self._in_flight),
            )
        )
        if kind == "RAM BLOCKS REQUEST":
            self.recording.blocks_asked_ns = self._now_ns
        self._idle_since_message = True

    def _other_polled(self, values: _Values) -> None:
        kind = int(values["kind"])
        if kind == _SEND_COMPLETED:
            message = self._last(self.recording.messages)
            message.completed_ns = self._sent_ns = self._now_ns
            if self.recording.slices:
                self._advance_slice(self.recording.slices[-1])
        elif kind == _ANSWER_RECEIVED:
            message = self._last(self.recording.messages)
            message.answered_ns = self._now_ns
            if message.type == "RAM BLOCKS REQUEST":
                self.recording.blocks_told_ns = self._now_ns

    def _advance_slice(self, section: LoggedSlice) -> None:
        """A message of the section is through: its first, or one of the two that close it."""
        if section.opened_ns < 0:
            section.opened_ns = self._now_ns
        elif section.drained_ns >= 0 and self._closing:
            self._closing -= 1
            section.ended_ns = self._now_ns

    def _block(self, index: int) -> LoggedBlock:
        if not 0 <= index < len(self.recording.blocks):
            raise OddLine(f"there is no RAM block {index}")
        return self.recording.blocks[index]

    def _last(self, records: list[_Record]) -> _Record:
        if not records:
            raise OddLine("it comes before what it belongs to")
        return records[-1]
