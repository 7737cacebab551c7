"""Small results, made by hand: what a picture shows of them is known."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from simmig.experiment.reports.plots.space import is_input

MS = 1_000_000


def row(policy: str, downtime_ms: float, total_ms: float = 1000.0, **changes: Any) -> dict[str, Any]:
    """A point; inputs that a keyword cannot name go in `changes` as a__b for "a.b"."""
    base = {
        "seed": 1,
        "link.bandwidth_bit_s": 10_000_000_000,
        "guest.workload.rate_bytes_s": 100 << 20,
        "migration.slice_ns": 50 * MS,
        "migration.downtime_limit_ns": 30 * MS,
        "policy.name": policy,
        "status": "completed",
        "total_time_ns": total_ms * MS,
        "downtime_ns": downtime_ms * MS,
        "downtime_parts.residual_pages_ns": downtime_ms * MS * 0.5,
        "downtime_parts.drain_ns": downtime_ms * MS * 0.25,
        "downtime_parts.device_state_ns": downtime_ms * MS * 0.125,
        "downtime_parts.switch_ns": downtime_ms * MS * 0.125,
        "invariants_held": True,
        "error": None,
    }
    return base | {name.replace("__", "."): value for name, value in changes.items()}


def lost(policy: str, total_ms: float = 5000.0, **changes: Any) -> dict[str, Any]:
    """A point that did not converge."""
    return row(policy, 0.0, total_ms, **changes) | {"status": "not-converging"}


def failed(policy: str, error: str, **changes: Any) -> dict[str, Any]:
    """A point that could not be simulated: it has inputs, but no figures."""
    cells = row(policy, 0.0, **changes)
    return {name: value if is_input(name) else None for name, value in cells.items()} | {"error": error}


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    """As a sweep's results are read."""
    return pd.DataFrame(list(rows))


def series(axes: Axes, label: str) -> list[tuple[float, float]]:
    """The points of all lines with that label, in the units of the axis."""
    found: list[tuple[float, float]] = []
    for line in axes.lines:
        if str(line.get_label()) == label:
            x, y = (np.asarray(data, dtype=float).tolist() for data in (line.get_xdata(), line.get_ydata()))
            found += zip(x, y, strict=True)
    return found
