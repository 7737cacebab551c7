"""A recorded QEMU migration in the vocabulary of `simmig.trace.events`, as far as its log goes.

The log of a source does not know the sizes of control messages (given as 0), when the guest ran again on the
destination, or how often the guest wrote a page (each page that a sync found newly dirty counts as one write).
The guest counts as stopped from the moment at which QEMU decides to stop it: its own downtime begins there.
"""

from __future__ import annotations

from collections.abc import Iterator

from simmig.trace import events as ev
from simmig.trace.qemu_recording import QEMU_PAGE_BYTES, LoggedMessage, LoggedRun, Recording

POLICY = "per-iteration"
"""What QEMU does: drain at the end of each slice."""
_QP = 0
_WRITE, _SEND = 1, 2000
_BLOCK_SHIFT, _CHUNK_SHIFT = 16, 30
_DEFAULT_LIMIT_NS = 300_000_000


def events_of(recording: Recording) -> list[ev.AnyEvent]:
    """The migration's events in order of time, counted from the moment it was asked for."""
    found: list[ev.AnyEvent] = [
        *_phases(recording),
        *_rounds(recording),
        *_messages(recording),
        *_memory(recording),
        *_runs(recording),
        *_slices(recording),
    ]
    return sorted(found, key=lambda event: event.t_ns)  # stable: what was found first comes first


def _phases(recording: Recording) -> Iterator[ev.AnyEvent]:
    limit_ns = recording.downtime_limit_ns or _DEFAULT_LIMIT_NS
    memory_bytes = recording.pages * QEMU_PAGE_BYTES
    yield ev.MigrationBegan(
        0, "source", memory_bytes, QEMU_PAGE_BYTES, "rdma", recording.pin_all, POLICY, limit_ns
    )
    if recording.setup_ended_ns >= 0:
        yield ev.SetupEnded(recording.setup_ended_ns, "source")
    for estimate in recording.estimates:
        yield ev.BandwidthEstimated(
            estimate.t_ns, "source", estimate.bandwidth_bytes_ms * 1000, estimate.threshold_bytes
        )
    if recording.complete:
        yield ev.VmStopped(recording.decided_ns, "source")
        yield ev.MigrationEnded(recording.ended_ns, "source", "completed", "")


def _rounds(recording: Recording) -> Iterator[ev.AnyEvent]:
    """A round goes from sync to sync; between the decision to stop and the last sync there is none."""
    syncs = recording.syncs
    last = len(syncs) - 1 if recording.complete else len(syncs) + 1  # a log that ends early has none of that
    for index, sync in enumerate(syncs):
        if 0 < index < last:
            yield ev.RoundEnded(sync.began_ns, "source", index)
        if index:
            yield ev.PagesDirtied(sync.ended_ns, "source", sync.new_pages)
        dirty_pages = sync.left_pages + sync.new_pages
        yield ev.BitmapSynced(sync.ended_ns, "source", sync.new_pages, dirty_pages)
        if index < last - 1:
            yield ev.RoundBegan(sync.ended_ns, "source", index + 1, dirty_pages)
        elif index == last and recording.slices:
            yield ev.RoundBegan(sync.ended_ns, "source", index, dirty_pages)
            yield ev.RoundEnded(recording.slices[-1].drained_ns, "source", index)


def _messages(recording: Recording) -> Iterator[ev.AnyEvent]:
    for message in recording.messages:
        yield ev.WorkPosted(message.posted_ns, "source", _QP, _SEND, "send", 0)
        yield ev.ControlSent(message.posted_ns, "source", message.type.replace(" ", "_"), 0, 1)
        yield ev.ControlReceived(message.ready_ns, "source", "READY", 0, 1)
        if message.completed_ns >= 0:
            yield ev.WorkCompleted(message.completed_ns, "source", _QP, _SEND, "send")
        if message.answered_ns >= 0:
            answer = message.type.replace("REQUEST", "RESULT").replace(" ", "_")
            yield ev.ControlReceived(message.answered_ns, "source", answer, 0, 1)


def _memory(recording: Recording) -> Iterator[ev.AnyEvent]:
    if recording.pin_all:
        for index, block in enumerate(recording.blocks):
            yield ev.MemoryRegistered(recording.blocks_told_ns, "source", index, -1, block.length_bytes, 0)
    for chunk in recording.registrations:
        yield ev.MemoryRegistered(chunk.ended_ns, "source", chunk.block, chunk.chunk, chunk.length_bytes, 0)


def _runs(recording: Recording) -> Iterator[ev.AnyEvent]:
    keys = {(each.block, each.chunk): each.key for each in recording.registrations}
    for run in recording.runs:
        yield ev.PagesSaved(run.posted_ns, "source", run.first_page, run.pages, "zero" if run.zero else "data")
        if run.zero:
            continue
        wr_id = _WRITE | run.block << _BLOCK_SHIFT | run.chunk << _CHUNK_SHIFT
        offset = (run.first_page - recording.blocks[run.block].first_page) * QEMU_PAGE_BYTES
        key = keys.get((run.block, run.chunk), 0)
        yield ev.WorkPosted(run.posted_ns, "source", _QP, wr_id, "write", run.length_bytes, run.block, offset, key)
        yield ev.WorkCompleted(run.completed_ns, "source", _QP, wr_id, "write", run.length_bytes)


def _slices(recording: Recording) -> Iterator[ev.AnyEvent]:
    writes = [run for run in recording.runs if not run.zero]
    forcing = [message for message in recording.messages if message.pending_writes]
    first = forced = 0
    for index, section in enumerate(recording.slices, start=1):
        yield ev.SliceBegan(section.began_ns, "source", index)
        behind = first
        while behind < len(writes) and writes[behind].posted_ns <= section.drained_ns:
            behind += 1
        until = forced
        while until < len(forcing) and forcing[until].posted_ns < section.drained_ns:
            until += 1
        yield from _drains(writes[first:behind], forcing[forced:until])
        first, forced = behind, until
        yield ev.SliceEnded(section.ended_ns, "source", index)


def _drains(writes: list[LoggedRun], forcing: list[LoggedMessage]) -> Iterator[ev.AnyEvent]:
    """The drain that ends a slice, and those that its control messages force."""
    if not writes:
        return
    began_ns = writes[-1].returned_ns
    pending = sum(run.length_bytes for run in writes if run.completed_ns > began_ns)
    yield ev.DrainBegan(began_ns, "source", "policy", "slice-end", pending, 0)
    yield ev.DrainEnded(max(run.completed_ns for run in writes), "source", "policy", 0)
    for message in forcing:
        on_way = [run for run in writes if run.posted_ns < message.posted_ns < run.completed_ns]
        if not on_way:
            continue  # their completions had arrived, only not been polled
        pending = sum(run.length_bytes for run in on_way)
        yield ev.DrainBegan(message.posted_ns, "source", "wire", message.type.replace(" ", "_"), pending, 0)
        yield ev.DrainEnded(max(run.completed_ns for run in on_way), "source", "wire", 0)
