"""The event queue, and what a side waits for.

Every event is queued in the order in which the event model queues it, so ties come out alike.
"""

from __future__ import annotations

from typing import Any

from simmig.experiment.leap.state import ALARM, HEAP_SIZE, NONE, WAKE, Declined, compiled


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
    s.event = s.heap_id[0]
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
def completed(s: Any, lane: int, queue: int) -> None:
    """A completion was added: raise the event if one was asked for."""
    if s.armed[lane, queue]:
        s.armed[lane, queue] = 0
        s.ready[lane, queue] = 1
        side = lane & 1
        if s.waiting[side] and s.lane[side] == lane and s.channel[side] == queue:
            wake(s, side, 1)
