"""The destination, as far as the source can tell: it grants, registers, answers, and resumes the guest."""

from __future__ import annotations

from typing import Any

from simmig.experiment.leap import lane, meter, record
from simmig.experiment.leap.events import pop, push, set_deadline
from simmig.experiment.leap.events import wake as wake_up
from simmig.experiment.leap.keys import key_at
from simmig.experiment.leap.lane import (
    BLOCK_ROW_BYTES,
    RAM_BLOCKS_RESULT,
    REGISTER_REQUEST,
    REGISTER_RESULT,
    RESULT_ROW_BYTES,
)
from simmig.experiment.leap.state import (
    ARRIVED,
    CONFIRM,
    ELSEWHERE,
    LOST,
    LOST_RAM,
    PROBE,
    READY_BUFFER,
    RECEIVES,
    SENDS,
    SLOT_FREE,
    STREAM_ANSWER,
    WAKE,
    Declined,
    compiled,
)
from simmig.experiment.leap.wire import happen, post, transmit
from simmig.migration.control import PROBE_NS
from simmig.migration.rdma_stream import LINGER_NS
from simmig.migration.registration import WHOLE_BLOCK
from simmig.migration.wire import Type
from simmig.verbs.sim.cm import DATAGRAM_BYTES

CONNECTING, POST, AWAIT_SLOT, SENDING, AWAIT_SENT, LISTEN, HEAR, TAKE, RESUMING, SETTLE, SETTLING, LINGER = range(
    12
)
LINGERING, OVER = 12, 13

QEMU_FILE, READY, ERROR = int(Type.QEMU_FILE), int(Type.READY), int(Type.ERROR)
REGISTER_FINISHED, COMPRESS = int(Type.REGISTER_FINISHED), int(Type.COMPRESS)
RAM_BLOCKS_REQUEST = int(Type.RAM_BLOCKS_REQUEST)
_WHOLE_BLOCK = WHOLE_BLOCK
_PAGE_BYTES = 4096

_key_at = compiled(key_at)


@compiled
def key_of(s: Any, ordinal: int) -> int:
    """The key of that piece of RAM, in the order of registering: the same on both sides."""
    return _key_at(s.slots, ordinal)


@compiled
def _answer(s: Any, kind: int, data_bytes: int) -> None:
    s.p_type = kind
    s.p_bytes = data_bytes
    s.p_state = POST


@compiled
def _await_slot(s: Any, waiting: int, free: int) -> None:
    if (s.slots_busy[1] >> s.p_slot) & 1:
        lane.begin(s, 1, SENDS, SLOT_FREE, s.p_slot, -1)
        s.p_state = waiting
    else:
        s.p_state = free


@compiled
def _waited(s: Any) -> None:
    state = s.p_state
    if state == AWAIT_SLOT:
        s.p_state = SENDING
    elif state == AWAIT_SENT:
        _answer(s, READY, 0)
    elif state == HEAR:
        s.p_state = TAKE
    else:
        s.p_slot += 1
        s.p_state = SETTLE


@compiled
def _resumed(s: Any) -> None:
    t = lane.now_of(s, 1)
    record.one_of(s, record.RESUMED, t, 0, 0)
    meter.account(s, t)
    s.resumed_at = t
    s.p_slot = 0
    s.p_state = SETTLE


@compiled
def _loaded(s: Any) -> None:
    """The end of the stream is here: resume the guest."""
    t = lane.now_of(s, 1)
    record.one_of(s, record.STATE_LOADED, t, s.device_bytes, 0)
    if s.traced and s.landed[0] < s.posted[0]:
        raise Declined  # what is still under way could be missing
    record.one_of(s, record.COMPARED, s.now, 0, 0)
    meter.account(s, t)
    s.phase = meter.SWITCH
    if s.resume_ns >= 0:
        push(s, s.now + lane.take_debt(s, 1) + s.resume_ns, WAKE + 1)
        s.p_state = RESUMING
    else:
        _resumed(s)


@compiled
def hang_up(s: Any, side: int) -> None:
    """Disconnect; who has been disconnected says nothing."""
    if s.own_control and s.acked[0] < s.posted[0]:
        raise Declined  # writes on the other queue pair are lost on the way, or never sent
    if not s.lost[side]:
        push(s, transmit(s, side, DATAGRAM_BYTES), LOST + 1 - side)
    if s.own_control and not s.lost_ram[side]:
        push(s, transmit(s, side, DATAGRAM_BYTES), LOST_RAM + 1 - side)
    s.lost[side] = s.lost_ram[side] = 1


@compiled
def _over(s: Any) -> None:
    hang_up(s, 1)
    s.p_state = OVER
    s.over_at = s.now
    s.over_debt = s.debt[1]
    record.one_of(s, record.DESTINATION_OVER, s.now, 0, 0)


@compiled
def _registered(s: Any, ordinal: int, block: int, chunk: int, pages: int) -> None:
    key, t = key_of(s, ordinal), lane.now_of(s, 1)
    record.wide(s, record.REGISTERED + 1, t, block, chunk, pages * _PAGE_BYTES, key, 0)


@compiled
def _serve(s: Any, kind: int, arg: int) -> None:
    """Deal with a message; `arg` is what it holds."""
    _answer(s, READY, 0)
    if kind == QEMU_FILE and arg:
        _loaded(s)
    elif kind == COMPRESS:
        s.debt[1] += s.zero_test[1] * arg
    elif kind == RAM_BLOCKS_REQUEST:
        if s.pin_all:
            for block in range(s.blocks):
                s.debt[1] += s.register[1] + s.batch[block] * s.register_page[1]
                _registered(s, block, block, _WHOLE_BLOCK, s.batch[block])
        _answer(s, RAM_BLOCKS_RESULT, BLOCK_ROW_BYTES * s.blocks)
    elif kind == REGISTER_REQUEST:
        for i in range(arg):
            s.debt[1] += s.register[1] + s.batch[i] * s.register_page[1]
            _registered(s, s.p_registered + i, s.batch_block[i], s.batch_chunk[i], s.batch[i])
        s.p_registered += arg
        _answer(s, REGISTER_RESULT, RESULT_ROW_BYTES * arg)
    elif kind == ERROR:
        _over(s)


@compiled
def _linger(s: Any) -> None:
    """Wait until the source lets go of the connection."""
    until = lane.now_of(s, 1) + LINGER_NS
    debt = lane.take_debt(s, 1)
    s.p_state = LINGERING
    if s.lost[1]:
        if debt:
            push(s, s.now + debt, WAKE + 1)
        else:
            _over(s)
        return
    s.waiting[1] = 1
    s.channel[1] = ELSEWHERE
    s.paid[1] = s.now + debt
    set_deadline(s, 1, until)


@compiled
def go_on(s: Any) -> None:
    """Do what is to be done until there is something to wait for."""
    while True:
        state = s.p_state
        if state in (AWAIT_SLOT, AWAIT_SENT, HEAR, SETTLING):
            if not lane.step(s, 1):
                return
            _waited(s)
        elif state == POST:
            s.p_slot = lane.take_slot(s, 1)
            _await_slot(s, AWAIT_SLOT, SENDING)
        elif state == SENDING:
            s.debt[1] += s.message[1]
            lane.post_message(s, 1, s.p_type, s.p_bytes, 0, s.p_slot)
            if s.p_type == READY:
                s.p_state = LISTEN
            elif s.deferred:
                _answer(s, READY, 0)
            else:
                _await_slot(s, AWAIT_SENT, POST)
        elif state == LISTEN:
            if lane.message_is_here(s, 1):
                s.p_state = TAKE
            else:
                lane.begin(s, 1, RECEIVES, ARRIVED, READY_BUFFER, lane.now_of(s, 1) + PROBE_NS)
                s.p_state = HEAR
        elif state == TAKE:
            kind, arg = s.got[1, READY_BUFFER], s.got_arg[1, READY_BUFFER]
            lane.post_receive(s, 1, READY_BUFFER)
            _serve(s, kind, arg)
        elif state == SETTLE:
            if s.p_slot == s.slots:
                s.p_state = LINGER
            else:
                _await_slot(s, SETTLING, SETTLE)
                if s.p_state == SETTLE:
                    s.p_slot += 1
        elif state == LINGER:
            _linger(s)
        else:
            return


@compiled
def woken(s: Any) -> None:
    """Its wait is over."""
    state = s.p_state
    if state in (AWAIT_SLOT, AWAIT_SENT, HEAR, SETTLING):
        if s.value[1]:
            lane.take_event(s, 1)
        elif state == HEAR:  # an empty write to nowhere: is the peer's device alive?
            post(s, 1, PROBE, 0, 0, 0, 0, 0)
            s.p_state = LISTEN
        else:
            raise Declined
    elif state == CONNECTING:
        _answer(s, READY, 0)
    elif state == RESUMING:
        _resumed(s)
    elif state == LINGERING:
        _over(s)
    else:
        raise Declined
    go_on(s)


@compiled
def pump(s: Any) -> None:
    """Let events happen until the source goes on."""
    while True:
        kind = pop(s)
        if kind == WAKE:
            return
        if kind == WAKE + 1:
            woken(s)
        elif kind == CONFIRM:
            wake_up(s, 1, 1)
        else:
            happen(s, kind)
            if kind == STREAM_ANSWER and s.resumed:
                s.resumed = 0
                return


@compiled
def rest(s: Any) -> None:
    """The source is done: let events happen until the destination is, too."""
    while s.p_state != OVER:
        kind = pop(s)
        if kind == WAKE + 1:
            woken(s)
        elif kind != WAKE:
            happen(s, kind)


@compiled
def come_to_rest(s: Any) -> None:
    """Both are done: let what is left happen, such as alarms that nobody hears."""
    while s.queued_events:
        kind = pop(s)
        if kind not in (WAKE, WAKE + 1):
            happen(s, kind)


@compiled
def deregister(s: Any, side: int, pages: int) -> None:
    """Charge for giving a region up."""
    s.debt[side] += s.deregister[side] + pages * s.deregister_page[side]
