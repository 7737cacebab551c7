"""Each invariant holds on a good trace, and breaks on the smallest trace that breaks it, and only there."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from simmig.trace import events as ev
from simmig.trace.qemu_attempts import read_recording
from simmig.trace.qemu_events import events_of
from simmig.trace.recorder import Recorder, TraceFile
from simmig.verify.invariants import CATALOGUE, Invariants, read_violations
from tests.verify.traces import (
    BEGAN,
    ENDS,
    GOOD,
    HAND_OVER,
    LIVE,
    SETUP,
    D,
    S,
    arrived,
    broken,
    check,
    failed,
    message,
    receive,
    violations,
    without,
    write,
    written,
)

Trace = list[ev.AnyEvent]


def live(*events: ev.AnyEvent) -> Trace:
    """A whole migration with these events in its live phase."""
    return [*SETUP, *events, *HAND_OVER, *ENDS]


def began(**changes: object) -> ev.MigrationBegan:
    kept = {name: getattr(BEGAN, name) for name in BEGAN.__struct_fields__}
    return ev.MigrationBegan(**kept | changes)


def test_all_hold_on_a_good_trace() -> None:
    assert broken(GOOD) == []
    assert set(check(GOOD).results().values()) == {True}


def test_all_hold_when_the_source_keeps_the_guest() -> None:
    assert broken(failed(*write(10), ev.WorkFailed(12, S, 7, 1, "IBV_WC_RETRY_EXC_ERR"))) == []
    assert broken(failed(ev.VmStopped(10, S), ev.VmResumed(12, S), status="cancelled")) == []


def test_every_name_is_reported_or_not_applicable() -> None:
    invariants = check(GOOD)
    assert sorted([*invariants.results(), *invariants.not_applicable]) == sorted(kind.name for kind in CATALOGUE)


STATE = ev.DeviceStateSent(20, S, 1024)
T = 100 * 10**6
"""A window of the bandwidth estimate."""


def stopped(*events: ev.AnyEvent) -> Trace:
    """A whole migration with these events between the stop and the end of the stream."""
    return [*SETUP, HAND_OVER[0], *events, *HAND_OVER[1:], *ENDS]


def estimate(t_ns: int, threshold_bytes: int) -> ev.BandwidthEstimated:
    """One that asks for a threshold of 4096 bytes, with the limit of 1 ms."""
    return ev.BandwidthEstimated(t_ns, S, 4_096_000, threshold_bytes)


def rounds(
    *between: ev.AnyEvent, saved_pages: int = 2, left_pages: int = 0, another: int = 0, most: int = 2
) -> Trace:
    """A source's first round, of 2 pages and with these events in it, perhaps another, and the last.

    Two pages do not fit into the downtime limit, one does. `another` is how many pages a second round begins with,
    `left_pages` how many are dirty when the guest is stopped.
    """
    trace: Trace = [began(max_rounds=most), ev.BitmapSynced(1, S, 0, 2), ev.RoundBegan(1, S, 1, 2)]
    trace += [ev.SetupEnded(2, S), *between]
    trace += [ev.PagesSaved(T + 1, S, 0, saved_pages, "zero"), ev.BandwidthEstimated(T + 4, S, 8_191_000, 8191)]
    trace += [ev.RoundEnded(T + 4, S, 1)]
    left, last = 2 - saved_pages + left_pages, 2
    if another:
        trace += [ev.BitmapSynced(T + 4, S, another, another), ev.RoundBegan(T + 4, S, 2, another)]
        trace += [ev.PagesSaved(T + 4, S, 0, another, "zero"), ev.RoundEnded(T + 4, S, 2)]
        left, last = left_pages, 3
    trace += [ev.BitmapSynced(T + 5, S, left_pages, left), ev.VmStopped(T + 5, S)]
    trace += [ev.BitmapSynced(T + 5, S, 1, left + 1), ev.RoundBegan(T + 5, S, last, left + 1)]
    return [*trace, ev.PagesSaved(T + 5, S, 0, left + 1, "zero"), ev.RoundEnded(T + 5, S, last)]


def gave_up_flat(*sizes: int, told: bool = True) -> Trace:
    """After rounds of so many pages each but the last of them, which were dirty at the end."""
    trace: Trace = [began(max_rounds=30, stop_when_flat=told), ev.BitmapSynced(1, S, 0, sizes[0])]
    for index, (pages, then) in enumerate(itertools.pairwise(sizes), 1):
        trace += [ev.RoundBegan(T, S, index, pages), ev.PagesSaved(T, S, 0, pages, "zero")]
        trace += [ev.RoundEnded(T, S, index), ev.BitmapSynced(T, S, then, then)]
    return [*trace, ev.MigrationEnded(T + 9, S, "not-converging", "x")]


def gave_up(most: int) -> Trace:
    """With 2 pages dirty after one round."""
    trace = rounds(left_pages=2, most=most)
    stop = next(index for index, event in enumerate(trace) if isinstance(event, ev.VmStopped))
    return [*trace[:stop], ev.MigrationEnded(T + 9, S, "not-converging", "x")]


def late_burst(pages: int) -> Trace:
    """Much time passes and then so many pages go at once."""
    return failed(*write(10**9, 0, pages), written(10**9 + 1, 0, pages))[1:-2] + [
        ev.MigrationEnded(10**9 + 2, side, "failed", "x") for side in (S, D)
    ]


def chunk_and_pages(pages: int) -> Trace:
    return live(*write(10, 0, 256), *write(11, 1, pages), written(12, 0, 256), written(13, 1, pages))[1:]


TWO = [*write(10, 0), *write(10, 1)]

BREAKING: list[tuple[str, Trace, Trace]] = [  # the invariant, what breaks it, and a neighbour that does not
    ("memory_identical", without(ev.MemoryCompared), GOOD),
    (
        "memory_identical",
        [ev.MemoryCompared(23, D, 512, 1) if type(e) is ev.MemoryCompared else e for e in GOOD],
        GOOD,
    ),
    ("one_side_runs", without(ev.VmStopped), GOOD),
    ("one_side_runs", without(ev.VmResumed, without(ev.MemoryCompared)), GOOD),
    ("one_side_runs", failed(ev.VmStopped(10, S)), failed(ev.VmStopped(10, S), ev.VmResumed(11, S))),
    ("no_write_in_flight_at_resume", live(*write(10, qp=8)), live(*write(10), written(11))),
    ("completions_match_posts", live(*LIVE, written(13)), live(*LIVE)),
    (
        "completions_match_posts",
        live(*TWO, written(12, 1), written(13, 0)),
        live(*TWO, written(12), written(13, 1)),
    ),
    ("all_work_ended", [*SETUP, *LIVE, *HAND_OVER, *message(24, D, "READY"), *ENDS], GOOD),
    (
        "one_write_per_chunk",
        live(*write(10), *write(11), written(12), written(13)),
        live(*write(10), written(12), *write(12), written(13)),
    ),
    (
        "writes_within_chunk",
        live(*write(10, 0, 256, offset_bytes=4096), written(11, 0, 256)),
        live(*write(10, 0, 256), written(11, 0, 256)),
    ),
    ("writes_within_chunk", live(*write(10, 1, wr_id=1), written(11)), live(*write(10, 1), written(11, 1))),
    ("buffers_owned", live(receive(10, S, 1), receive(10, S, 1)), live(receive(10, S, 1))),
    (
        "queues_never_overrun",
        [began(send_queue=1), *live(*TWO, written(12), written(13, 1))[1:]],
        [began(send_queue=2), *live(*TWO, written(12), written(13, 1))[1:]],
    ),
    (
        "queues_never_overrun",
        [began(completion_queue=1), *live(*TWO, written(12), written(13, 1))[1:]],
        [began(completion_queue=2), *live(*TWO, written(12), written(13, 1))[1:]],
    ),
    (
        "keys_registered",
        live(*write(10, 0, key=99), written(11)),
        live(*write(10, 0, key=30), written(11)),
    ),
    ("keys_registered", live(*write(10, 0, key=31), written(11)), live(*write(10), written(11))),
    (
        "keys_registered",
        failed(
            ev.MemoryDeregistered(8, D, 0, 0, 30), *message(9, D, "UNREGISTER_FINISHED"), *write(10), written(11)
        ),
        failed(ev.MemoryDeregistered(8, D, 0, 0, 30), *write(10), written(11)),  # it goes down, unheard of
    ),
    (
        "keys_registered",
        live(ev.MemoryDeregistered(8, S, 0, 0, 9), *write(10), written(11)),
        live(ev.MemoryDeregistered(8, S, 0, 1, 9), *write(10), written(11)),
    ),
    (
        "keys_outlive_writes",
        failed(*write(10), ev.MemoryDeregistered(11, D, 0, 0, 30), *message(12, D, "UNREGISTER_FINISHED")),
        failed(*write(10), ev.MemoryDeregistered(11, D, 0, 0, 30)),
    ),
    (
        "credit_never_exhausted",
        failed(
            receive(8, S), *message(9, S, "QEMU_FILE"), *arrived(10, D, "QEMU_FILE"), *message(11, S, "QEMU_FILE")
        ),
        failed(receive(8, S), *message(9, S, "QEMU_FILE"), *arrived(10, D, "QEMU_FILE"), *message(11, S, "ERROR")),
    ),
    ("accounting_matches_wire", live(*write(10)[1:], written(11)), live(*write(10), written(11))),
    (
        "accounting_matches_wire",
        live(*write(10, length_bytes=8192), written(11, 0, 2)),
        live(*write(10), written(11)),
    ),
    ("accounting_matches_wire", live(*write(10), written(11, 0, 2)), live(*write(10), written(11))),
    (
        "accounting_matches_wire",
        live(ev.DrainBegan(8, S, "policy", "x", 1, 0), ev.DrainEnded(9, S, "policy", 0)),
        GOOD,
    ),
    (
        "accounting_matches_wire",
        [*SETUP, *LIVE, *HAND_OVER, *ENDS[:2], ev.PortCounted(26, S, 4095)],
        [*SETUP, *LIVE, *HAND_OVER, *ENDS[:2], ev.PortCounted(26, S, 4096)],
    ),
    (
        "accounting_matches_wire",
        live(*write(10, 0, 16), ev.BandwidthEstimated(1_000_006, S, 131_072_000, 0), written(1_000_007, 0, 16))[
            :-9
        ],
        live(*write(10, 0, 16), ev.BandwidthEstimated(1_000_006, S, 65_536_000, 0), written(1_000_007, 0, 16))[
            :-9
        ],
    ),
    (
        "pending_within_promise",
        [began(promise=0), *live(*write(10, 0, 256), *write(10, 1), written(11, 0, 256), written(12, 1))[1:]],
        [began(promise=4096), *live(*write(10, 0, 256), *write(10, 1), written(11, 0, 256), written(12, 1))[1:]],
    ),
    (
        "drains_reach_target",
        live(
            *TWO,
            ev.DrainBegan(11, S, "policy", "x", 8192, 0),
            written(12),
            ev.DrainEnded(12, S, "policy", 4096),
            written(13, 1),
        ),
        live(
            *TWO,
            ev.DrainBegan(11, S, "policy", "x", 8192, 4096),
            written(12),
            ev.DrainEnded(12, S, "policy", 4096),
            written(13, 1),
        ),
    ),
    ("drains_reach_target", without(ev.DrainEnded), GOOD),
    (
        "rate_limit_kept",
        [began(max_bandwidth_bytes_s=40_960), *live(*write(10, 0, 3), written(11, 0, 3))[1:]],
        [began(max_bandwidth_bytes_s=40_960), *live(*write(10, 0, 2), written(11, 0, 2))[1:]],
    ),
    (
        "rate_limit_kept",
        [began(max_bandwidth_bytes_s=40_960), *late_burst(5)],
        [began(max_bandwidth_bytes_s=40_960), *late_burst(4)],
    ),
    (
        "rate_limit_kept",
        [began(max_bandwidth_bytes_s=1 << 20), *live(ev.SliceBegan(10, S, 1), ev.SliceEnded(11, S, 1))[1:]],
        live(ev.SliceBegan(10, S, 1), ev.SliceEnded(11, S, 1)),
    ),
    (
        "rate_limit_kept",
        [began(max_bandwidth_bytes_s=1, rate_limit="qemu-10.0"), *chunk_and_pages(2)],
        [began(max_bandwidth_bytes_s=1, rate_limit="qemu-10.0"), *chunk_and_pages(1)],
    ),
    ("ballooned_pages_stay", [began(ballooned=((0, 1),)), *GOOD[1:]], [began(ballooned=((1, 9),)), *GOOD[1:]]),
    ("stop_fits_estimate", rounds(estimate(3, 4097)), rounds(estimate(3, 4096))),
    ("stop_fits_estimate", rounds(left_pages=2), rounds(left_pages=1)),
    ("rounds_are_due", rounds(saved_pages=0), rounds(saved_pages=1)),
    ("rounds_are_due", rounds(another=1), rounds(another=2)),
    ("rounds_are_due", rounds(ev.BitmapSynced(99, S, 0, 0)), rounds()),
    ("rounds_are_due", rounds(ev.RoundBegan(99, S, 2, 0)), rounds()),
    ("rounds_are_due", rounds(another=2, most=1), rounds(another=2, most=2)),
    ("rounds_are_due", gave_up(most=2), gave_up(most=1)),
    ("rounds_are_due", gave_up_flat(40, 20, 20, 20, 20, told=False), gave_up_flat(40, 20, 20, 20, 20, 20)),
    ("rounds_are_due", gave_up_flat(40, 20, 20, 20, 20), gave_up_flat(40, 20, 20, 21, 20, 20)),
    ("rounds_are_due", gave_up_flat(40, 20, 20, 20, 20, 19), gave_up_flat(60, 40, 40, 40, 40, 39)),
    ("estimates_in_time", rounds(estimate(3, 4096), estimate(89, 4096)), rounds(estimate(3, 4096))),
    (
        "estimates_in_time",
        rounds(ev.PagesSaved(T + 2, S, 3, 0, "zero"), ev.SliceBegan(T + 3, S, 2)),
        rounds(ev.PagesSaved(T + 1, S, 3, 0, "zero"), ev.SliceBegan(T + 3, S, 2)),
    ),
    (
        "runs_are_merged",
        live(*write(10), written(11), *write(12, offset_bytes=4096), written(13)),
        live(*write(10), written(11), ev.SliceEnded(11, S, 1), *write(12, offset_bytes=4096), written(13)),
    ),
    ("device_state_once", stopped(STATE), GOOD),
    ("device_state_once", live(STATE), GOOD),
    (
        "device_state_once",
        stopped(ev.DeviceStateLoaded(20, D, 1023)),
        stopped(ev.DeviceStateLoaded(20, D, 1024)),
    ),
    ("every_wait_ends", failed(ev.Stalled(20, S)), failed(ev.Stalled(20, D))),
    (
        "every_wait_ends",
        [*failed(ev.FaultInjected(20, S, "x"))[:-2], ev.MigrationEnded(200 * 10**9, S, "failed", "x")],
        failed(ev.FaultInjected(20, S, "x")),
    ),
    ("no_success_after_error", live(*LIVE, ev.WorkFailed(13, S, 7, 1, "IBV_WC_REM_ACCESS_ERR")), GOOD),
    (
        "no_success_after_error",
        live(*LIVE, ev.WorkFailed(13, D, 7, 4000, "IBV_WC_LOC_LEN_ERR")),
        live(*LIVE, ev.WorkFailed(13, D, 7, 3000, "IBV_WC_WR_FLUSH_ERR")),
    ),
    ("nothing_after_the_end", [*GOOD, ev.PagesSaved(30, S, 0, 1, "zero")], [*GOOD, ev.PortCounted(20, D, 0)]),
    ("nothing_after_the_end", live(*LIVE, ev.SliceEnded(1, S, 1)), live(*LIVE, ev.SliceEnded(12, S, 1))),
    ("trace_is_whole", [], GOOD),
    ("trace_is_whole", GOOD[1:], GOOD),
    ("trace_is_whole", GOOD[:-2], GOOD),
]


@pytest.mark.parametrize(
    ("name", "bad", "good"), BREAKING, ids=[f"{i}-{row[0]}" for i, row in enumerate(BREAKING)]
)
def test_each_breaks_where_it_should(name: str, bad: Trace, good: Trace) -> None:
    assert name in broken(bad)
    assert name not in broken(good)


def test_each_has_a_trace_that_breaks_it() -> None:
    assert {kind.name for kind in CATALOGUE} == {name for name, _, _ in BREAKING}


def test_a_violation_says_where_and_why() -> None:
    trace = live(*write(10), *write(11), written(12), written(13))
    (found,) = violations(trace)
    assert trace[found.event] == ev.WorkPosted(11, S, 7, 1, "write", 4096, 0, 0, 30)
    assert (found.t_ns, found.rule) == (11, "protocol 5")
    assert "second write to chunk 0" in found.words


def test_only_the_first_violation_of_each_counts() -> None:
    assert broken(live(*write(10), *write(11), *write(12), written(13), written(13), written(13))) == [
        "one_write_per_chunk"
    ]


def test_nobody_can_know_who_has_the_guest_when_the_last_acknowledgement_is_lost() -> None:
    lost = ev.WorkFailed(24, S, 7, 2000, "IBV_WC_RETRY_EXC_ERR")
    ends = [ev.MigrationEnded(26, S, "failed", "x"), ev.MigrationEnded(27, D, "completed", "")]
    sent = [e for e in HAND_OVER if not (isinstance(e, ev.WorkCompleted) and e.opcode == "send")]
    both = [*SETUP, *LIVE, *sent, lost, ev.VmResumed(25, S), *ends]
    assert broken(both) == []
    ends[0] = ev.MigrationEnded(26, S, "cancelled", "x")  # but the user's cancellation is no such thing
    assert broken([*SETUP, *LIVE, *sent, ev.VmResumed(25, S), *ends]) == ["one_side_runs"]


def test_nor_when_the_acknowledgement_at_a_socket_is_lost() -> None:
    def ended(status: str) -> Trace:
        ends = [ev.MigrationEnded(26, S, status, "x"), ev.MigrationEnded(27, D, "completed", "")]
        compared = ev.MemoryCompared(23, D, 512, 0)
        trace: Trace = [ev.VmStopped(20, S), ev.DeviceStateSent(21, S, 9), compared, ev.VmResumed(23, D)]
        return [began(transport="tcp"), ev.SetupEnded(6, S), *trace, ev.VmResumed(25, S), *ends]

    assert broken(ended("failed")) == []
    assert broken(ended("cancelled")) == ["one_side_runs"]


def test_a_dead_host_runs_no_guest() -> None:
    died = failed(ev.HostDied(12, S))
    assert broken(died) == []


def test_a_log_of_qemu_is_checked_as_far_as_it_goes() -> None:
    path = Path(__file__).parents[1] / "data" / "qemu-7.2-rxe" / "net60-dirty6-96-pinall.src.trace.gz"
    events = events_of(read_recording(path))
    invariants = check(events)
    assert invariants.violations == []
    assert set(invariants.not_applicable) == {
        "memory_identical",
        "one_side_runs",
        "no_write_in_flight_at_resume",
        "keys_registered",
        "credit_never_exhausted",
        "pending_within_promise",
        "stop_fits_estimate",
        "rounds_are_due",
        "estimates_in_time",
        "rate_limit_kept",
    }
    assert "trace_is_whole" in broken(events[: len(events) // 2])


def test_a_file_is_checked_like_the_trace(tmp_path: Path) -> None:
    for events in (GOOD, GOOD[:-2]):
        path = tmp_path / "trace.jsonl.gz"
        with TraceFile(path) as file:
            recorder = Recorder((), file.sink)
            for event in events:
                recorder.emit(event)
            recorder.flush()
        assert read_violations(path) == violations(events)


def test_memory_does_not_grow_with_the_trace() -> None:
    invariants = Invariants()
    for event in SETUP:
        invariants(event)
    ledger = invariants._ledger
    for t_ns in range(10, 5000):
        for event in (*write(t_ns), written(t_ns)):
            invariants(event)
    assert invariants.noted == []
    assert sum(len(queue) for queue in (*ledger.sends.values(), *ledger.receives.values())) < 5
