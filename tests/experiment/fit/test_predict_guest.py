"""What a recording tells of its guest, on recordings made by hand."""

from __future__ import annotations

from simmig.experiment.fit.predict_guest import device_state_bytes, dirtying, guest_of, working_set
from simmig.trace.qemu_recording import (
    QEMU_PAGE_BYTES,
    LoggedBlock,
    LoggedMessage,
    LoggedRun,
    LoggedSlice,
    LoggedSync,
    Recording,
)

PAGES = 1000
SECOND_NS = 1_000_000_000


def recording(runs: list[tuple[int, int, int]], syncs: list[tuple[int, int, int]]) -> Recording:
    """Runs as (when, first page, pages), syncs as (when, new pages, pages left)."""
    return Recording(
        blocks=[LoggedBlock("ram", 0, 0, PAGES * QEMU_PAGE_BYTES, 0)],
        runs=[LoggedRun(when, when, 0, 0, first, pages, zero=False) for when, first, pages in runs],
        syncs=[LoggedSync(when, when, new, left) for when, new, left in syncs],
        slices=[LoggedSlice(0, 0, 0, 100)],
        decided_ns=0,
        ended_ns=0,
    )


def test_the_working_set_is_what_was_sent_more_than_once() -> None:
    logged = recording([(1, 0, 1000), (2, 100, 50), (3, 120, 10), (3, 149, 2), (4, 300, 5), (5, 305, 1)], [])
    assert working_set(logged) == [(100, 51), (300, 6)]


def test_a_guest_that_writes_nothing_is_idle() -> None:
    assert dirtying(recording([(1, 0, 1000)], [(0, 0, 1000), (5, 0, 0), (6, 0, 0)])) == []


def test_pages_that_were_dirty_still_hide_their_share_of_the_writes() -> None:
    runs = [(1, 0, 1000), (3 * SECOND_NS, 0, 100)]
    syncs = [(0, 0, 1000), (SECOND_NS, 30, 50), (2 * SECOND_NS, 20, 0), (3 * SECOND_NS, 0, 0)]
    # Half of the 100 pages were dirty still at the first sync: 30 new ones stand for 60 writes. The last two
    # intervals, up to the sync of the stopped guest, are one.
    assert dirtying(recording(runs, syncs)) == [
        (SECOND_NS, 0, 60),
        (3 * SECOND_NS, 60, 20),
    ]


def test_a_saturated_interval_takes_its_rate_from_the_others() -> None:
    runs = [(1, 0, 1000), (12 * SECOND_NS, 0, 100)]
    syncs = [(0, 0, 1000), (10 * SECOND_NS, 100, 0), (11 * SECOND_NS, 25, 0), (12 * SECOND_NS, 25, 0)]
    # 50 pages in the two seconds that were not saturated: 250 in the ten that were, round and round.
    assert dirtying(recording(runs, syncs)) == [
        (10 * SECOND_NS, 0, 100),
        (10 * SECOND_NS, 0, 100),
        (10 * SECOND_NS, 0, 50),
        (12 * SECOND_NS, 50, 50),
    ]


def test_saturation_alone_leaves_what_was_seen() -> None:
    runs = [(1, 0, 1000), (9 * SECOND_NS, 40, 8)]
    syncs = [(0, 0, 1000), (9 * SECOND_NS, 8, 0), (9 * SECOND_NS + 1, 0, 0)]
    assert dirtying(recording(runs, syncs)) == [(9 * SECOND_NS + 1, 40, 8)]


def test_writes_go_round_the_runs_of_the_working_set() -> None:
    runs = [(1, 0, 1000), (2 * SECOND_NS, 10, 3), (2 * SECOND_NS, 20, 2)]
    syncs = [(0, 0, 1000), (SECOND_NS, 4, 0), (2 * SECOND_NS, 4, 0), (2 * SECOND_NS + 1, 0, 0)]
    assert dirtying(recording(runs, syncs)) == [
        (SECOND_NS, 10, 3),
        (SECOND_NS, 20, 1),
        (2 * SECOND_NS + 1, 21, 1),
        (2 * SECOND_NS + 1, 10, 3),
    ]


def test_the_machine_has_the_blocks_the_zero_pages_and_the_device_state() -> None:
    logged = recording([(1, 0, 1000), (5, 10, 3)], [(0, 0, 1000), (4, 3, 0), (6, 0, 0)])
    logged.runs.insert(0, LoggedRun(1, 1, 0, 0, 700, 300, zero=True))
    logged.messages = [LoggedMessage("QEMU FILE", t, t, True, True, 0) for t in (50, 101, 102, 103, 104)]
    subject = guest_of(logged)
    assert subject.machine.blocks == (("ram", PAGES * QEMU_PAGE_BYTES),)
    assert subject.zero_runs == [(700, 300)]
    # Four messages behind the last section: three full ones and half a one.
    assert subject.machine.device_state_bytes == device_state_bytes(logged) == 7 * 16384
