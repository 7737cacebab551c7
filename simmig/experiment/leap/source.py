"""The source's side from the moment it is connected to its end, as `migration.source`."""

from __future__ import annotations

from typing import Any

from simmig.experiment.leap import meter, record
from simmig.experiment.leap.call_back import call_back
from simmig.experiment.leap.connect import connect
from simmig.experiment.leap.control import (
    answered,
    checkpoint,
    post_control,
    send_message,
    send_request,
    send_stream,
    settle,
    sleep,
    wait,
    wait_receive,
)
from simmig.experiment.leap.decide import (
    decide,
    estimate,
    goes_on,
    may_follow,
    number_of,
    obey_rate_limit,
    renew_rate,
    tell,
)
from simmig.experiment.leap.guest import IDLE, advance, report, sync
from simmig.experiment.leap.lane import RAM_BLOCKS_RESULT, now_of, poll_ram
from simmig.experiment.leap.peer import (
    ERROR,
    RAM_BLOCKS_REQUEST,
    REGISTER_FINISHED,
    come_to_rest,
    deregister,
    hang_up,
    key_of,
    rest,
)
from simmig.experiment.leap.ram import flush, merge, put_back, take
from simmig.experiment.leap.state import (
    NONE,
    PENDING,
    READY_BUFFER,
    SENDS,
    Declined,
    Memory,
    compiled,
    entry,
)
from simmig.migration.config import CHUNK_PAGES
from simmig.migration.control import PATIENCE_NS
from simmig.migration.limits import are_final
from simmig.migration.policies.policy import Point
from simmig.migration.rdma_stream import ABORT_PATIENCE_NS
from simmig.migration.registration import WHOLE_BLOCK
from simmig.migration.wire import BUFFER_BYTES

COMPLETED, NOT_CONVERGING = 0, 1

_PAGE_BYTES = 4096
_FLAG_BYTES, _FOOTER_BYTES, _SECTION_BYTES = 8, 5, 5
_are_final = compiled(are_final)
_BUFFER_PAGES = BUFFER_BYTES // _PAGE_BYTES


@compiled
def _gave_back(s: Any, side: int, ordinal: int, block: int, chunk: int) -> None:
    """The destination is over before the source knows: what it gives back is told where it is over."""
    if side == 0:
        record.wide(s, record.DEREGISTERED, now_of(s, 0), block, chunk, key_of(s, ordinal), 0, 0)


@compiled
def _give_back(s: Any, m: Memory, side: int) -> None:
    """Deregister everything."""
    for _ in range(2 + s.slots):
        deregister(s, side, _BUFFER_PAGES)
    if s.pin_all:
        for block in range(s.blocks):
            deregister(s, side, m.block_end[block] - m.block_first[block])
            _gave_back(s, side, block, block, WHOLE_BLOCK)
        return
    for i in range(s.registered):
        index = m.order[i]
        block = 0
        while block + 1 < s.blocks and index >= m.block_chunk[block + 1]:
            block += 1
        chunk = index - m.block_chunk[block]
        pages = m.block_end[block] - m.block_first[block] - chunk * CHUNK_PAGES
        deregister(s, side, min(CHUNK_PAGES, pages))
        _gave_back(s, side, i, block, chunk)


@compiled
def _begin_round(s: Any, m: Memory) -> None:
    t = now_of(s, 0)
    meter.remaining(s, t, s.dirty)
    before = m.rounds[s.rounds - 1, 0] if s.rounds else 1
    meter.open_row(s, m.rounds, s.rounds, s.rounds + 1, before, t, s.dirty)
    s.rounds += 1
    if _are_final(m.changes, t, s.rounds):
        s.shrinking.round_began(s.dirty)
    record.one_of(s, record.ROUND_BEGAN, t, s.rounds, s.dirty)
    if call_back(s.watch_address, s.rounds):
        raise Declined


@compiled
def _setup(s: Any, m: Memory) -> None:
    advance(s, m, now_of(s, 0))
    s.logging = 1
    sync(s, m)
    _begin_round(s, m)
    s.out = s.start_bytes
    send_stream(s, 0)
    for block in range(s.blocks):
        s.batch[block] = m.block_end[block] - m.block_first[block]
    send_request(s, RAM_BLOCKS_REQUEST, 0, 0, s.patience_ns)
    if s.pin_all:
        for block in range(s.blocks):
            pages = s.batch[block]
            s.debt[0] += s.register[0] + pages * s.register_page[0]
            key = key_of(s, block)
            record.wide(s, record.REGISTERED, now_of(s, 0), block, WHOLE_BLOCK, pages * _PAGE_BYTES, key, 0)
    answered(s, RAM_BLOCKS_RESULT, s.patience_ns)
    s.hooked = 0 if s.own_control else 1
    send_message(s, REGISTER_FINISHED, 0, 0)
    s.out += _FLAG_BYTES
    send_stream(s, 0)
    s.out += _FOOTER_BYTES
    s.setup_end = s.convergence._began_ns = now_of(s, 0)
    s.convergence._position = tell(s)
    s.rate_limit.begin(s.setup_end, tell(s))
    record.one_of(s, record.SETUP_ENDED, s.setup_end, 0, 0)


@compiled
def _end_round(s: Any, m: Memory) -> None:
    t = now_of(s, 0)
    meter.close_row(s, m.rounds, s.rounds, t)
    record.one_of(s, record.ROUND_ENDED, t, s.rounds, 0)
    if s.stopped >= 0:
        meter.account(s, t)
        s.phase = meter.DEVICE_STATE


@compiled
def _too_much(s: Any) -> bool:
    return s.dirty > 0 and s.dirty * _PAGE_BYTES >= s.convergence.threshold_bytes


@compiled
def _drain(s: Any, target: int, asked_by: int, point: Point) -> None:
    if s.pending <= target:
        return
    meter.drain_began(s, asked_by, now_of(s, 0), record.POINT + number_of(point), target)
    wait(s, 0, SENDS, PENDING, target, NONE)
    meter.drain_ended(s, asked_by, now_of(s, 0))


@compiled
def _ask(s: Any, point: Point) -> None:
    target = decide(s, point)
    if target != NONE:
        _drain(s, target, meter.BY_POLICY, point)


@compiled
def _converged(s: Any, m: Memory) -> bool:
    if _too_much(s):
        return False
    if not s.convergence.threshold_bytes:
        estimate(s, m)
    _ask(s, Point.ROUND_END)
    _end_round(s, m)
    sync(s, m)
    if _too_much(s):
        s.hopeless = s.stop_when_flat and s.shrinking.is_hopeless(s.dirty)
        if s.hopeless or s.rounds == s.max_rounds:
            s.diverged = s.dirty
        else:
            _begin_round(s, m)
        return False
    return True


@compiled
def _walk(s: Any, m: Memory) -> bool:
    """Send dirty pages as far as they may follow; False when none is left."""
    saved = 0
    while True:
        limit = may_follow(s, m, saved)
        count = take(s, m, limit) if limit else 0
        if not count:
            s.rate_limit.walked(saved)
            return limit == 0
        first = s.position - count
        if not merge(s, m, first, count):
            left_chunk = s.held.is_left_by(first)
            flush(s, m)
            if count > 1 and not goes_on(s, saved):
                put_back(s, m, first + 1, count - 1)
                count = 1
            merge(s, m, first, count)
            if s.queued_events and s.heap_at[0] <= now_of(s, 0):
                checkpoint(s)
                poll_ram(s)
            if left_chunk:
                s.chunks += 1
                _ask(s, Point.CHUNK_FULL)
        s.debt[0] += s.scan[0] * count
        saved += count


@compiled
def _flush_chunk(s: Any, m: Memory) -> None:
    if flush(s, m):
        s.chunks += 1
        _ask(s, Point.CHUNK_FULL)


@compiled
def _flush_stream(s: Any, m: Memory) -> None:
    """Send what was put into the stream, behind the run of pages held back."""
    if s.out:
        flush(s, m)
        send_stream(s, 0)


@compiled
def _open_section(s: Any, m: Memory) -> None:
    if s.section_open:
        return
    s.section_open = 1
    index = m.rounds[s.rounds - 1, 0] if s.rounds else s.slices + 1
    t = now_of(s, 0)
    meter.open_row(s, m.slices, s.slices, s.slices + 1, index, t, s.remaining)
    s.slices += 1
    record.one_of(s, record.SLICE_BEGAN, t, s.slices, 0)
    s.out += _SECTION_BYTES + _FLAG_BYTES
    _flush_stream(s, m)


@compiled
def _close_section(s: Any, m: Memory) -> None:
    flush(s, m)
    send_message(s, REGISTER_FINISHED, 0, 0)
    s.out += _FLAG_BYTES
    _flush_stream(s, m)
    s.out += _FOOTER_BYTES
    s.section_open = 0
    t = now_of(s, 0)
    meter.close_row(s, m.slices, s.slices, t)
    record.one_of(s, record.SLICE_ENDED, t, s.slices, 0)


@compiled
def _slice(s: Any, m: Memory) -> None:
    _open_section(s, m)
    s.pace.slice_began(now_of(s, 0))
    while _walk(s, m) and not s.pace.timed:
        _flush_chunk(s, m)
        obey_rate_limit(s)
        renew_rate(s, m)
    _flush_chunk(s, m)
    if not s.single_slice:
        _ask(s, Point.SLICE_END)
        _close_section(s, m)


@compiled
def _live(s: Any, m: Memory) -> bool:
    """Slices until what is left would fit into the downtime limit; False when it never will."""
    while not _converged(s, m):
        if s.diverged >= 0:
            return False
        _slice(s, m)
        obey_rate_limit(s)
        if s.convergence.due(now_of(s, 0)):
            _flush_stream(s, m)
            estimate(s, m)
        renew_rate(s, m)
    return True


@compiled
def _stop_and_copy(s: Any, m: Memory) -> None:
    _ask(s, Point.BEFORE_STOP)
    if s.stop_ns >= 0:
        sleep(s, s.stop_ns)
    advance(s, m, now_of(s, 0))
    report(s, m)
    s.workload = IDLE
    s.stopped = s.part_began = now_of(s, 0)
    record.one_of(s, record.STOPPED, s.stopped, 0, 0)
    s.pending_at_stop = s.pending
    sync(s, m)
    _begin_round(s, m)
    _open_section(s, m)
    _walk(s, m)
    _flush_chunk(s, m)
    _ask(s, Point.ROUND_END)
    _ask(s, Point.SLICE_END)
    _ask(s, Point.BEFORE_DEVICE_STATE)
    _drain(s, 0, meter.BY_PROTOCOL, Point.BEFORE_DEVICE_STATE)
    _end_round(s, m)
    _close_section(s, m)


@compiled
def _hand_over(s: Any) -> None:
    s.out += s.device_bytes
    send_stream(s, 0)
    record.one_of(s, record.STATE_SENT, now_of(s, 0), s.device_bytes, 0)
    s.out += s.ending_bytes
    wait_receive(s, READY_BUFFER, PATIENCE_NS, record.LAST_MESSAGE)
    send_stream(s, 1)
    settle(s)


@compiled
def _abort(s: Any) -> None:
    """Tell the destination that it is over."""
    wait_receive(s, READY_BUFFER, ABORT_PATIENCE_NS, record.READY_FOR + ERROR)
    post_control(s, ERROR, 0, 0)
    settle(s)


@entry
def migrate(s: Any, m: Memory) -> int:
    """All of it; returns how it ended."""
    connect(s)
    _setup(s, m)
    outcome = NOT_CONVERGING
    if _live(s, m):
        _stop_and_copy(s, m)
        _hand_over(s)
        outcome = COMPLETED
    else:
        _abort(s)
    hang_up(s, 0)
    _give_back(s, m, 0)
    s.source_end = now_of(s, 0)
    meter.close_row(s, m.rounds, s.rounds, s.source_end)
    meter.close_row(s, m.slices, s.slices, s.source_end)
    record.one_of(s, record.SOURCE_ENDED, s.source_end, 0, 0)
    rest(s)
    _give_back(s, m, 1)
    s.destination_end = s.over_at + int(s.debt[1])
    if s.traced:
        come_to_rest(s)
    return outcome
