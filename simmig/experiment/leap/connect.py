"""Connecting: in a straight line, for nothing happens at once there."""

from __future__ import annotations

from typing import Any

from simmig.experiment.leap.events import push
from simmig.experiment.leap.lane import now_of, post_receive, take_debt
from simmig.experiment.leap.peer import CONNECTING
from simmig.experiment.leap.sharing import occupy
from simmig.experiment.leap.state import ALARM, CONFIRM, ELSEWHERE, READY_BUFFER, Declined, compiled
from simmig.migration.config import RESOLVE_TIMEOUT_NS
from simmig.migration.wire import BUFFER_BYTES
from simmig.verbs.sim.cm import ARP_BYTES, DATAGRAM_BYTES, REPEATS, RESPONSE_TIMEOUT_NS

_SETUP_NS = 5_000_000_000
_BUFFER_PAGES = BUFFER_BYTES // 4096


@compiled
def _open_lane(s: Any, side: int) -> None:
    for _ in range(2 + s.slots):
        s.debt[side] += s.register[side] + _BUFFER_PAGES * s.register_page[side]
    post_receive(s, side, READY_BUFFER)


@compiled
def _carry(s: Any, way: int, payload_bytes: int, begin_ns: int) -> int:
    """Send a datagram then; returns when it arrives."""
    occupy(s, way, payload_bytes + s.header, begin_ns)
    s.sent[way] += payload_bytes + s.header
    return s.end[way] + s.latency


@compiled
def _resolve(s: Any) -> None:
    """Ask for the address, and be told."""
    s.now = _carry(s, 1, ARP_BYTES, _carry(s, 0, ARP_BYTES, s.now)) + s.wake_ns[0]


@compiled
def _request(s: Any) -> int:
    """Ask for a connection; returns when that arrives."""
    s.debt[0] += s.connect_ns
    return _carry(s, 0, DATAGRAM_BYTES, s.now + take_debt(s, 0))


@compiled
def _alarm(s: Any, at: int) -> None:
    """The destination gives up then, if it still waits."""
    if not 0 <= s.alarm[1] <= at:
        s.alarm[1] = at
        push(s, at, ALARM + 1)


@compiled
def _accept(s: Any) -> int:
    """The destination replies, the source hears it and confirms; returns when that arrives."""
    s.now += take_debt(s, 1)
    _alarm(s, now_of(s, 1) + (REPEATS + 1) * RESPONSE_TIMEOUT_NS)
    s.paid[1] = s.now
    s.now = _carry(s, 1, DATAGRAM_BYTES, s.now) + s.wake_ns[0]
    return _carry(s, 0, DATAGRAM_BYTES, s.now)


@compiled
def _connect_ram(s: Any) -> int:
    """The connection of the writes alone; returns when the destination may take another one."""
    s.now = _request(s) + s.wake_ns[1]
    return _accept(s) + s.wake_ns[1]


@compiled
def connect(s: Any) -> None:
    """Address, request, reply, confirmation: the source goes on at `now`, the destination when that is confirmed.

    Raises Declined when it takes so long that somebody might lose patience.
    """
    s.alarm[0] = RESOLVE_TIMEOUT_NS
    push(s, RESOLVE_TIMEOUT_NS, ALARM)
    _resolve(s)
    listens = 0
    if s.own_control:
        listens = _connect_ram(s)
        _resolve(s)
    _open_lane(s, 0)
    requested = _request(s)
    if listens <= requested:
        if s.own_control:
            _alarm(s, listens + RESOLVE_TIMEOUT_NS)
        listens = requested + s.wake_ns[1]
    s.now = listens
    _open_lane(s, 1)
    confirmed = _accept(s)
    s.waiting[1] = 1
    s.channel[1] = ELSEWHERE
    push(s, confirmed, CONFIRM)
    if s.now > _SETUP_NS:
        raise Declined
    s.p_state = CONNECTING
