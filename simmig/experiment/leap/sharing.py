"""Directions on which a message does not simply go in one piece, as `verbs.sim.link` has them.

Where the source's two queue pairs share its direction, whoever has it alone sends a whole message at a time. As
soon as the other one has something to send, too, what is on the wire is cut at the end of a packet, and they take
turns. A stream is left for that. And where a device has but a window of packets under way that are not
acknowledged, each is sent, and answered, by itself.
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
from simmig.verbs.sim.burst import bytes_begun

BEGINS, ENDS = 1, 2
_bytes_begun = compiled(bytes_begun)


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
def _set_end(s: Any, way: int) -> None:
    """What is on the wire is to end then; the event of an earlier end is of no account any more."""
    push(s, s.end[way], DEPART + way)
    s.part_end[way] = s.events


@compiled
def _start(s: Any, queue: int, first: int, count: int, begin: int) -> None:
    """Put that many packets on the wire: at its free end or, if that is before `begin`, then."""
    way = queue & 1
    s.busy[way] = 1
    s.sending[way] = queue
    s.part_count[way] = count
    packet = s.mtu + s.header
    if first + count == _packets(s, queue):
        s.part_wire[way] = s.w_wire[queue, s.head[queue] & RING_MASK] - first * packet
    else:
        s.part_wire[way] = count * packet
    if begin > s.end[way]:
        s.base[way] = begin
        s.rest[way] = 0
    s.began[way] = s.base[way]
    s.began_rest[way] = s.rest[way]
    occupy(s, way, s.part_wire[way], NONE)
    _set_end(s, way)


@compiled
def start_whole(s: Any) -> None:
    """All of the source's oldest write, behind what was on the wire."""
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
    if s.window and s.packets_sent[queue] - s.packets_acked[queue] >= s.window:
        s.blocked[queue] = 1
        return 0
    if first == 0 and s.w_kind[queue, i] == WRITE:
        record.memory_read(s)
    if first == 0 and not others and s.w_stream[queue, i] and s.established and follows(s, head):
        occupy(s, 0, s.w_wire[queue, i], s.now)
        s.streaming = 1
        push(s, s.end[0] + s.latency, STREAM_ARRIVE)
        s.stream_event = s.events
        return NONE
    return 1 if others or s.window else _packets(s, queue) - first


@compiled
def _send_next(s: Any, way: int) -> None:
    s.busy[way] = 0
    while s.flows[way]:
        queue = s.flow[way, 0]
        s.flow[way, 0] = s.flow[way, 1]
        s.flows[way] -= 1
        count = _next_burst(s, queue, s.flows[way])
        if count == NONE:
            return
        if count:
            _start(s, queue, s.gone[queue], count, s.now)
            return
        s.active[queue] = 0


@compiled
def _append(s: Any, queue: int) -> None:
    way = queue & 1
    s.flow[way, s.flows[way]] = queue
    s.flows[way] += 1


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
    s.packets_sent[queue] += count
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
def _shorten(s: Any, way: int) -> None:
    """Let what is on the wire end with the packet that is going."""
    packet = s.mtu + s.header
    gone_bytes = _bytes_begun(s.now - s.began[way], s.began_rest[way], s.num, s.den)
    count = max(-(-gone_bytes // packet), 1)
    if count >= s.part_count[way]:
        return
    s.part_count[way] = count
    s.part_wire[way] = count * packet
    s.base[way] = s.end[way] = s.began[way]
    s.rest[way] = s.began_rest[way]
    occupy(s, way, s.part_wire[way], NONE)
    _set_end(s, way)


@compiled
def activate(s: Any, queue: int) -> None:
    """A queue has something to send."""
    way = queue & 1
    s.active[queue] = 1
    if s.streaming and way == 0:
        _leave_stream(s)
    _append(s, queue)
    if not s.busy[way]:
        _send_next(s, way)
    elif s.part_count[way] > 1:
        _shorten(s, way)


@compiled
def depart(s: Any, way: int) -> None:
    """The last byte of what was on the wire has left."""
    if s.event != s.part_end[way]:
        return
    queue, count = s.sending[way], s.part_count[way]
    s.sent[way] += s.part_wire[way]
    _departed(s, queue, count)
    _fly(s, queue, count, s.now)
    _append(s, queue)
    _send_next(s, way)


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


@compiled
def answered(s: Any, queue: int) -> bool:
    """An acknowledgement has come; whether all of the oldest work request is acknowledged now."""
    if not s.window:
        return True
    s.packets_acked[queue] += 1
    s.answered[queue] += 1
    i = s.acked[queue] & RING_MASK
    if s.answered[queue] < max((s.w_bytes[queue, i] + s.mtu - 1) // s.mtu, 1):
        return False
    s.answered[queue] = 0
    return True
