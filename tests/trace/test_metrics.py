"""Figures of traces written by hand, whose answers are known."""

from simmig.trace import events as ev
from simmig.trace.metrics import Metrics

MIB = 1 << 20


def read(*events: ev.AnyEvent) -> Metrics:
    metrics = Metrics()
    for event in events:
        metrics(event)
    return metrics


def began(t_ns: int = 0, transport: str = "rdma") -> ev.MigrationBegan:
    return ev.MigrationBegan(t_ns, "source", 8 * MIB, 4096, transport, False, "per-iteration", 300_000_000)


def posted(t_ns: int, wr_id: int, length_bytes: int = MIB, qp: int = 7) -> ev.WorkPosted:
    return ev.WorkPosted(t_ns, "source", qp, wr_id, "write", length_bytes, 0, 0, 1)


def completed(t_ns: int, wr_id: int, qp: int = 7) -> ev.WorkCompleted:
    return ev.WorkCompleted(t_ns, "source", qp, wr_id, "write")


def drain(asked_by: ev.AskedBy, begin_ns: int, end_ns: int) -> tuple[ev.DrainBegan, ev.DrainEnded]:
    return (
        ev.DrainBegan(begin_ns, "source", asked_by, "slice-end", MIB, 0),
        ev.DrainEnded(end_ns, "source", asked_by, 0),
    )


def downtime_trace() -> list[ev.AnyEvent]:
    """Stopped at 1000; 50 of residual pages, a drain of 400, 30 more, device state 120, switch 70."""
    drain_began, drain_ended = drain("protocol", 1050, 1450)
    return [
        began(100),
        ev.SetupEnded(300, "source"),
        ev.RoundBegan(300, "source", 1, 2048),
        ev.RoundEnded(990, "source", 1),
        posted(995, 1),
        ev.VmStopped(1000, "source"),
        ev.RoundBegan(1000, "source", 2, 256),
        drain_began,
        completed(1450, 1),
        drain_ended,
        ev.RoundEnded(1480, "source", 2),
        ev.DeviceStateSent(1500, "source", 4096),
        ev.DeviceStateLoaded(1600, "destination", 4096),
        ev.VmResumed(1670, "destination"),
        ev.MigrationEnded(1675, "destination", "completed", ""),
        ev.MigrationEnded(1690, "source", "completed", ""),
    ]


def test_times_are_counted_from_the_beginning() -> None:
    metrics = read(*downtime_trace())
    assert metrics.total_time_ns == 1570
    assert metrics.setup_time_ns == 200
    assert metrics.downtime_ns == 670


def test_downtime_parts_add_up_to_the_downtime() -> None:
    parts = read(*downtime_trace()).downtime
    assert (parts.residual_pages_ns, parts.drain_ns, parts.device_state_ns, parts.switch_ns) == (80, 400, 120, 70)


def test_a_log_of_the_source_alone_ends_the_downtime_when_the_source_is_done() -> None:
    metrics = read(*(event for event in downtime_trace() if event.side == "source"))
    assert metrics.downtime_ns == 690
    parts = metrics.downtime
    assert (parts.residual_pages_ns, parts.drain_ns, parts.device_state_ns, parts.switch_ns) == (80, 400, 210, 0)


def test_a_guest_that_comes_back_on_the_source_stood_still_until_then() -> None:
    metrics = read(began(), ev.VmStopped(10, "source"), ev.VmResumed(35, "source"))
    assert metrics.downtime_ns == 25
    assert metrics.resumed_side == "source"


def test_a_migration_that_never_stopped_the_guest_has_no_downtime() -> None:
    metrics = read(began(), ev.MigrationEnded(50, "source", "failed", "refused"))
    assert (metrics.downtime_ns, metrics.total_time_ns, metrics.setup_time_ns) == (0, 50, 0)


def test_pending_is_posted_and_not_completed() -> None:
    metrics = read(
        began(),
        posted(1, 1),
        posted(2, 2),
        completed(3, 1),
        posted(4, 3),
        ev.VmStopped(5, "source"),
        completed(6, 2),
    )
    assert metrics.max_pending_bytes == 2 * MIB
    assert metrics.pending_bytes_at_stop == 2 * MIB
    assert metrics.pending_bytes == MIB
    assert metrics.counts.posted_bytes == 3 * MIB


def test_a_completion_retires_earlier_writes_of_its_own_queue_pair_only() -> None:
    metrics = read(began(), posted(1, 1), posted(2, 2), posted(3, 1, qp=8), completed(4, 2))
    assert metrics.pending_bytes == MIB


def test_a_failed_write_is_no_longer_pending_and_a_refused_post_never_was() -> None:
    metrics = read(
        began(),
        posted(1, 1),
        ev.WorkFailed(2, "source", 7, 2, "ENOMEM"),
        ev.WorkFailed(3, "source", 7, 1, "IBV_WC_WR_FLUSH_ERR"),
    )
    assert metrics.pending_bytes == 0
    assert metrics.max_pending_bytes == MIB


def test_sends_and_receives_are_not_pending_writes() -> None:
    metrics = read(
        began(),
        posted(1, 1),
        ev.WorkPosted(2, "source", 7, 2000, "send", 100),
        ev.WorkPosted(2, "destination", 9, 2000, "send", 50),
        ev.WorkCompleted(3, "source", 7, 2000, "send"),
        ev.WorkCompleted(3, "source", 7, 4000, "recv", 50),
    )
    assert metrics.pending_bytes == MIB
    assert metrics.bytes_on_wire == MIB + 100


def test_the_port_counts_what_was_on_the_wire_where_there_is_one() -> None:
    port = ev.PortCounted(9, "source", 2 * MIB)
    assert read(began(), posted(1, 1), port, ev.PortCounted(9, "destination", 77)).bytes_on_wire == 2 * MIB


def test_drains_are_told_apart_by_who_asked() -> None:
    metrics = read(began(), *drain("policy", 10, 40), *drain("wire", 50, 55), *drain("wire", 60, 61))
    counts = metrics.counts
    assert (counts.drains, counts.drain_ns, counts.forced_drain_ns, counts.protocol_drain_ns) == (1, 30, 6, 0)
    assert sum(metrics.waited["wire"].bins.values()) == 6


def test_rounds_and_slices_hold_what_happened_in_them() -> None:
    metrics = read(
        began(),
        ev.RoundBegan(0, "source", 1, 512),
        ev.SliceBegan(0, "source", 1),
        posted(1, 1),
        ev.PagesSaved(1, "source", 0, 256, "data"),
        ev.SliceEnded(10, "source", 1),
        ev.SliceBegan(10, "source", 2),
        ev.PagesSaved(11, "source", 256, 256, "zero"),
        ev.PagesDirtied(12, "source", 3),
        *drain("wire", 12, 15),
        ev.SliceEnded(20, "source", 2),
        ev.RoundEnded(20, "source", 1),
        ev.RoundBegan(21, "source", 2, 3),
        ev.MigrationEnded(30, "source", "completed", ""),
    )
    first, second = metrics.slices
    assert (first.counts.posted_bytes, first.counts.data_pages, first.pending_bytes) == (MIB, 256, MIB)
    assert (second.counts.zero_pages, second.counts.forced_drain_ns, second.duration_ns) == (256, 3, 10)
    round_one, round_two = metrics.rounds
    assert (round_one.counts.data_pages, round_one.counts.zero_pages, round_one.counts.guest_writes) == (
        256,
        256,
        3,
    )
    assert (round_two.dirty_pages, round_two.ended_ns) == (3, 30)
    assert [row.round for row in metrics.slices] == [1, 1]


def test_what_a_sync_finds_was_written_in_the_round_before_it() -> None:
    metrics = read(
        began(),
        ev.RoundBegan(0, "source", 1, 9),
        ev.RoundEnded(10, "source", 1),
        ev.PagesDirtied(10, "source", 5),
        ev.RoundBegan(10, "source", 2, 5),
        ev.MigrationEnded(20, "source", "completed", ""),
    )
    assert [row.counts.guest_writes for row in metrics.rounds] == [5, 0]
    assert metrics.counts.guest_writes == 5


def test_throughput_is_ram_after_the_setup() -> None:
    metrics = read(
        began(),
        ev.SetupEnded(1_000_000, "source"),
        posted(1_000_000, 1),
        ev.MigrationEnded(2_000_000, "source", "completed", ""),
    )
    assert metrics.throughput_bit_s == MIB * 8 * 1000


def test_over_a_socket_saved_pages_are_what_was_sent() -> None:
    metrics = read(
        began(transport="tcp"), ev.PagesSaved(1, "source", 0, 2, "data"), ev.PagesSaved(1, "source", 2, 9, "zero")
    )
    assert metrics.counts.posted_bytes == 8192
    assert metrics.counts.zero_pages == 9
