"""What a trace begins with: the settings of the migration that it is of."""

from __future__ import annotations

from simmig.guest.api import PAGE_BYTES
from simmig.migration import lane
from simmig.migration.config import MigrationConfig
from simmig.migration.policies.policy import Policy, promise_of
from simmig.trace.events import MigrationBegan


def began(
    t_ns: int,
    config: MigrationConfig,
    policy: Policy,
    policy_name: str,
    memory_bytes: int,
    given_back: tuple[tuple[int, int], ...],
) -> MigrationBegan:
    """The source's first event; `given_back` are the balloon's pages, as runs (first, count)."""
    return MigrationBegan(
        t_ns,
        "source",
        memory_bytes,
        PAGE_BYTES,
        config.transport,
        config.pin_all,
        policy_name,
        config.downtime_limit_ns,
        promise_of(policy),
        given_back,
        *lane.depths(config.send_queue_depth),
        max_rounds=config.max_rounds,
        max_bandwidth_bytes_s=config.max_bandwidth_bytes_s or None,
        rate_limit=config.rate_limit if config.is_ever_limited else None,
        stop_when_flat=config.stop_when_flat,
    )
