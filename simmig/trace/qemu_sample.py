"""What one poll of a migration said."""

from __future__ import annotations

from dataclasses import dataclass

FINAL = ("completed", "failed", "cancelled")
"""Status of a migration that is over."""


@dataclass(slots=True)
class Sample:
    """What one poll said; -1 where it said nothing of that. `clock_s` is the time beside it, of any origin.

    `bytes_s` is the throughput it told, over a time of its own; `syncs` the bitmap syncs or libvirt's iteration.
    """

    status: str = ""
    clock_s: float = -1.0
    total_ms: int = -1
    setup_ms: int = -1
    downtime_ms: int = -1
    expected_downtime_ms: int = -1
    transferred_bytes: int = -1
    remaining_bytes: int = -1
    memory_bytes: int = -1
    page_bytes: int = -1
    syncs: int = -1
    dirty_pages_s: int = -1
    zero_pages: int = -1
    normal_pages: int = -1
    bytes_s: int = -1

    @property
    def timed(self) -> bool:
        """Whether it says when it was."""
        return self.total_ms >= 0

    @property
    def over(self) -> bool:
        """Whether the migration was."""
        return self.status in FINAL

    @property
    def tells(self) -> bool:
        """Whether there is anything in it."""
        told = (self.total_ms, self.clock_s, self.transferred_bytes, self.memory_bytes)
        return any(value >= 0 for value in told)
