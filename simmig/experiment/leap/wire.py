"""The queue pairs, and the link between them: `verbs.sim` for a link that loses nothing."""

from __future__ import annotations

from typing import Any

from simmig.experiment.leap import record, sharing
from simmig.experiment.leap.events import alarm, completed, push, wake
from simmig.experiment.leap.sharing import BEGINS, ENDS, follows, occupy
from simmig.experiment.leap.state import (
    ALARM,
    ANSWER,
    ARRIVE,
    DEPART,
    LOST,
    LOST_RAM,
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
def transmit(s: Any, way: int, payload_bytes: int) -> int:
    """Send a datagram on an idle wire; returns when it arrives."""
    if s.busy[way] or s.streaming:
        raise Declined
    occupy(s, way, payload_bytes + s.header, s.now)
    s.sent[way] += payload_bytes + s.header
    return s.end[way] + s.latency


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
        s.stream_event = s.events
        return
    s.busy[way] = 1
    push(s, s.end[way], DEPART + way)


@compiled
def _activate(s: Any, queue: int) -> None:
    """A queue has something to send."""
    if s.active[queue]:
        return
    if s.parted[queue & 1]:
        sharing.activate(s, queue)
        return
    s.active[queue] = 1
    send_next(s, queue)


@compiled
def post(s: Any, queue: int, kind: int, length: int, message: int, arg: int, slot: int, wr_id: int) -> None:
    """Post a work request, charging the host for it."""
    side = queue & 1
    s.debt[side] += s.post[side]
    visible = s.now + int(s.debt[side])
    if s.post_byte[side] > 0.0 and s.posted[queue] == s.acked[queue]:
        s.debt[side] += length * s.post_byte[side]
    i = s.posted[queue] & RING_MASK
    packets = max((length + s.mtu - 1) // s.mtu, 1)
    s.w_kind[queue, i] = kind
    s.w_bytes[queue, i] = length
    s.w_wire[queue, i] = length + packets * s.header
    s.w_visible[queue, i] = visible
    s.w_stream[queue, i] = 1 if kind == WRITE and length >= s.stream_min else 0
    s.w_type[queue, i] = message
    s.w_arg[queue, i] = arg
    s.w_slot[queue, i] = slot
    s.w_id[queue, i] = wr_id
    s.posted[queue] += 1
    _activate(s, queue)


@compiled
def ring(s: Any, queue: int) -> None:
    """A work request has become visible."""
    if s.head[queue] < s.posted[queue]:
        _activate(s, queue)


@compiled
def depart(s: Any, way: int) -> None:
    """The last byte of a work request has left."""
    s.sent[way] += s.w_wire[way, s.head[way] & RING_MASK]
    s.head[way] += 1
    push(s, s.now + s.latency, ARRIVE + way)
    send_next(s, way)


@compiled
def _take_receive(s: Any, side: int) -> None:
    """A message begins to come: into the oldest receive."""
    head = s.rx_head[side] & RECEIVE_MASK
    if s.rx_head[side] == s.rx_tail[side] or s.rx_visible[side, head] > s.now:
        raise Declined  # no receive posted
    s.taken[side] = s.rx_index[side, head]
    s.rx_head[side] += 1


@compiled
def arrive(s: Any, queue: int) -> None:
    """It has reached the other end, or a part of it; all of it is answered."""
    part = sharing.land(s, queue) if s.parted[queue & 1] else BEGINS + ENDS
    i = s.landed[queue] & RING_MASK
    is_send, peer = s.w_kind[queue, i] == SEND, 1 - (queue & 1)
    if queue == 0:
        s.established = 1
    if is_send and part & BEGINS:
        _take_receive(s, peer)
    if not part & ENDS:
        if s.window:
            push(s, s.now + s.latency, ANSWER + queue)
        return
    s.landed[queue] += 1
    if is_send:
        tail = s.rc_tail[peer] & RECEIVE_MASK
        s.rc_index[peer, tail] = s.taken[peer]
        s.rc_type[peer, tail] = s.w_type[queue, i]
        s.rc_arg[peer, tail] = s.w_arg[queue, i]
        s.rc_bytes[peer, tail] = s.w_bytes[queue, i]
        s.rc_tail[peer] += 1
        completed(s, s.control_queue[peer], RECEIVES)
    push(s, s.now + s.latency, ANSWER + queue)


@compiled
def answer(s: Any, queue: int) -> None:
    """The acknowledgement of the oldest one has come, or of a packet of it."""
    if sharing.answered(s, queue):
        s.acked[queue] += 1
        completed(s, queue, SENDS)
    if s.blocked[queue]:
        s.blocked[queue] = 0
        ring(s, queue)


@compiled
def stream_arrive(s: Any) -> None:
    """As `verbs.sim.stream`: a write has arrived, the next one is on the wire."""
    if s.event != s.stream_event:
        return  # it was left meanwhile
    s.sent[0] += s.w_wire[0, s.head[0] & RING_MASK]
    s.head[0] += 1
    s.landed[0] += 1
    push(s, s.now + s.latency, STREAM_ANSWER)
    head = s.head[0]
    record.memory_read(s)
    if follows(s, head):
        occupy(s, 0, s.w_wire[0, head & RING_MASK], NONE)
        push(s, s.end[0] + s.latency, STREAM_ARRIVE)
        s.stream_event = s.events
        return
    s.streaming = 0
    s.late = head - 1
    if s.own_control:
        sharing.start_whole(s)
        return
    occupy(s, 0, s.w_wire[0, head & RING_MASK], NONE)
    s.busy[0] = 1
    push(s, s.end[0], DEPART)


@compiled
def stream_answer(s: Any) -> None:
    """Its acknowledgement has come; the source may go on at once."""
    acked = s.acked[0]
    idle = acked == s.polled[0]
    s.acked[0] = acked + 1
    if acked != s.late and idle and s.armed[0, SENDS]:
        s.armed[0, SENDS] = 0
        s.ready[0, SENDS] = 1
        if s.waiting[0] and s.lane[0] == 0 and s.channel[0] == SENDS:
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
        if s.parted[kind - DEPART]:
            sharing.depart(s, kind - DEPART)
        else:
            depart(s, kind - DEPART)
    elif kind < ANSWER:
        arrive(s, kind - ARRIVE)
    elif kind < RING:
        answer(s, kind - ANSWER)
    elif kind < WAKE:
        ring(s, kind - RING)
    elif kind < LOST:
        alarm(s, kind - ALARM)
    elif kind < LOST_RAM:
        lost(s, kind - LOST)
    else:
        s.lost_ram[kind - LOST_RAM] = 1
