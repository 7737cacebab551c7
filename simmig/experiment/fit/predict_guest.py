"""The guest of a recorded migration, as far as its log tells: blocks, zero pages, and when it dirties which pages.

A bitmap sync tells how many pages turned dirty since the one before: each counted once, and only those that were
not dirty anyway. What the guest wrote is therefore estimated:

- Its working set is every page that left the bitmap more than once.
- Where a share d of the working set was dirty still at the sync, that share of the guest's writes could not be
  seen: n new pages stand for n / (1 - d) writes.
- An interval that found all the rest of the working set dirty is saturated: it hides the rate. The guest is taken
  to have written as fast as in all unsaturated intervals together, and no less than what was seen.
- Pages are written in order of address, round and round, for the log does not tell the order.
- Behind the recording the guest goes on as in its last live round.
"""

from __future__ import annotations

from urllib.parse import quote

from simmig.experiment.scenario.machine import Subject
from simmig.guest.machine import Machine
from simmig.guest.workload import Idle, Recorded, Workload
from simmig.trace.qemu_recording import Recording

_BUFFER_BYTES = 32 << 10
"""QEMU FILE messages are at most that long (protocol.md, section 1)."""
UNKNOWN_DEVICE_STATE_BYTES = 128 << 10
"""A PC with a disk and a network card saves about as much; where the log does not show it."""

Row = tuple[int, int, int]


def guest_of(recording: Recording) -> Subject:
    """The machine, and which of its pages were zero in the first round (with pin-all nothing is known of that)."""
    zero_runs = [
        (run.first_page, run.pages)
        for run in recording.runs
        if run.zero and run.seen_ns < recording.first_round_ended_ns
    ]
    rows = dirtying(recording)
    workload: Workload = Recorded(rows) if rows else Idle()
    blocks = tuple(zip(block_names(recording), (block.length_bytes for block in recording.blocks), strict=True))
    machine = Machine(blocks, 0.0, workload, device_state_bytes=device_state_bytes(recording))
    return Subject(machine, zero_runs)


def block_names(recording: Recording) -> list[str]:
    """Names of the RAM blocks as a scenario takes them: printable ASCII, no blanks, each once."""
    names: list[str] = []
    for index, block in enumerate(recording.blocks):
        name = quote(block.name, safe="/@.:-_+~()")[:200] or "block"
        names.append(name if name not in names else f"{name}.{index}")
    return names


def device_state_bytes(recording: Recording) -> int:
    """Its size, from the number of messages it took: all but the last are full, that one is taken as half full.

    A log that ends before it gives `UNKNOWN_DEVICE_STATE_BYTES`.
    """
    if not recording.complete or not recording.slices:
        return UNKNOWN_DEVICE_STATE_BYTES
    closed_ns = recording.slices[-1].ended_ns
    messages = sum(message.posted_ns > closed_ns for message in recording.messages)
    return max(1, 2 * messages - 1) * _BUFFER_BYTES // 2


def dirtying(recording: Recording) -> list[Row]:
    """What the guest wrote: rows (by when, ns since the migration was asked for; first page; pages)."""
    runs = working_set(recording)
    if not runs or len(recording.syncs) < 2:
        return []
    ends_ns, writes = _intervals(recording, sum(count for _, count in runs))
    rows: list[Row] = []
    which = inside = 0  # where the guest is: in which run, and how far
    for end_ns, count in zip(ends_ns, writes, strict=True):
        left = count
        if not left:
            rows.append((end_ns, runs[which][0] + inside, 0))
        while left:
            first, length = runs[which]
            stretch = min(left, length - inside)
            rows.append((end_ns, first + inside, stretch))
            left -= stretch
            inside += stretch
            if inside == length:
                which, inside = (which + 1) % len(runs), 0
    return rows


def working_set(recording: Recording) -> list[tuple[int, int]]:
    """Pages that were sent more than once, as runs (first page, count) in order of address."""
    steps = [(run.first_page, 1) for run in recording.runs]
    steps += [(run.first_page + run.pages, -1) for run in recording.runs]
    steps.sort(key=lambda step: (step[0], -step[1]))  # where one run ends and another begins there is no gap
    found: list[tuple[int, int]] = []
    times = began = 0
    for page, step in steps:
        before, times = times, times + step
        if before < 2 <= times:
            began = page
        elif times < 2 <= before and page > began:
            found.append((began, page - began))
    return found


def _intervals(recording: Recording, working_pages: int) -> tuple[list[int], list[int]]:
    """When each interval between syncs ended, and how many pages the guest wrote in it."""
    ends_ns: list[int] = []
    seen: list[int] = []
    estimated: list[float] = []
    saturated: list[bool] = []
    for sync in recording.syncs[1:]:
        room = working_pages - sync.new_pages
        dirty = min(max(sync.left_pages, 0), room) / working_pages
        ends_ns.append(sync.began_ns)
        seen.append(sync.new_pages)
        estimated.append(sync.new_pages / (1 - dirty) if sync.new_pages else 0.0)
        saturated.append(sync.left_pages >= room)
    if recording.complete:  # the sync of the stopped guest closes the last live round's interval
        last = ends_ns.pop()
        ends_ns[-1] = last
        seen[-2:] = [sum(seen[-2:])]
        estimated[-2:] = [sum(estimated[-2:])]
        saturated.pop()
    lengths_ns = [end_ns - began_ns for began_ns, end_ns in zip([0, *ends_ns], ends_ns, strict=False)]
    open_ns = sum(length for length, full in zip(lengths_ns, saturated, strict=True) if not full)
    open_writes = sum(count for count, full in zip(estimated, saturated, strict=True) if not full)
    rate = open_writes / open_ns if open_ns else 0.0
    writes = [
        max(count, round(rate * length) if full else round(estimate))
        for count, estimate, full, length in zip(seen, estimated, saturated, lengths_ns, strict=True)
    ]
    return ends_ns, writes
