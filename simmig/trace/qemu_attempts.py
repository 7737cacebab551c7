"""From a QEMU trace log to the `Recording` of the one migration in it that went on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from simmig.trace.qemu_log import LogError, LogLine, LogNotes, read_lines
from simmig.trace.qemu_reader import OddLine, Reader
from simmig.trace.qemu_recording import LoggedBlock, Recording
from simmig.trace.qemu_versions import NOTHING, Understood, Versions

_FAILED = frozenset({"failed", "cancelling", "cancelled"})
_MIGRATING = frozenset({"qemu_rdma_post_send_control", "qemu_rdma_write_one_post", "registration_start"})
"""Events that a log which begins late shows first."""


@dataclass(slots=True)
class Logged:
    """What a log holds: the migration, and all that a reader should be told about the rest."""

    recording: Recording
    notes: LogNotes
    version: str
    counts_posted: bool


@dataclass(slots=True)
class _Log:
    """A log being read."""

    path: Path
    notes: LogNotes = field(default_factory=LogNotes)
    versions: Versions = field(default_factory=Versions)
    attempts: list[Reader] = field(default_factory=list)
    at_destination: int = 0

    def read(self, blocks: list[LoggedBlock]) -> None:
        """All of it."""
        for line in read_lines(self.path, self.notes):
            understood = self.versions.understand(line)
            if understood is None:
                self.notes.add_strange(line.number, f"{line.event} {line.arguments}")
            elif understood is not NOTHING:
                self._take(line, understood, blocks)

    def _take(self, line: LogLine, understood: Understood, blocks: list[LoggedBlock]) -> None:
        if understood.event == "destination" and not self.attempts:
            self.at_destination = self.at_destination or line.number
            return
        if understood == ("migrate_set_state", {"state": "setup"}):
            self.attempts.append(Reader(line.t_ns))
        elif not self.attempts and not self.at_destination and understood.event in _MIGRATING:
            self.attempts.append(Reader(line.t_ns, late=True, blocks=blocks))
        if not self.attempts:
            return
        try:
            self.attempts[-1].take(line, understood)
        except OddLine as error:
            self.notes.add_strange(line.number, f"{error}: {line.event} {line.arguments}")

    def chosen(self) -> Reader:
        """The attempt that completed, or else the last that did not fail."""
        if not self.attempts:
            if self.at_destination:
                why = "this is the log of a destination; the source's is needed"
                raise LogError(self.path, self.at_destination, why)
            raise LogError(self.path, None, "holds no migration: nothing sets its state to setup")
        completed = [attempt for attempt in self.attempts if attempt.completed]
        alive = [attempt for attempt in self.attempts if attempt.state not in _FAILED]
        chosen = (completed or alive or self.attempts)[-1]
        if chosen.state in _FAILED:
            raise LogError(self.path, None, f"this migration did not complete, it became {chosen.state!r}")
        left_out = len(self.attempts) - 1
        if left_out:
            failed = sum(attempt.state in _FAILED for attempt in self.attempts)
            of_them = f", {failed} of which failed or was cancelled" if failed else ""
            self.notes.remarks.append(f"{left_out} other migration{'s' * (left_out > 1)} left out{of_them}")
        return chosen


def read_log(path: Path) -> Logged:
    """The migration that the log at `path` (plain or compressed) tells of, seen from the source.

    Of several the last that completed, or else the last that did not fail. Lines that are not understood are
    counted in the notes; a log that begins late or ends early gives a recording that says so.

    Raises LogError when it cannot be read, holds no such migration, or too little of one.
    """
    log = _Log(path)
    log.read([])
    chosen = log.chosen()
    if chosen.recording.began_late:
        blocks = _blocks_at_the_end(path)
        log = _Log(path)
        log.read(blocks)
        chosen = log.chosen()
        if chosen.recording.registrations == [] and not any(run.zero for run in chosen.recording.runs):
            chosen.recording.pin_all = True
        log.notes.remarks.append(
            "the log begins late: its times count from its first line, the setup is not in it"
        )
    recording = chosen.finish(path)
    if log.notes.cut:
        log.notes.remarks.append(f"the file is cut short: {log.notes.cut}")
    if not recording.complete:
        log.notes.remarks.append(
            "the log ends early: the migration's end, its total time and downtime are not in it"
        )
    if recording.lost_pages:
        log.notes.remarks.append(f"{recording.lost_pages} pages are counted by QEMU in which no line is found")
    return Logged(recording, log.notes, log.versions.tell(), log.versions.counts_posted)


def read_recording(path: Path) -> Recording:
    """`read_log` without its notes."""
    return read_log(path).recording


def _blocks_at_the_end(path: Path) -> list[LoggedBlock]:
    """RAM blocks from where QEMU forgets them, or else from the writes of which it tells."""
    versions, first_page = Versions(), 0
    found: list[LoggedBlock] = []
    for line in read_lines(path):
        understood = versions.understand(line)
        if understood is not None and understood.event == "rdma_delete_block":
            address, offset, length = (int(understood.values[key]) for key in ("address", "offset", "length"))
            found.append(LoggedBlock(f"block-{len(found)}", address, offset, length, first_page))
            first_page += length // 4096
    return found or _blocks_written(path)


def _blocks_written(path: Path) -> list[LoggedBlock]:
    """As far as writes reach into them."""
    versions = Versions()
    bases: dict[int, int] = {}
    ends: list[int] = []
    for line in read_lines(path):
        understood = versions.understand(line)
        if understood is None:
            continue
        if understood.event == "qemu_rdma_poll_write":
            bases[int(understood.values["block"])] = int(understood.values["base"], 16)
        elif understood.event == "qemu_rdma_write_one_post":
            ends.append(int(understood.values["address"], 16) + int(understood.values["length"]))
    found: list[LoggedBlock] = []
    first_page = 0
    for index in range(max(bases, default=-1) + 1):
        base = bases.get(index, 0)
        reach = [end for end in ends if _owner(end, bases) == index]
        length = max(reach) - base if reach else 4096
        found.append(LoggedBlock(f"block-{index}", base or -index - 1, 0, length, first_page))
        first_page += length // 4096
    return found


def _owner(end: int, bases: dict[int, int]) -> int:
    """The block that begins nearest below, or -1."""
    return max(((base, index) for index, base in bases.items() if base < end), default=(0, -1))[1]
