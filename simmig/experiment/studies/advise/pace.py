"""Where a migration gets stuck: how fast it sends, how fast the guest writes, and how busy the link is meanwhile.

A policy only adds waits. `final-only` never waits while the guest runs and therefore sends fastest: where its
rounds stop to shrink far above what fits into the downtime, no other policy's will come down to it. One migration
tells that, in place of one for each policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simmig.experiment.amounts import format_byte_rate, format_bytes, format_rate, format_time
from simmig.experiment.result import Result
from simmig.experiment.scenario.schema import Scenario
from simmig.guest.api import PAGE_BYTES

FAR_ABOVE = 2
"""So many times what fits into the downtime: no wait that a policy leaves out makes that good."""
BUSY = 0.8
"""Of a bandwidth: from there on it is what bounds the rate of sending."""


@dataclass(frozen=True)
class Pace:
    """A migration that did not converge, over the rounds that did not shrink.

    Attributes:
        flat_since_round: the first of them.
        left_bytes: dirty when the last of them began.
        sent_bytes_s: RAM, over all of them.
        written_bytes_s: what the guest wrote, each write as a page.
        limit_ns: the downtime limit.
        link_share: of the link's bandwidth that the RAM sent takes.
        bound: what keeps it from being sent faster, in words.
    """

    flat_since_round: int
    left_bytes: int
    sent_bytes_s: int
    written_bytes_s: int
    limit_ns: int
    link_share: float
    bound: str

    @property
    def fits_bytes(self) -> int:
        """What is sent in the downtime limit."""
        return self.sent_bytes_s * self.limit_ns // 10**9

    @property
    def enough_ns(self) -> int:
        """About how long the guest would have to stand still for what is dirty."""
        return self.left_bytes * 10**9 // max(1, self.sent_bytes_s)

    @property
    def hopeless(self) -> bool:
        """Whether no policy can do better than that by enough."""
        return self.left_bytes >= FAR_ABOVE * self.fits_bytes

    def figures(self) -> dict[str, Any]:
        """As in ``--json``."""
        return {
            "flat_since_round": self.flat_since_round,
            "left_bytes": self.left_bytes,
            "fits_bytes": self.fits_bytes,
            "sent_bit_s": 8 * self.sent_bytes_s,
            "written_bit_s": 8 * self.written_bytes_s,
            "link_share": self.link_share,
            "bound": self.bound,
            "enough_ns": self.enough_ns,
        }

    def told(self) -> list[str]:
        """Why it got stuck, and what would help, in lines."""
        sent = format_rate(8 * self.sent_bytes_s)
        written = f"{format_byte_rate(self.written_bytes_s)} ({format_rate(8 * self.written_bytes_s)})"
        return [
            f"From round {self.flat_since_round} on rounds do not shrink: each leaves about "
            f"{format_bytes(self.left_bytes)} dirty,",
            f"and {format_time(self.limit_ns)} are enough for {format_bytes(self.fits_bytes)}.",
            f"The guest writes {written} meanwhile, and {sent} are sent.",
            f"The link is busy for {self.link_share:.0%} of the time: {self.bound}.",
            "It would end with a guest that writes less, or with a downtime of about "
            f"{format_time(self.enough_ns)}.",
        ]


def pace_of(result: Result, scenario: Scenario) -> Pace | None:
    """Where it got stuck; None of one that did not, or whose rounds still shrank."""
    flat = result.flat_since_round
    if result.status != "not-converging" or flat is None:
        return None
    rounds = [row for row in result.metrics.rounds if row.index >= flat and row.duration_ns]
    took_ns = sum(row.duration_ns for row in rounds)
    if not took_ns:
        return None
    sent_bytes_s = sum(row.counts.posted_bytes for row in rounds) * 10**9 // took_ns
    written = sum(row.counts.guest_writes for row in rounds) * PAGE_BYTES
    link_share = 8 * sent_bytes_s / scenario.link.bandwidth_bit_s
    return Pace(
        flat,
        rounds[-1].dirty_pages * PAGE_BYTES,
        sent_bytes_s,
        written * 10**9 // took_ns,
        scenario.migration.downtime_limit_ns,
        link_share,
        _bound(scenario, sent_bytes_s, link_share),
    )


def _bound(scenario: Scenario, sent_bytes_s: int, link_share: float) -> str:
    """What keeps it from being sent faster."""
    allowed = scenario.migration.max_bandwidth_bytes_s
    if allowed is not None and sent_bytes_s >= BUSY * allowed:
        return "migration.max_bandwidth bounds it"
    if link_share >= BUSY:
        return "its bandwidth bounds it, and more would help"
    if scenario.migration.transport == "tcp":
        return "the hosts bound it, and more bandwidth hardly helps"
    return (
        "what a write costs the hosts and its wait for the one before it in the same chunk bound it, and more "
        "bandwidth hardly helps"
    )
