"""Makes a `Recording` of a QEMU trace log, in one pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from simmig.trace.qemu_log import LogError, LogLine, read_lines
from simmig.trace.qemu_recording import (
    QEMU_PAGE_BYTES,
    LoggedBlock,
    LoggedEstimate,
    LoggedMessage,
    LoggedRegistration,
    LoggedRun,
    LoggedSlice,
    LoggedSync,
    Recording,
)

_BLOCK = re.compile(r"Added Block: '(.+)':\d+, addr: (\d+), offset: (\d+) length: (\d+) .*")
_POST = re.compile(r"Posting chunk: (\d+), addr: 0x([0-9a-f]+) remote: 0x[0-9a-f]+, bytes (\d+)")
_ZERO = re.compile(r"Entire chunk is zero, sending compress: (\d+) for (\d+) bytes, index: (\d+), offset: (\d+)")
_ASK = re.compile(r"Sending registration request chunk (\d+) for \d+ bytes, index: (\d+), offset: \d+")
_REGISTER = re.compile(r"Registering (\d+) bytes @ 0x[0-9a-f]+")
_KEY = re.compile(r"Received registration result: my key: 0x[0-9a-f]+ their key 0x([0-9a-f]+), chunk \d+")
_WRITTEN = re.compile(r"completions WRITE RDMA \(1\) left \d+, block (\d+), chunk: (\d+) .*")
_OTHER = re.compile(r"other completion [A-Z ]+\((\d+)\) received left \d+")
_SEND = re.compile(r"CONTROL: sending ([A-Z ]+)\.\.")
_PENDING = re.compile(r"pending size (\d+) max \d+ .*")
_ESTIMATE = re.compile(r"transferred \d+ time_spent \d+ bandwidth (\d+) max_size (\d+)")
_STATE = re.compile(r"new state ([a-z-]+)")
_NUMBER = re.compile(r"(\d+)")

_Record = TypeVar("_Record")

_SEND_COMPLETED, _ANSWER_RECEIVED = 2000, 4001
_ROUND, _FINAL = 1, 3  # flags of registration_start and _stop
# What may stand between two control messages without anything having been done in between.
_IDLE = {
    "qemu_rdma_poll_recv",
    "qemu_rdma_poll_other",
    "qemu_rdma_exchange_get_response_start",
    "qemu_rdma_post_send_control",
}


def read_recording(path: Path) -> Recording:
    """The migration that the log at `path` (plain or gzip) tells of: one, complete, seen from the source.

    Raises LogError when the log is unreadable, cut short, not a log of that kind, or contradicts itself.
    """
    reader = _Reader(path)
    for line in read_lines(path):
        reader.take(line)
    return reader.finish()


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._recording = Recording()
        self._line = LogLine(0, 0, "", "")
        self._began_ns = -1
        self._now_ns = 0
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
        self._dropped_blocks = 0
        self._completed = False
        self._handlers: dict[str, Callable[[str], None]] = {
            "migrate_set_state": self._state,
            "rdma_add_block": self._add_block,
            "rdma_delete_block": self._delete_block,
            "qemu_rdma_connect_pin_all_outcome": self._pin_outcome,
            "savevm_state_header": self._header,
            "qemu_rdma_exchange_send_waiting": self._pinned,
            "migration_thread_setup_complete": self._setup_complete,
            "migrate_pending": self._pending,
            "migrate_transferred": self._estimate,
            "migration_bitmap_sync_start": self._sync_start,
            "migration_bitmap_sync_end": self._sync_end,
            "qemu_rdma_registration_start": self._slice_start,
            "qemu_rdma_registration_stop": self._slice_stop,
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

    def take(self, line: LogLine) -> None:
        """The next line."""
        self._line = line
        if self._began_ns < 0 and not self._begins(line):
            return
        self._now_ns = line.t_ns - self._began_ns
        if len(self._recording.syncs) < 2:
            self._gaps.append(self._now_ns - self._before[1])
        handler = self._handlers.get(line.event)
        if handler is not None:
            handler(line.arguments)
        if line.event not in _IDLE:
            self._idle_since_message = False
        self._before = (line.event, self._now_ns)

    def finish(self) -> Recording:
        """The log is over: is everything there?"""
        recording = self._recording
        if self._began_ns < 0:
            raise LogError(self._path, None, "holds no migration: nothing sets its state to setup")
        if not recording.messages:
            raise LogError(self._path, None, "holds no RDMA migration: the events qemu_rdma_* are missing")
        if not self._completed:
            raise self._wrong("the log is cut short: it ends before the migration has completed")
        if self._dropped_blocks < len(recording.blocks):
            raise self._wrong("the log is cut short: it ends before QEMU has cleaned up")
        missing = recording.missing()
        if self._dirty_pages > 0:
            missing.append("dirty pages that are never sent")
        if missing:
            raise LogError(self._path, None, f"the log has gaps: {', '.join(missing)}")
        # No pending size follows the last sync: what was sent beyond what was known to be dirty is what it found.
        recording.syncs[-1].new_pages = -self._dirty_pages
        self._gaps.sort()
        recording.line_ns = self._gaps[len(self._gaps) // 4]
        return recording

    def _wrong(self, why: str) -> LogError:
        return LogError(self._path, self._line.number, why)

    def _match(self, pattern: re.Pattern[str], arguments: str) -> re.Match[str]:
        match = pattern.fullmatch(arguments)
        if match is None:
            raise self._wrong(f"{self._line.event} has other arguments than QEMU 7.2 prints: {arguments[:60]!r}")
        return match

    def _since(self, *events: str) -> int:
        """Time since the line above, or -1 when that is none of these events."""
        event, t_ns = self._before
        return self._now_ns - t_ns if event in events else -1

    def _begins(self, line: LogLine) -> bool:
        if line.event.startswith(("rdma_start_incoming", "qemu_rdma_dest", "qemu_rdma_accept")):
            raise self._wrong("this is the log of a destination; the source's is needed")
        if line.event == "migrate_set_state" and line.arguments == "new state setup":
            self._began_ns = line.t_ns
            return True
        return False

    # Phases

    def _state(self, arguments: str) -> None:
        state = self._match(_STATE, arguments)[1]
        if state in {"failed", "cancelling", "cancelled"}:
            raise self._wrong(f"this migration did not complete, it became {state!r}")
        if state == "setup" and self._now_ns:
            raise self._wrong("a second migration begins; a log must hold one")
        self._completed = state == "completed"

    def _add_block(self, arguments: str) -> None:
        name, address, offset, length = self._match(_BLOCK, arguments).groups()
        if not 0 < int(length) <= 1 << 50 or int(length) % QEMU_PAGE_BYTES:
            raise self._wrong(f"RAM block {name} has a length that is no number of pages: {length}")
        blocks = self._recording.blocks
        blocks.append(LoggedBlock(name, int(address), int(offset), int(length), self._recording.pages))
        self._dirty_pages = self._recording.pages

    def _delete_block(self, _: str) -> None:
        self._dropped_blocks += 1

    def _pin_outcome(self, arguments: str) -> None:
        self._recording.pin_all = self._match(_NUMBER, arguments)[1] != "0"

    def _header(self, _: str) -> None:
        self._recording.thread_began_ns = self._now_ns

    def _pinned(self, _: str) -> None:
        pinned_ns = self._since("qemu_rdma_exchange_send_issue_callback")
        if pinned_ns >= 0:
            self._recording.pinned_ns = pinned_ns

    def _setup_complete(self, _: str) -> None:
        self._recording.setup_ended_ns = self._now_ns

    def _low_pending(self, _: str) -> None:
        self._recording.decided_ns = self._now_ns

    def _vm_stop(self, _: str) -> None:
        self._recording.stopped_ns = self._now_ns

    def _pre_save(self, _: str) -> None:
        self._recording.saved_ns = self._now_ns

    def _after_loop(self, _: str) -> None:
        self._recording.ended_ns = self._now_ns

    # Rounds and slices

    def _pending(self, arguments: str) -> None:
        pages, rest = divmod(int(self._match(_PENDING, arguments)[1]), QEMU_PAGE_BYTES)
        sync = self._recording.syncs[-1] if self._recording.syncs else None
        if sync is not None and self._before[0] == "migration_bitmap_sync_end":
            sync.new_pages = pages - sync.left_pages
            self._dirty_pages = pages
        if rest or pages != self._dirty_pages or (sync is not None and sync.new_pages < 0):
            raise self._wrong(f"{pages} pages are said to be pending where {self._dirty_pages} are left")

    def _estimate(self, arguments: str) -> None:
        bandwidth, threshold = self._match(_ESTIMATE, arguments).groups()
        self._recording.estimates.append(LoggedEstimate(self._now_ns, int(bandwidth), int(threshold)))

    def _sync_start(self, _: str) -> None:
        self._recording.syncs.append(LoggedSync(self._now_ns, left_pages=self._dirty_pages))

    def _sync_end(self, _: str) -> None:
        self._last(self._recording.syncs).ended_ns = self._now_ns

    def _slice_start(self, arguments: str) -> None:
        if int(self._match(_NUMBER, arguments)[1]) in {_ROUND, _FINAL}:
            self._recording.slices.append(LoggedSlice(self._now_ns))

    def _slice_stop(self, arguments: str) -> None:
        if int(self._match(_NUMBER, arguments)[1]) in {_ROUND, _FINAL}:
            self._last(self._recording.slices).drained_ns = self._now_ns
            self._closing = 2  # REGISTER FINISHED, and the stream's end-of-section flag

    # Runs of pages

    def _run_seen(self, _: str) -> None:
        self._seen_ns = self._now_ns
        just_sent = self._before == ("qemu_rdma_poll_other", self._sent_ns)
        self._scan_ns = self._now_ns - self._sent_ns if just_sent else -1
        last = self._recording.runs[-1] if self._recording.runs else None
        busy = last is not None and last.returned_ns > self._sent_ns
        self._after_write_ns = self._now_ns - last.returned_ns if last is not None and busy else -1

    def _run_zero(self, arguments: str) -> None:
        chunk, length, index, offset = (int(number) for number in self._match(_ZERO, arguments).groups())
        block = self._block(index)
        self._add_run(index, chunk, offset - block.offset_bytes, length, zero=True)

    def _run_posted(self, arguments: str) -> None:
        chunk, address, length = self._match(_POST, arguments).groups()
        where = int(address, 16)
        for index, block in enumerate(self._recording.blocks):
            if block.address <= where < block.address + block.length_bytes:
                run = self._add_run(index, int(chunk), where - block.address, int(length), zero=False)
                self._in_flight[index, run.chunk] = run
                return
        raise self._wrong("a write from outside all RAM blocks")

    def _add_run(self, index: int, chunk: int, offset: int, length: int, *, zero: bool) -> LoggedRun:
        block = self._block(index)
        inside = offset >= 0 and length > 0 and offset + length <= block.length_bytes
        if not inside or offset % QEMU_PAGE_BYTES or length % QEMU_PAGE_BYTES or self._seen_ns < 0:
            raise self._wrong(f"a run of {length} bytes at {offset} of RAM block {block.name} cannot be")
        pages = length // QEMU_PAGE_BYTES
        run = LoggedRun(
            self._seen_ns, self._now_ns, index, chunk, block.first_page + offset // QEMU_PAGE_BYTES, pages, zero
        )
        run.scan_ns = self._scan_ns
        run.after_write_ns = self._after_write_ns
        run.prepare_ns = self._since("qemu_rdma_write_one_top")
        self._dirty_pages -= pages
        if self._dirty_pages < 0 and self._recording.decided_ns < 0:
            raise self._wrong("more pages are sent than were dirty")
        self._recording.runs.append(run)
        return run

    def _run_returned(self, _: str) -> None:
        self._last(self._recording.runs).returned_ns = self._now_ns

    def _run_completed(self, arguments: str) -> None:
        block, chunk = (int(number) for number in self._match(_WRITTEN, arguments).groups())
        run = self._in_flight.pop((block, chunk), None)
        if run is None:
            raise self._wrong("a write completes that was never posted")
        run.completed_ns = self._now_ns

    def _register_ask(self, arguments: str) -> None:
        chunk, index = (int(number) for number in self._match(_ASK, arguments).groups())
        self._block(index)
        self._recording.registrations.append(LoggedRegistration(self._now_ns, index, chunk))

    def _register_own(self, arguments: str) -> None:
        registration = self._last(self._recording.registrations)
        registration.length_bytes = int(self._match(_REGISTER, arguments)[1])
        registration.began_ns = self._now_ns

    def _register_key(self, arguments: str) -> None:
        registration = self._last(self._recording.registrations)
        registration.key = int(self._match(_KEY, arguments)[1], 16)
        registration.ended_ns = self._now_ns

    # Control messages

    def _ready_polled(self, _: str) -> None:
        self._ready_ns = self._now_ns
        self._ready_waited = False

    def _response(self, arguments: str) -> None:
        if arguments == "CONTROL: READY receiving...":
            self._ready_waited = True

    def _send(self, arguments: str) -> None:
        kind = self._match(_SEND, arguments)[1]
        messages = self._recording.messages
        messages.append(
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
            self._recording.blocks_asked_ns = self._now_ns
        self._idle_since_message = True

    def _other_polled(self, arguments: str) -> None:
        kind = int(self._match(_OTHER, arguments)[1])
        if kind == _SEND_COMPLETED:
            message = self._last(self._recording.messages)
            message.completed_ns = self._sent_ns = self._now_ns
            if self._recording.slices:
                self._advance_slice(self._recording.slices[-1])
        elif kind == _ANSWER_RECEIVED:
            message = self._last(self._recording.messages)
            message.answered_ns = self._now_ns
            if message.type == "RAM BLOCKS REQUEST":
                self._recording.blocks_told_ns = self._now_ns

    def _advance_slice(self, section: LoggedSlice) -> None:
        """A message of the section is through: its first, or one of the two that close it."""
        if section.opened_ns < 0:
            section.opened_ns = self._now_ns
        elif section.drained_ns >= 0 and self._closing:
            self._closing -= 1
            section.ended_ns = self._now_ns

    def _block(self, index: int) -> LoggedBlock:
        if not 0 <= index < len(self._recording.blocks):
            raise self._wrong(f"there is no RAM block {index}")
        return self._recording.blocks[index]

    def _last(self, records: list[_Record]) -> _Record:
        if not records:
            raise self._wrong(f"{self._line.event} comes before what it belongs to")
        return records[-1]
