"""What the source decides as it goes: the built-in policies, the bandwidth estimate, how long a slice may last."""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from simmig.experiment.leap import record
from simmig.experiment.leap.call_back import call_back
from simmig.experiment.leap.lane import now_of
from simmig.experiment.leap.state import NONE, Declined, Memory, compiled
from simmig.migration.config import CHUNK_PAGES, WINDOW_NS
from simmig.migration.limits import DOWNTIME_LIMIT_NS, MAX_BANDWIDTH_BYTES_S, holds_now, is_due
from simmig.migration.pace import is_early, until_look
from simmig.migration.rate_limit import UNLIMITED_PAGES, pages_left, window_limit_bytes

CHUNK_FULL, SLICE_END, ROUND_END, BEFORE_STOP, BEFORE_DEVICE_STATE = range(5)
FINAL_ONLY, AT_SWITCH, PER_ROUND, DOWNTIME_BUDGET, PENDING_LIMIT, EVERY_BYTES, PER_ITERATION, PER_CHUNK = range(8)
"""The order of `envelope.POLICIES`."""
OWN = 8
"""Somebody's own, in Python."""

_pages_left, _is_early, _until_look = compiled(pages_left), compiled(is_early), compiled(until_look)
register_jitable(is_due)
_holds_now, _window_limit_bytes = compiled(holds_now), compiled(window_limit_bytes)

TIMED, LONG, STOPPED = 0, 1, 2  # how a walk is paced

_SECOND_NS = 1_000_000_000
_PAGE_BYTES = 4096
_LARGE = 1 << 62


@compiled
def per_second(rate: int, duration: int) -> int:
    """Floor of rate x duration over a second, where the product may need more than 64 bits."""
    whole, part = rate // _SECOND_NS, rate % _SECOND_NS
    if whole and duration > _LARGE // whole:
        raise Declined
    seconds, rest = duration // _SECOND_NS, duration % _SECOND_NS
    return whole * duration + part * seconds + part * rest // _SECOND_NS


@compiled
def decide(s: Any, point: int) -> int:
    """How many bytes the policy lets stay pending here; NONE: it does not wait."""
    policy = s.policy
    if policy == OWN:
        target = call_back(s.policy_address, point)
        if target < NONE:
            raise Declined
        return target
    if policy == FINAL_ONLY:
        return 0 if point == BEFORE_DEVICE_STATE else NONE
    if policy == PER_ROUND:
        return 0 if point == ROUND_END else NONE
    if policy == PER_ITERATION:
        return 0 if point == SLICE_END else NONE
    if policy == DOWNTIME_BUDGET:
        if point not in (CHUNK_FULL, BEFORE_STOP) or not s.bandwidth:
            return NONE
        return per_second(s.bandwidth, s.downtime_limit)
    if policy == AT_SWITCH or point != CHUNK_FULL:
        return NONE
    if policy == PER_CHUNK:
        return 0
    if policy == PENDING_LIMIT:
        return s.limit_bytes
    if s.posted_bytes - s.drained_at < s.limit_bytes:
        return NONE
    s.drained_at = s.posted_bytes
    return 0


@compiled
def rate_of(amount: int, duration: int) -> int:
    """Floor of amount x a second over the duration, likewise: long division, three digits at a time."""
    rate, rest = amount // duration, amount % duration
    if rate > _LARGE // _SECOND_NS:
        raise Declined
    for _ in range(3):
        rest *= 1000
        rate = rate * 1000 + rest // duration
        rest %= duration
    return rate


@compiled
def window_is_over(s: Any) -> bool:
    """Whether the bandwidth is to be estimated anew."""
    return now_of(s, 0) >= s.window_began + WINDOW_NS


@compiled
def tell(s: Any) -> int:
    """The stream's position, posted pages included."""
    return s.stream_bytes + s.out + s.posted_bytes


@compiled
def estimate(s: Any, m: Memory) -> None:
    """Close the window."""
    now = now_of(s, 0)
    limit = _holds_now(m.changes, DOWNTIME_LIMIT_NS, s.downtime_limit, now, s.rounds)
    if limit != s.downtime_limit:
        s.downtime_limit = limit
        record.one_of(s, record.DOWNTIME_LIMIT, now, limit, 0)
    position = tell(s)
    s.bandwidth = rate_of(position - s.window_position, max(1, now - s.window_began))
    s.threshold = per_second(s.bandwidth, s.downtime_limit)
    s.window_began = now
    s.window_position = position
    record.one_of(s, record.ESTIMATED, now, s.bandwidth, s.threshold)
    if call_back(s.watch_address, s.rounds):
        raise Declined


@compiled
def allowance(s: Any, walked: int) -> int:
    """How many pages the rate limit lets follow in this window, after so many that it does not count yet."""
    if not s.max_bandwidth:
        return UNLIMITED_PAGES
    limit = _window_limit_bytes(s.max_bandwidth)
    if s.counts_posts:
        return UNLIMITED_PAGES if tell(s) - s.rate_position <= limit else 0
    return _pages_left(limit, s.rate_used + walked * _PAGE_BYTES)


@compiled
def begin_rate_window(s: Any) -> None:
    """A new window of the rate limit."""
    s.rate_began = now_of(s, 0)
    s.rate_position = tell(s)
    s.rate_used = 0


@compiled
def rate_window_is_over(s: Any) -> bool:
    """Whether the rate limit may have a new window."""
    return now_of(s, 0) >= s.rate_began + WINDOW_NS


@compiled
def renew_rate_window(s: Any, m: Memory) -> None:
    """A new window, if this one is over, with the limit that holds now."""
    if not rate_window_is_over(s):
        return
    begin_rate_window(s)
    limit = _holds_now(m.changes, MAX_BANDWIDTH_BYTES_S, s.max_bandwidth, s.rate_began, s.rounds)
    if limit != s.max_bandwidth:
        s.max_bandwidth = limit
        record.one_of(s, record.BANDWIDTH_LIMIT if limit else record.NO_BANDWIDTH_LIMIT, s.rate_began, limit, 0)


@compiled
def goes_on(s: Any, kind: int, saved: int) -> bool:
    """Whether a run granted before something was sent may still go on beyond its first page."""
    return kind == STOPPED or (
        (kind == LONG or _is_early(now_of(s, 0) - s.slice_began, saved, s.slice_ns)) and allowance(s, saved) > 0
    )


@compiled
def pace(s: Any, m: Memory, kind: int, saved: int) -> int:
    """How many pages may follow in one run; 0 ends the stretch."""
    if kind == STOPPED:
        return CHUNK_PAGES
    if kind == LONG:
        if window_is_over(s):
            estimate(s, m)
        if s.has_windows and rate_window_is_over(s):
            return 0
        return min(CHUNK_PAGES, allowance(s, saved))
    allowed = allowance(s, saved)
    if not (allowed and saved):
        return min(allowed, 1)
    elapsed = now_of(s, 0) - s.slice_began
    if _is_early(elapsed, saved, s.slice_ns):
        return min(allowed, CHUNK_PAGES)
    return min(allowed, _until_look(elapsed, saved, s.slice_ns))
