"""The source's waits and its control messages, as `migration.control`."""

from __future__ import annotations

from typing import Any

from simmig.experiment.leap import lane, record
from simmig.experiment.leap.events import push
from simmig.experiment.leap.peer import QEMU_FILE, pump
from simmig.experiment.leap.state import (
    ARRIVED,
    DATA_BUFFER,
    NONE,
    READY_BUFFER,
    RECEIVES,
    ROOM,
    SENDS,
    SLOT_FREE,
    WAKE,
    Declined,
    compiled,
)
from simmig.migration.control import PATIENCE_NS
from simmig.migration.stream import BUFFER_BYTES


@compiled
def wait(s: Any, on: int, queue: int, goal: int, arg: int, until: int) -> None:
    """Wait on that lane until it is so."""
    lane.begin(s, on, queue, goal, arg, until)
    while not lane.step(s, 0):
        pump(s)
        if not s.value[0]:
            raise Declined
        if not s.lost[0]:
            lane.take_event(s, 0)


@compiled
def sleep(s: Any, duration: int) -> None:
    """Let that much time pass, after what is owed."""
    push(s, s.now + lane.take_debt(s, 0) + duration, WAKE)
    pump(s)


@compiled
def checkpoint(s: Any) -> None:
    """Let the world catch up."""
    debt = lane.take_debt(s, 0)
    if debt:
        push(s, s.now + debt, WAKE)
        pump(s)


@compiled
def wait_slot(s: Any, slot: int, why: int) -> None:
    """Wait until a buffer's SEND has completed."""
    if (s.slots_busy[0] >> slot) & 1:
        lane.begin_forced(s, why)
        wait(s, s.control_queue[0], SENDS, SLOT_FREE, slot, NONE)
        lane.end_forced(s)


@compiled
def wait_receive(s: Any, index: int, patience: int, why: int) -> None:
    """Wait for a message."""
    if s.got[0, index]:
        return
    lane.begin_forced(s, why)
    wait(s, s.control_queue[0], RECEIVES, ARRIVED, index, lane.now_of(s, 0) + patience)
    lane.end_forced(s)


@compiled
def post_control(s: Any, kind: int, data_bytes: int, arg: int) -> None:
    """SEND, and see it completed unless that is deferred."""
    slot = lane.take_slot(s, 0)
    wait_slot(s, slot, kind)
    s.debt[0] += s.message[0]
    queue = s.control_queue[0]
    if not lane.has_room(s, queue):
        wait(s, queue, SENDS, ROOM, 0, NONE)
    lane.post_message(s, 0, kind, data_bytes, arg, slot)
    s.control_bytes += lane.HEADER_BYTES + data_bytes
    if not s.deferred:
        wait_slot(s, slot, kind)


@compiled
def send_message(s: Any, kind: int, data_bytes: int, arg: int) -> None:
    """Send with credit."""
    wait_receive(s, READY_BUFFER, PATIENCE_NS, record.READY_FOR + kind)
    lane.post_receive(s, 0, READY_BUFFER)
    post_control(s, kind, data_bytes, arg)


@compiled
def send_request(s: Any, kind: int, data_bytes: int, arg: int, patience: int) -> None:
    """Send with credit something that is answered; `answered` waits for that."""
    wait_receive(s, READY_BUFFER, patience, record.READY_FOR + kind)
    lane.post_receive(s, 0, DATA_BUFFER)
    lane.post_receive(s, 0, READY_BUFFER)
    post_control(s, kind, data_bytes, arg)


@compiled
def answered(s: Any, kind: int, patience: int) -> None:
    """Wait for the answer."""
    wait_receive(s, DATA_BUFFER, patience, kind)
    s.got[0, DATA_BUFFER] = 0


@compiled
def settle(s: Any) -> None:
    """Wait until every control SEND has completed."""
    for slot in range(s.slots):
        wait_slot(s, slot, record.ACKNOWLEDGEMENT)


@compiled
def send_stream(s: Any, last: int) -> None:
    """Send what was put into the stream, with no run of pages held back; `last`: it is the stream's end."""
    while s.out:
        piece = min(s.out, BUFFER_BYTES)
        send_message(s, QEMU_FILE, piece, last)
        s.stream_bytes += piece
        s.out -= piece
