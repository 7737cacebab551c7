"""How fast RAM arrived, from what was posted and what was seen completed: a write is spread over its flight.

Completions are told when somebody polls: after a drain of half a second 500 MiB seem to arrive at once, on a link
that carries them in no less than that. What had arrived by a time lies between what was seen completed by then and
what was posted. Of all curves between these two the taut string has the least slope; the true one is between them
too, and never steeper than the link.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simmig.trace.metrics import Metrics
from simmig.trace.series import Amount, Gauge

Floats = NDArray[np.float64]

_SOCKET_BYTES = 5 << 20
"""Of a socket nobody sees completions: so much may be in its buffer, or about to go there."""


def arrival_rate(metrics: Metrics, until_ns: int, bins: int = 60) -> tuple[Floats, Floats]:
    """Bin edges in ns, and the RAM bytes a second in each, in bins wide enough to be read."""
    width_ns = max(metrics.arrived.width_ns, metrics.pending.width_ns)
    while until_ns // width_ns > bins:
        width_ns *= 2
    edges = np.arange(until_ns // width_ns + 2, dtype=float) * width_ns
    seen = _summed(metrics.arrived, width_ns, len(edges))
    if metrics.began is not None and metrics.began.transport == "tcp":
        low, high = np.maximum(0.0, seen - _SOCKET_BYTES), seen
    else:
        low, high = seen, seen + _at_edges(metrics.pending, width_ns, len(edges))
    low[-1] = seen[-1]
    return edges, np.diff(taut_string(low, np.minimum(high, seen[-1]))) * 1e9 / width_ns


def taut_string(low: Floats, high: Floats) -> Floats:
    """The curve of least slope between two that do not fall and meet at both ends, at the same even steps."""
    curve = low.copy()
    at, last = 0, len(low) - 1
    while at < last:
        steepest, flattest = -np.inf, np.inf
        below = above = to = at + 1
        bend = low[to]
        for step in range(at + 1, last + 1):
            rise = (low[step] - curve[at]) / (step - at)
            fall = (high[step] - curve[at]) / (step - at)
            if rise > flattest:
                to, bend = above, high[above]
                break
            if fall < steepest:
                to, bend = below, low[below]
                break
            if rise >= steepest:
                steepest, below = rise, step
            if fall <= flattest:
                flattest, above = fall, step
        else:
            to, bend = last, low[last]
        curve[at : to + 1] = np.linspace(curve[at], bend, to - at + 1)
        at = to
    return curve


def _summed(amount: Amount, width_ns: int, edges: int) -> Floats:
    """How much there was by each edge; what is beyond the last counts there."""
    totals = np.zeros(edges)
    for index, value in amount.bins.items():
        totals[min(index * amount.width_ns // width_ns + 1, edges - 1)] += value
    return np.cumsum(totals)


def _at_edges(gauge: Gauge, width_ns: int, edges: int) -> Floats:
    """Its value at each edge."""
    values = np.full(edges, -1.0)
    values[0] = 0.0
    for index, bin_ in gauge.bins.items():  # in order of time
        values[min(index * gauge.width_ns // width_ns + 1, edges - 1)] = bin_.last
    for at in range(1, edges):
        if values[at] < 0:
            values[at] = values[at - 1]
    return values
