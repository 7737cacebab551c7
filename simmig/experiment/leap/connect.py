"""Connecting: in a straight line, for nothing happens at once there."""

from __future__ import annotations

from typing import Any

from simmig.experiment.leap.lane import now_of, post_receive, take_debt
from simmig.experiment.leap.peer import CONNECTING
from simmig.experiment.leap.state import ALARM, CONFIRM, ELSEWHERE, READY_BUFFER, Declined, compiled
from simmig.experiment.leap.wire import occupy, push
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
def connect(s: Any) -> None:
    """Address, request, reply, confirmation: the source goes on at `now`, the destination when that is confirmed.

    Raises Declined when it takes so long that somebody might lose patience.
    """
    s.alarm[0] = RESOLVE_TIMEOUT_NS
    push(s, RESOLVE_TIMEOUT_NS, ALARM)
    resolved = _carry(s, 1, ARP_BYTES, _carry(s, 0, ARP_BYTES, 0))
    s.now = resolved + s.wake_ns[0]
    _open_lane(s, 0)
    s.debt[0] += s.connect_ns
    asked = s.now + take_debt(s, 0)
    s.now = _carry(s, 0, DATAGRAM_BYTES, asked) + s.wake_ns[1]
    _open_lane(s, 1)
    s.now += take_debt(s, 1)
    until = now_of(s, 1) + (REPEATS + 1) * RESPONSE_TIMEOUT_NS
    s.alarm[1] = until
    push(s, until, ALARM + 1)
    s.waiting[1] = 1
    s.channel[1] = ELSEWHERE
    s.paid[1] = s.now
    s.now = _carry(s, 1, DATAGRAM_BYTES, s.now) + s.wake_ns[0]
    push(s, _carry(s, 0, DATAGRAM_BYTES, s.now), CONFIRM)
    if s.now > _SETUP_NS:
        raise Declined
    s.p_state = CONNECTING
