"""The event queue, and the two queue pairs with the link between them: `verbs.sim` for a link that loses nothing.

Every event is queued in the order in which the event model queues it, so ties come out alike.
"""

from __future__ import annotations

from typing import Any

from simmig.experiment.leap import record
from simmig.experiment.leap.state import (
    ALARM,
    ANSWER,
    ARRIVE,
    DEPART,
    HEAP_SIZE,
    LOST,
    NONE,
    RECEIVE_MASK,
    RECEIVES,
    RING,
    RING_MASK,
    SEND,
    SENDS,
    STREAM_ANSWER,
    STREAM_ARRIVE,
    WAKE,
    WRITE,
    Declined,
    compiled,
)


@compiled
def push(s: Any, at: int, kind: int) -> None:
    """Have something happen then."""
    n = s.queued_events
    if n == HEAP_SIZE:
        raise Declined
    s.events += 1
    event = s.events
    while n > 0:
        parent = (n - 1) >> 1
        if s.heap_at[parent] <= at:  # of equals the earlier queued one comes first
            break
        s.heap_at[n] = s.heap_at[parent]
        s.heap_id[n] = s.heap_id[parent]
        s.heap_kind[n] = s.heap_kind[parent]
        n = parent
    s.heap_at[n] = at
    s.heap_id[n] = event
    s.heap_kind[n] = kind
    s.queued_events += 1


@compiled
def pop(s: Any) -> int:
    """Go on to the next event; returns what it is."""
    n = s.queued_events - 1
    if n < 0:
        raise Declined
    s.queued_events = n
    kind = s.heap_kind[0]
    s.now = s.heap_at[0]
    at = s.heap_at[n]
    event = s.heap_id[n]
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= n:
            break
        right = child + 1
        if right < n and (
            s.heap_at[right] < s.heap_at[child]
            or (s.heap_at[right] == s.heap_at[child] and s.heap_id[right] < s.heap_id[child])
        ):
            child = right
        if at < s.heap_at[child] or (at == s.heap_at[child] and event < s.heap_id[child]):
            break
        s.heap_at[hole] = s.heap_at[child]
        s.heap_id[hole] = s.heap_id[child]
        s.heap_kind[hole] = s.heap_kind[child]
        hole = child
    s.heap_at[hole] = at
    s.heap_id[hole] = event
    s.heap_kind[hole] = s.heap_kind[n]
    return kind


@compiled
def wake(s: Any, side: int, value: int) -> None:
    """End a side's wait: when its work is paid for, or a wake-up's time from now."""
    s.waiting[side] = 0
    s.value[side] = value
    at = s.paid[side] if s.now < s.paid[side] else s.now + s.wake_ns[side]
    push(s, at, WAKE + side)


@compiled
def set_deadline(s: Any, side: int, deadline: int) -> None:
    """Give up waiting then."""
    deadline = max(deadline, s.paid[side])
    s.deadline[side] = deadline
    if s.alarm[side] < 0 or s.alarm[side] > deadline:
        s.alarm[side] = deadline
        push(s, deadline, ALARM + side)


@compiled
def alarm(s: Any, side: int) -> None:
    """An alarm goes off, unless an earlier one has taken its place."""
    if s.alarm[side] != s.now:
        return
    s.alarm[side] = NONE
    if not s.waiting[side] or s.deadline[side] < 0:
        return
    if s.deadline[side] > s.now:
        s.alarm[side] = s.deadline[side]
        push(s, s.deadline[side], ALARM + side)
    else:
        wake(s, side, 0)


@compiled
def completed(s: Any, side: int, queue: int) -> None:
    """A completion was added: raise the event if one was asked for."""
    if s.armed[side, queue]:
        s.armed[side, queue] = 0
        s.ready[side, queue] = 1
        if s.waiting[side] and s.channel[side] == queue:
            wake(s, side, 1)


@compiled
def occupy(s: Any, way: int, wire_bytes: int, begin: int) -> None:
    """Have that many bytes on the wire, at its free end or, if that is before `begin`, from then on."""
    if begin > s.end[way]:
        s.base[way] = begin
        s.rest[way] = 0
    time = s.rest[way] + wire_bytes * s.num
    whole = time // s.den
    rest = time - whole * s.den
    s.base[way] += whole
    s.rest[way] = rest
    s.end[way] = s.base[way] + (1 if rest > 0 else 0)


@compiled
def transmit(s: Any, way: int, payload_bytes: int) -> int:
    """Send a datagram on an idle wire; returns when it arrives."""
    if s.busy[way] or s.streaming:
        raise Declined
    occupy(s, way, payload_bytes + s.header, s.now)
    s.sent[way] += payload_bytes + s.header
    return s.end[way] + s.latency


@compiled
def follows(s: Any, head: int) -> bool:
    """Whether behind that write another one is ready that can be part of a stream."""
    i = (head + 1) & RING_MASK
    return head + 1 < s.posted[0] and s.w_stream[0, i] == 1 and s.w_visible[0, i] <= s.now


@compiled
def send_next(s: Any, way: int) -> None:
    """Put the oldest work request on the wire, if the device can see it yet."""
    s.busy[way] = 0
    head = s.head[way]
    if head == s.posted[way]:
        s.active[way] = 0
        return
    i = head & RING_MASK
    visible = s.w_visible[way, i]
    if visible > s.now:
        if s.doorbell[way] != visible:
            s.doorbell[way] = visible
            push(s, visible, RING + way)
        s.active[way] = 0
        return
    occupy(s, way, s.w_wire[way, i], s.now)
    if s.w_kind[way, i] == WRITE:
        record.memory_read(s)
    if s.w_stream[way, i] and follows(s, head):
        s.streaming = 1
        push(s, s.end[way] + s.latency, STREAM_ARRIVE)
        return
    s.busy[way] = 1
    push(s, s.end[way], DEPART + way)


@compiled
def post(s: Any, side: int, kind: int, length: int, message: int, arg: int, slot: int, wr_id: int) -> None:
    """Post a work request, charging the host for it."""
    s.debt[side] += s.post[side]
    visible = s.now + int(s.debt[side])
    if s.post_byte[side] > 0.0 and s.posted[side] == s.acked[side]:
        s.debt[side] += length * s.post_byte[side]
    i = s.posted[side] & RING_MASK
    packets = max((length + s.mtu - 1) // s.mtu, 1)
    s.w_kind[side, i] = kind
    s.w_bytes[side, i] = length
    s.w_wire[side, i] = length + packets * s.header
    s.w_visible[side, i] = visible
    s.w_stream[side, i] = 1 if kind == WRITE and length >= s.stream_min else 0
    s.w_type[side, i] = message
    s.w_arg[side, i] = arg
    s.w_slot[side, i] = slot
    s.w_id[side, i] = wr_id
    s.posted[side] += 1
    if not s.active[side]:
        s.active[side] = 1
        send_next(s, side)


@compiled
def ring(s: Any, way: int) -> None:
    """A work request has become visible."""
    if s.head[way] < s.posted[way] and not s.active[way]:
        s.active[way] = 1
        send_next(s, way)


@compiled
def depart(s: Any, way: int) -> None:
    """The last byte of a work request has left."""
    s.sent[way] += s.w_wire[way, s.head[way] & RING_MASK]
    s.head[way] += 1
    push(s, s.now + s.latency, ARRIVE + way)
    send_next(s, way)


@compiled
def arrive(s: Any, way: int) -> None:
    """It has reached the other end, which answers."""
    i = s.landed[way] & RING_MASK
    s.landed[way] += 1
    if s.w_kind[way, i] == SEND:
        peer = 1 - way
        head = s.rx_head[peer] & RECEIVE_MASK
        if s.rx_head[peer] == s.rx_tail[peer] or s.rx_visible[peer, head] > s.now:
            raise Declined  # no receive posted
        s.rx_head[peer] += 1
        tail = s.rc_tail[peer] & RECEIVE_MASK
        s.rc_index[peer, tail] = s.rx_index[peer, head]
        s.rc_type[peer, tail] = s.w_type[way, i]
        s.rc_arg[peer, tail] = s.w_arg[way, i]
        s.rc_bytes[peer, tail] = s.w_bytes[way, i]
        s.rc_tail[peer] += 1
        completed(s, peer, RECEIVES)
    push(s, s.now + s.latency, ANSWER + way)


@compiled
def answer(s: Any, side: int) -> None:
    """The acknowledgement of the oldest one has come."""
    s.acked[side] += 1
    completed(s, side, SENDS)


@compiled
def stream_arrive(s: Any) -> None:
    """As `verbs.sim.stream`: a write has arrived, the next one is on the wire."""
    s.sent[0] += s.w_wire[0, s.head[0] & RING_MASK]
    s.head[0] += 1
    s.landed[0] += 1
    push(s, s.now + s.latency, STREAM_ANSWER)
    head = s.head[0]
    wire_bytes = s.w_wire[0, head & RING_MASK]
    occupy(s, 0, wire_bytes, NONE)
    record.memory_read(s)
    if follows(s, head):
        push(s, s.end[0] + s.latency, STREAM_ARRIVE)
        return
    s.streaming = 0
    s.late = head - 1
    s.busy[0] = 1
    push(s, s.end[0], DEPART)


@compiled
def stream_answer(s: Any) -> None:
    """Its acknowledgement has come; the source may go on at once."""
    acked = s.acked[0]
    idle = acked == s.polled[0]
    s.acked[0] = acked + 1
    if acked != s.late and idle and s.armed[0, SENDS] and s.heard:
        s.armed[0, SENDS] = 0
        s.ready[0, SENDS] = 1
        if s.waiting[0] and s.channel[0] == SENDS:
            if s.wake_ns[0] or s.now < s.paid[0]:
                wake(s, 0, 1)
            else:
                s.waiting[0] = 0
                s.value[0] = 1
                s.resumed = 1
    else:
        completed(s, 0, SENDS)


@compiled
def lost(s: Any, side: int) -> None:
    """The peer has disconnected."""
    s.lost[side] = 1
    if s.waiting[side]:
        wake(s, side, 1)


@compiled
def happen(s: Any, kind: int) -> None:
    """Have an event of the wire or of a waiter's clock happen."""
    if kind == STREAM_ARRIVE:
        stream_arrive(s)
    elif kind == STREAM_ANSWER:
        stream_answer(s)
    elif kind < ARRIVE:
        depart(s, kind - DEPART)
    elif kind < ANSWER:
        arrive(s, kind - ARRIVE)
    elif kind < RING:
        answer(s, kind - ANSWER)
    elif kind < WAKE:
        ring(s, kind - RING)
    elif kind < LOST:
        alarm(s, kind - ALARM)
    else:
        lost(s, kind - LOST)
