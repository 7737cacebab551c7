"""What the migration knows of a guest, simulated or real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class RamBlock:
    """A named stretch of guest RAM. `offset_bytes` is its place in the guest's RAM address space (ram_addr_t)."""

    name: str
    address: int
    length_bytes: int
    offset_bytes: int
    first_page: int

    @property
    def pages(self) -> int:
        """Pages in the block."""
        return self.length_bytes // PAGE_BYTES


class Guest(Protocol):
    """A machine's memory and its run state. Page numbers count through all blocks, in order."""

    @property
    def blocks(self) -> Sequence[RamBlock]:
        """RAM blocks, laid end to end in page numbers; addresses are this host's."""

    @property
    def machine_name(self) -> str:
        """What the stream's configuration section calls the machine; a destination takes its own kind only."""

    @property
    def running(self) -> bool:
        """Whether the guest executes."""

    def admit(self, machine_name: str, blocks: Sequence[tuple[str, int]]) -> Sequence[RamBlock]:
        """The blocks of this host for those (name, bytes) that the source lists, in its order.

        Raises ValueError, naming all that differs, for a machine or blocks that are not these.
        """

    def ballooned(self) -> NDArray[np.bool_]:
        """One flag a page: given back by the guest, must not be migrated (a copy, taken now)."""

    def start_dirty_log(self) -> None:
        """Record page writes from now on."""

    def stop_dirty_log(self) -> None:
        """Stop recording."""

    def sync_dirty(self, bitmap: NDArray[np.bool_]) -> int:
        """Merge the pages written since the last call into `bitmap`, forget them; returns how many bits turned on.

        A page the guest gave back meanwhile is turned off in `bitmap`, whatever the log says.
        """

    def is_zero(self, first_page: int, count: int) -> bool:
        """Whether every one of these pages is all zero now."""

    def zero(self, first_page: int, count: int) -> None:
        """Make these pages all zero (the destination, on a zero chunk)."""

    async def stop(self) -> None:
        """Stop it: no write happens after this returns. Again is a no-op."""

    async def resume(self) -> None:
        """Let it run (again). Again is a no-op."""

    async def save_device_state(self) -> bytes:
        """The state of everything but RAM, once stopped, as it follows RAM in the stream (`machine_state.py`)."""

    async def load_device_state(self, state: bytes | bytearray) -> bool:
        """Take over that state, as much of it as has come; called again when there is more.

        Whether its devices are there, as far as one can know; raises ValueError when this is not, or is longer
        than, what the machine can load.
        """
