"""Polling and waiting on a connection's queues, as `migration.lane` does, for either side.

A wait is taken step by step: `begin` says for what, `step` goes on until it is over or the side has to pause.
"""

from __future__ import annotations

from typing import Any

from simmig.experiment.leap import meter, record
from simmig.experiment.leap.events import push, set_deadline
from simmig.experiment.leap.state import (
    ARRIVED,
    NONE,
    POLLED,
    READY_BUFFER,
    RECEIVE_MASK,
    RECEIVES,
    RING_MASK,
    ROOM,
    SEND,
    SLOT_FREE,
    WAKE,
    WRITE,
    Declined,
    compiled,
)
from simmig.experiment.leap.wire import post
from simmig.migration.config import SEND_QUEUE_DEPTH
from simmig.migration.control import SLOT_SHIFT
from simmig.migration.lane import KIND_RECV, KIND_SEND
from simmig.migration.wire import HEADER, Type

POLL_BATCH = 16
HEADER_BYTES = HEADER.size
BLOCK_ROW_BYTES, RESULT_ROW_BYTES, REGISTER_BYTES = 32, 16, 24
RAM_BLOCKS_RESULT, REGISTER_REQUEST, REGISTER_RESULT = (
    int(Type.RAM_BLOCKS_RESULT),
    int(Type.REGISTER_REQUEST),
    int(Type.REGISTER_RESULT),
)


@compiled
def now_of(s: Any, side: int) -> int:
    """A host's time."""
    return s.now + int(s.debt[side])


@compiled
def take_debt(s: Any, side: int) -> int:
    """The debt in whole nanoseconds, now to be paid; fractions stay."""
    debt = int(s.debt[side])
    s.debt[side] -= debt
    return debt


@compiled
def post_receive(s: Any, side: int, index: int) -> None:
    """Give a receive buffer to the device."""
    s.got[side, index] = 0
    s.debt[side] += s.post[side]
    tail = s.rx_tail[side] & RECEIVE_MASK
    s.rx_index[side, tail] = index
    s.rx_visible[side, tail] = now_of(s, side)
    s.rx_tail[side] += 1
    record.one_of(s, record.RECEIVE_POSTED + side, now_of(s, side), KIND_RECV + index, 0)


@compiled
def _commands(kind: int, data_bytes: int) -> int:
    """How many a message holds, as its header says."""
    if kind == REGISTER_REQUEST:
        return data_bytes // REGISTER_BYTES
    if kind == REGISTER_RESULT:
        return data_bytes // RESULT_ROW_BYTES
    if kind == RAM_BLOCKS_RESULT:
        return data_bytes // BLOCK_ROW_BYTES
    return 1


@compiled
def post_message(s: Any, side: int, kind: int, data_bytes: int, arg: int, slot: int) -> None:
    """Post the control message made in that buffer."""
    wr_id = KIND_SEND | slot << SLOT_SHIFT
    post(s, s.control_queue[side], SEND, HEADER_BYTES + data_bytes, kind, arg, slot, wr_id)
    s.slots_busy[side] |= 1 << slot
    if s.traced:
        now = now_of(s, side)
        record.one_of(s, record.SEND_POSTED + side, now, wr_id, HEADER_BYTES + data_bytes)
        commands = _commands(kind, data_bytes)
        record.wide(s, record.CONTROL_SENT + side, now, kind, data_bytes, commands, 0, 0)


@compiled
def take_slot(s: Any, side: int) -> int:
    """The next buffer to send from."""
    slot = s.next_slot[side]
    s.next_slot[side] = (slot + 1) % s.slots
    return slot


@compiled
def end_forced(s: Any) -> None:
    """Its wait is over, or nothing is pending any more."""
    if s.forced:
        s.forced = 0
        meter.drain_ended(s, meter.BY_WIRE, now_of(s, 0))


@compiled
def _write_completed(s: Any, length: int, wr_id: int) -> None:
    t = now_of(s, 0)
    s.pending -= length
    s.completed_bytes += length
    record.one_of(s, record.WRITE_COMPLETED, t, wr_id, length)
    s.arrived_amount.add(t, length)
    s.pending_gauge.set(t, s.pending)
    if s.forced and not s.pending:
        end_forced(s)


@compiled
def poll_sends(s: Any, lane: int) -> None:
    """Take all completions of sends and writes."""
    side = lane & 1
    while True:
        count = min(s.acked[lane] - s.polled[lane], POLL_BATCH)
        if count == 0:
            s.debt[side] += s.poll[side]
            return
        s.debt[side] += s.poll[side] + count * s.poll_cqe[side]
        first = s.polled[lane]
        s.polled[lane] = first + count
        for ordinal in range(first, first + count):
            i = ordinal & RING_MASK
            kind = s.w_kind[lane, i]
            if kind == WRITE:
                _write_completed(s, s.w_bytes[lane, i], s.w_id[lane, i])
            elif kind == SEND:
                s.slots_busy[side] &= ~(1 << s.w_slot[lane, i])
                record.one_of(s, record.SEND_COMPLETED + side, now_of(s, side), s.w_id[lane, i], 0)
        if count < POLL_BATCH:
            return


@compiled
def begin_forced(s: Any, why: int) -> None:
    """The control channel starts to wait: with writes pending that is a drain."""
    if s.hooked and s.pending and not s.forced:
        s.forced = 1
        meter.drain_began(s, meter.BY_WIRE, now_of(s, 0), why, 0)


@compiled
def poll_receives(s: Any, side: int) -> None:
    """Take all messages that have come."""
    while True:
        count = min(s.rc_tail[side] - s.rc_head[side], POLL_BATCH)
        if count == 0:
            s.debt[side] += s.poll[side]
            return
        s.debt[side] += s.poll[side] + count * s.poll_cqe[side]
        for _ in range(count):
            i = s.rc_head[side] & RECEIVE_MASK
            s.rc_head[side] += 1
            index, length, kind = s.rc_index[side, i], s.rc_bytes[side, i], s.rc_type[side, i]
            record.one_of(s, record.RECEIVE_COMPLETED + side, now_of(s, side), KIND_RECV + index, length)
            s.debt[side] += s.message[side]
            data_bytes = length - HEADER_BYTES
            commands = _commands(kind, data_bytes)
            record.wide(s, record.CONTROL_RECEIVED + side, now_of(s, side), kind, data_bytes, commands, 0, 0)
            s.got[side, index] = kind
            s.got_arg[side, index] = s.rc_arg[side, i]
        if count < POLL_BATCH:
            return


@compiled
def poll_ram(s: Any) -> None:
    """See what has completed on the source's lane that carries RAM."""
    if s.own_control:
        s.debt[0] += s.poll[0]
    else:
        poll_receives(s, 0)
    poll_sends(s, 0)


@compiled
def begin(s: Any, lane: int, queue: int, goal: int, arg: int, until: int) -> None:
    """Start to wait for completions on a lane's `queue`, until then at the latest (NONE: for ever)."""
    side = lane & 1
    s.lane[side] = lane
    s.queue[side] = queue
    s.goal[side] = goal
    s.goal_arg[side] = arg
    s.until[side] = until


@compiled
def has_room(s: Any, lane: int) -> bool:
    """Whether another work request may be posted."""
    return s.posted[lane] - s.polled[lane] < SEND_QUEUE_DEPTH


@compiled
def _done(s: Any, side: int) -> bool:
    goal, arg = s.goal[side], s.goal_arg[side]
    if goal == SLOT_FREE:
        return (s.slots_busy[side] >> arg) & 1 == 0
    if goal == ARRIVED:
        return s.got[side, arg] != 0
    if goal == POLLED:
        return s.polled[s.lane[side]] >= arg
    if goal == ROOM:
        return has_room(s, s.lane[side])
    return s.pending <= arg  # PENDING; no assert, for pytest rewrites it to what numba does not know


@compiled
def take_event(s: Any, side: int) -> None:
    """Take the event off the channel and ask for the next."""
    lane, queue = s.lane[side], s.queue[side]
    s.ready[lane, queue] = 0
    s.armed[lane, queue] = 1


@compiled
def step(s: Any, side: int) -> bool:
    """Go on with a wait; False when the side has to pause first."""
    lane, queue = s.lane[side], s.queue[side]
    while True:
        poll_sends(s, lane)
        if queue == RECEIVES:
            poll_receives(s, side)
        if _done(s, side):
            return True
        if s.lost[side]:
            raise Declined
        if not s.armed_once[lane, queue]:
            s.armed_once[lane, queue] = s.armed[lane, queue] = 1
            continue
        debt = take_debt(s, side)
        if not s.ready[lane, queue]:
            s.waiting[side] = 1
            s.channel[side] = queue
            s.paid[side] = s.now + debt
            s.deadline[side] = NONE
            if s.until[side] >= 0:
                set_deadline(s, side, s.until[side])
            return False
        if debt:
            s.value[side] = 1
            push(s, s.now + debt, WAKE + side)
            return False
        take_event(s, side)


@compiled
def message_is_here(s: Any, side: int) -> bool:
    """Whether the next message has been polled already."""
    return s.got[side, READY_BUFFER] != 0
