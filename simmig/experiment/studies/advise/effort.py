"""How much to try: all that is usual, or of a big guest what an answer within a minute leaves room for.

Reckoned in pages that are simulated, not in seconds, so that every machine tries the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from simmig.experiment.leap.envelope import outside
from simmig.experiment.scenario.schema import IdleTable, Scenario, SweepTable

TRIALS, SEARCH_SEEDS, SEEDS = 64, 3, 20
"""What is usual: candidates, seeds to try each with, and fresh seeds to test the best with."""
LEAST_SEEDS = 3
SEARCH_PAGES, TEST_PAGES = 150_000_000, 50_000_000
"""Pages that lie apart, in compiled code: some 30 s and 10 s on one core."""
TOGETHER, EVENT_BY_EVENT = 1 / 8, 10
"""What a page costs beside that: one that is written together with its neighbours, one outside compiled code."""


@dataclass(frozen=True)
class Effort:
    """Candidates to try, seeds to try each with, and fresh seeds to test the best with.

    Attributes:
        reduced: it is less than usual, since the guest is big, and not since less was asked for.
    """

    trials: int
    search_seeds: int
    seeds: int
    reduced: bool


def effort(scenario: Scenario, pages: int, trials: int | None, seeds: int | None, starts: int) -> Effort:
    """For a guest of which one migration sends so many pages; what is asked for is done.

    `starts`: candidates to begin with, which are all tried.
    """
    together = isinstance(scenario.guest.workload, IdleTable | SweepTable)
    cost = pages * (TOGETHER if together else 1) * (EVENT_BY_EVENT if outside(scenario) is not None else 1)
    runs = int(SEARCH_PAGES / max(1.0, cost))
    search_seeds = SEARCH_SEEDS if trials is not None or runs >= 2 * starts * SEARCH_SEEDS else 1
    tried = min(TRIALS, max(starts, runs // search_seeds)) if trials is None else trials
    tested = min(SEEDS, max(LEAST_SEEDS, int(TEST_PAGES / max(1.0, cost)))) if seeds is None else seeds
    reduced = (trials is None and (tried, search_seeds) != (TRIALS, SEARCH_SEEDS)) or (
        seeds is None and tested < SEEDS
    )
    return Effort(tried, search_seeds, tested, reduced)
