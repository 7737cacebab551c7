"""What the source decides as it goes: the built-in policies, the bandwidth estimate, how long a slice may last."""

from __future__ import annotations

from typing import Any

from numba.extending import overload, register_jitable

from simmig.experiment.leap import record
from simmig.experiment.leap.call_back import call_back
from simmig.experiment.leap.control import sleep
from simmig.experiment.leap.lane import now_of
from simmig.experiment.leap.state import NONE, Declined, Memory, compiled, method
from simmig.migration.config import CHUNK_PAGES
from simmig.migration.limits import DOWNTIME_LIMIT_NS, MAX_BANDWIDTH_BYTES_S, holds_now, is_due
from simmig.migration.per_second import SECOND_NS, amount_in, rate_of
from simmig.migration.policies import builtin
from simmig.migration.policies.policy import Point, Policy

POLICIES = tuple(builtin())
"""Those that are compiled, in the order of their codes; any other is asked in Python."""
OWN = len(POLICIES)
"""The code of a policy of somebody's own."""

_LARGE = 1 << 62

# What stands in `migration/` is compiled as it is, apart from sums that may need more than 64 bits on the way.

register_jitable(is_due)
_holds_now = compiled(holds_now)


@overload(rate_of, strict=False)
def _rate_of(amount_bytes: Any, duration_ns: Any) -> Any:
    """Long division, three digits at a time."""

    def rate_of(amount_bytes: int, duration_ns: int) -> int:
        rate, rest = amount_bytes // duration_ns, amount_bytes % duration_ns
        if rate > _LARGE // SECOND_NS:
            raise Declined
        for _ in range(3):
            rest *= 1000
            rate = rate * 1000 + rest // duration_ns
            rest %= duration_ns
        return rate

    return rate_of


@overload(amount_in, strict=False)
def _amount_in(duration_ns: Any, bytes_s: Any) -> Any:

    def amount_in(duration_ns: int, bytes_s: int) -> int:
        whole, part = bytes_s // SECOND_NS, bytes_s % SECOND_NS
        if whole and duration_ns > _LARGE // whole:
            raise Declined
        seconds, rest = duration_ns // SECOND_NS, duration_ns % SECOND_NS
        return whole * duration_ns + part * seconds + part * rest // SECOND_NS

    return amount_in


(
    _final_only,
    _at_switch,
    _per_round,
    _downtime_budget,
    _pending_limit,
    _every_bytes,
    _per_iteration,
    _per_chunk,
) = (method(policy.drain, Policy, Point, Any) for policy in builtin().values())


@compiled
def number_of(point: Point) -> int:
    """Its place among all points."""
    if point is Point.CHUNK_FULL:
        return 0
    if point is Point.SLICE_END:
        return 1
    if point is Point.ROUND_END:
        return 2
    return 3 if point is Point.BEFORE_STOP else 4


@compiled
def _asked(s: Any, point: Point) -> int | None:
    """What a built-in policy answers."""
    policy = s.policy
    if policy == 0:
        return _final_only(s.parameters, point, s)
    if policy == 1:
        return _at_switch(s.parameters, point, s)
    if policy == 2:
        return _per_round(s.parameters, point, s)
    if policy == 3:
        return _downtime_budget(s.parameters, point, s)
    if policy == 4:
        return _pending_limit(s.parameters, point, s)
    if policy == 5:
        return _every_bytes(s.parameters, point, s)
    if policy == 6:
        return _per_iteration(s.parameters, point, s)
    return _per_chunk(s.parameters, point, s)


@compiled
def decide(s: Any, point: Point) -> int:
    """How many bytes the policy lets stay pending here; NONE: it does not wait."""
    if s.policy == OWN:
        target = call_back(s.policy_address, number_of(point))
        if target < NONE:
            raise Declined
        return target
    answer = _asked(s, point)
    return NONE if answer is None else answer


@compiled
def tell(s: Any) -> int:
    """The stream's position, posted pages included."""
    return s.stream_bytes + s.out + s.posted_bytes


@compiled
def estimate(s: Any, m: Memory) -> None:
    """Close the window."""
    now = now_of(s, 0)
    limit = _holds_now(m.changes, DOWNTIME_LIMIT_NS, s.downtime_limit_ns, now, s.rounds)
    if limit != s.downtime_limit_ns:
        s.downtime_limit_ns = limit
        record.one_of(s, record.DOWNTIME_LIMIT, now, limit, 0)
    s.convergence.limit_ns = limit
    s.convergence.close_window(now, tell(s))
    s.bandwidth_bytes_s = s.convergence.bandwidth_bytes_s
    record.one_of(s, record.ESTIMATED, now, s.bandwidth_bytes_s, s.convergence.threshold_bytes)
    if call_back(s.watch_address, s.rounds):
        raise Declined


@compiled
def obey_rate_limit(s: Any) -> None:
    """Wait until anything may follow."""
    wait_ns = s.rate_limit.wait_ns(now_of(s, 0), tell(s))
    if wait_ns:
        sleep(s, wait_ns)


@compiled
def renew_rate(s: Any, m: Memory) -> None:
    """A new window of the rate limit, if this one is over, with the limit that holds now."""
    now = now_of(s, 0)
    if not s.rate_limit.renew(now, tell(s)):
        return
    limit = _holds_now(m.changes, MAX_BANDWIDTH_BYTES_S, s.max_bandwidth, now, s.rounds)
    if limit != s.max_bandwidth:
        s.max_bandwidth = limit
        record.one_of(s, record.BANDWIDTH_LIMIT if limit else record.NO_BANDWIDTH_LIMIT, now, limit, 0)
    s.rate_limit.allow(limit)


@compiled
def may_follow(s: Any, m: Memory, saved: int) -> int:
    """How many pages may follow in one run, after so many in this stretch of the walk; 0 ends it."""
    if s.stopped >= 0:
        return CHUNK_PAGES
    now = now_of(s, 0)
    if not s.pace.timed:
        if s.convergence.due(now):
            estimate(s, m)
        if s.rate_limit.is_over(now):
            return 0
    return s.pace.pages(now, saved, s.rate_limit.pages_left(tell(s), saved))


@compiled
def goes_on(s: Any, saved: int) -> bool:
    """Whether a run that was let follow may go on beyond its first page now that something was sent."""
    return s.stopped >= 0 or (s.pace.goes_on(now_of(s, 0), saved) and s.rate_limit.pages_left(tell(s), saved) > 0)
