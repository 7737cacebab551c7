"""Which scenarios a leap knows."""

from __future__ import annotations

from simmig.experiment.scenario.schema import Scenario
from simmig.verbs.sim.cm import ACK_TIMEOUT
from simmig.verbs.sim.profiles import PROFILES
from simmig.verbs.sim.recovery import ack_timeout_ns

MAX_RATE_BYTES_S = 9 * 10**9
"""Above it a count of page writes takes more than 64 bits on the way."""
MIN_BANDWIDTH_BIT_S = 1_000_000
"""Below it setting up the connection comes near its timeouts."""


def outside(scenario: Scenario) -> str | None:
    """What the event model has to simulate this one for; None when a leap can."""
    migration, guest, link = scenario.migration, scenario.guest, scenario.link
    timeout_ns = ack_timeout_ns(ACK_TIMEOUT, PROFILES[scenario.device.profile].timer_tick_ns)
    reasons = {
        "its transport": migration.transport != "rdma",
        "how fast the guest writes": getattr(guest.workload, "rate_bytes_s", 0) > MAX_RATE_BYTES_S,
        "its link's loss": link.loss > 0,
        "a round trip as long as the ack timeout": 2 * link.latency_ns >= timeout_ns,
        "how slow its link is": link.bandwidth_bit_s < MIN_BANDWIDTH_BIT_S,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
