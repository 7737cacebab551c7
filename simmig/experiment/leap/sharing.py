"""The source's direction where its two queue pairs share it: packets in turn, as `verbs.sim.link` has them.

Whoever has it alone sends a whole message at a time. As soon as the other one has something to send, too, what is
on the wire is cut at the end of a packet, and they take turns. A stream is left for that.
"""

from __future__ import annotations

from typing import Any

from simmig.experiment.leap import record
from simmig.experiment.leap.events import push
from simmig.experiment.leap.state import (
    ARRIVE,
    DEPART,
    NONE,
    PARTS_MASK,
    RING,
    RING_MASK,
    STREAM_ARRIVE,
    WRITE,
    Declined,
    compiled,
)

BEGINS, ENDS = 1, 2


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
def follows(s: Any, head: int) -> bool:
    """Whether behind that write another one is ready that can be part of a stream."""
    i = (head + 1) & RING_MASK
    return head + 1 < s.posted[0] and s.w_stream[0, i] == 1 and s.w_visible[0, i] <= s.now


@compiled
def _packets(s: Any, queue: int) -> int:
    """How many the queue's oldest work request takes."""
    return max((s.w_bytes[queue, s.head[queue] & RING_MASK] + s.mtu - 1) // s.mtu, 1)


@compiled
def _set_end(s: Any) -> None:
    """What is on the wire is to end then; the event of an earlier end is of no account any more."""
    push(s, s.end[0], DEPART)
    s.part_end = s.events


@compiled
def _start(s: Any, queue: int, first: int, count: int, begin: int) -> None:
    """Put that many packets on the wire: at its free end or, if that is before `begin`, then."""
    s.busy[0] = 1
    s.sending = queue
    s.part_first = first
    s.part_count = count
    packet = s.mtu + s.header
    if first + count == _packets(s, queue):
        s.part_wire = s.w_wire[queue, s.head[queue] & RING_MASK] - first * packet
    else:
        s.part_wire = count * packet
    if begin > s.end[0]:
        s.base[0] = begin
        s.rest[0] = 0
    s.began = s.base[0]
    s.began_rest = s.rest[0]
    occupy(s, 0, s.part_wire, NONE)
    _set_end(s)


@compiled
def start_whole(s: Any) -> None:
    """All of the oldest write, behind what was on the wire."""
    _start(s, 0, 0, _packets(s, 0), NONE)


@compiled
def _next_burst(s: Any, queue: int, others: int) -> int:
    """How many packets of its oldest work request a queue may send now; NONE: it has taken over the wire."""
    head = s.head[queue]
    if head == s.posted[queue]:
        return 0
    i = head & RING_MASK
    visible = s.w_visible[queue, i]
    if visible > s.now:
        if s.doorbell[queue] != visible:
            s.doorbell[queue] = visible
            push(s, visible, RING + queue)
        return 0
    first = s.gone[queue]
    if first == 0 and s.w_kind[queue, i] == WRITE:
        record.memory_read(s)
    if first == 0 and not others and s.w_stream[queue, i] and s.established and follows(s, head):
        occupy(s, 0, s.w_wire[queue, i], s.now)
        s.streaming = 1
        push(s, s.end[0] + s.latency, STREAM_ARRIVE)
        s.stream_event = s.events
        return NONE
    return 1 if others else _packets(s, queue) - first


@compiled
def _send_next(s: Any) -> None:
    s.busy[0] = 0
    while s.flows:
        queue = s.flow[0]
        s.flow[0] = s.flow[1]
        s.flows -= 1
        count = _next_burst(s, queue, s.flows)
        if count == NONE:
            return
        if count:
            _start(s, queue, s.gone[queue], count, s.now)
            return
        s.active[queue] = 0


@compiled
def _append(s: Any, queue: int) -> None:
    s.flow[s.flows] = queue
    s.flows += 1


@compiled
def _fly(s: Any, queue: int, count: int, departure: int) -> None:
    """That many packets have left, or will have then."""
    tail = s.flying_tail[queue]
    if tail - s.flying_head[queue] > PARTS_MASK:
        raise Declined
    s.flying[queue, tail & PARTS_MASK] = count
    s.flying_tail[queue] = tail + 1
    push(s, departure + s.latency, ARRIVE + queue)


@compiled
def _departed(s: Any, queue: int, count: int) -> None:
    s.gone[queue] += count
    if s.gone[queue] == _packets(s, queue):
        s.head[queue] += 1
        s.gone[queue] = 0


@compiled
def _leave_stream(s: Any) -> None:
    """Go on burst by burst, from where the stream is now."""
    s.streaming = 0
    s.stream_event = NONE
    wire_bytes = s.w_wire[0, s.head[0] & RING_MASK]
    s.late = s.head[0] - 1
    if s.end[0] > s.now:
        time = s.rest[0] - wire_bytes * s.num
        whole = time // s.den
        s.base[0] += whole
        s.rest[0] = time - whole * s.den
        s.end[0] = s.base[0] + (1 if s.rest[0] > 0 else 0)
    else:
        s.sent[0] += wire_bytes
        count = _packets(s, 0)
        _departed(s, 0, count)
        _fly(s, 0, count, s.end[0])
        record.memory_read(s)
    start_whole(s)


@compiled
def _shorten(s: Any) -> None:
    """Let what is on the wire end with the packet that is going."""
    packet = s.mtu + s.header
    gone_bytes = ((s.now - s.began) * s.den - s.began_rest) // s.num
    count = max(-(-gone_bytes // packet), 1)
    if count >= s.part_count:
        return
    s.part_count = count
    s.part_wire = count * packet
    s.base[0] = s.began
    s.rest[0] = s.began_rest
    s.end[0] = s.began
    occupy(s, 0, s.part_wire, NONE)
    _set_end(s)


@compiled
def activate(s: Any, queue: int) -> None:
    """A queue has something to send."""
    s.active[queue] = 1
    if s.streaming:
        _leave_stream(s)
    _append(s, queue)
    if not s.busy[0]:
        _send_next(s)
    elif s.part_count > 1:
        _shorten(s)


@compiled
def depart(s: Any) -> None:
    """The last byte of what was on the wire has left."""
    if s.event != s.part_end:
        return
    queue, count = s.sending, s.part_count
    s.sent[0] += s.part_wire
    _departed(s, queue, count)
    _fly(s, queue, count, s.now)
    _append(s, queue)
    _send_next(s)


@compiled
def land(s: Any, queue: int) -> int:
    """Packets have arrived; returns whether they begin a message, and end it."""
    at = s.flying_head[queue]
    s.flying_head[queue] = at + 1
    i = s.landed[queue] & RING_MASK
    packets = max((s.w_bytes[queue, i] + s.mtu - 1) // s.mtu, 1)
    begins = BEGINS if s.arrived[queue] == 0 else 0
    s.arrived[queue] += s.flying[queue, at & PARTS_MASK]
    if s.arrived[queue] < packets:
        return begins
    s.arrived[queue] = 0
    return begins + ENDS
