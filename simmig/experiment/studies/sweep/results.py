"""Reading a sweep's results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

_SHOWN = 5


@dataclass
class Tally:
    """How the points ended: how often each status, each error, each broken invariant."""

    statuses: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)

    @property
    def good(self) -> bool:
        """Every point was simulated, and nothing that must hold was broken."""
        return not self.errors and not self.broken

    def figures(self) -> dict[str, Any]:
        """As the JSON object has it."""
        return {"status": dict(self.statuses), "errors": dict(self.errors), "invariants_broken": dict(self.broken)}

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items()))
        for what, counts in (("could not be simulated", self.errors), ("BROKE", self.broken)):
            for reason, count in counts.most_common(_SHOWN):
                yield f"{count} {what}: {reason}"
            if len(counts) > _SHOWN:
                yield f"... and {len(counts) - _SHOWN} more such reasons, in their columns of the table"


def tally(results: Path) -> Tally:
    """Count, a row group at a time."""
    counts = Tally()
    with pq.ParquetFile(results) as file:
        for batch in file.iter_batches(columns=["status", "error", "invariants_broken"]):
            rows = batch.to_pydict()
            for counter, name in (
                (counts.statuses, "status"),
                (counts.errors, "error"),
                (counts.broken, "invariants_broken"),
            ):
                counter.update(value for value in rows[name] if value is not None)
    return counts
