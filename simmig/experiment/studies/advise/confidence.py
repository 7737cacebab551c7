"""How sure a handful of seeds can make one.

Of n independent seeds all kept the downtime. Were the share of all seeds that keep it as small as p, that had a
probability of p^n; what is not less likely than 1 - confidence cannot be ruled out. So the one-sided lower bound
of Clopper and Pearson (Biometrika 26, 1934) is p = (1 - confidence)^(1/n). Where m candidates stand by to be put
to the test until one passes, each has its part of the error (Bonferroni): (1 - confidence) / m.
"""

from __future__ import annotations

import math


def kept_share(seeds: int, confidence: float, candidates: int = 1) -> float:
    """At least this share of all seeds keeps what all of `seeds` seeds kept, with this confidence."""
    return float(((1 - confidence) / candidates) ** (1 / seeds))


def seeds_for(share: float, confidence: float, candidates: int = 1) -> int:
    """How many seeds must all keep it to be as confident that this share of all seeds does."""
    return math.ceil(math.log((1 - confidence) / candidates) / math.log(share))
