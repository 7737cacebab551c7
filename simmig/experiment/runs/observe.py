"""Watching a running VM write its memory: a recorded workload, for any scenario."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from simmig.experiment.amounts import format_bytes
from simmig.experiment.runs.ends_qemu import take_hold
from simmig.experiment.runs.run_rdma import interruptible
from simmig.experiment.scenario.machine import RECORDING_COLUMNS
from simmig.guest.api import PAGE_BYTES, RamBlock
from simmig.guest.qemu.guest import QemuGuest
from simmig.migration.ram import runs_of
from simmig.verbs.rdma.runtime import RdmaRuntime

Row = tuple[int, int, int]


@dataclass(frozen=True)
class Observation:
    """What a VM wrote.

    Attributes:
        blocks: its RAM blocks, through which pages count.
        rows: (time in ns since the first look, first page, count): written since the rows before; a look at which
            nothing was written has a row of no pages.
        duration_ns: how long it was watched.
        pages_written: each once a look.
        working_set_bytes: what was written at all.
        look_ns: how long a look took, the median; the VM stands still for it.
    """

    blocks: tuple[RamBlock, ...]
    rows: Sequence[Row]
    duration_ns: int
    pages_written: int
    working_set_bytes: int
    look_ns: int = 0

    @property
    def rate_bytes_s(self) -> int:
        """How fast pages were dirtied, each counted once a look."""
        return self.pages_written * PAGE_BYTES * 1_000_000_000 // max(1, self.duration_ns)

    def csv(self) -> str:
        """As a scenario's recorded workload reads it."""
        return "".join(f"{','.join(map(str, line))}\n" for line in (RECORDING_COLUMNS, *self.rows))

    def guest_table(self, file: Path) -> str:
        """The scenario's guest that goes with it."""
        blocks = "".join(
            f'[[guest.block]]\nname = "{block.name}"\nsize = "{block.length_bytes} B"\n' for block in self.blocks
        )
        return f'[guest]\nworkload = {{ kind = "recorded", file = "{file}" }}\n{blocks}'

    @property
    def words(self) -> str:
        """In a line."""
        return (
            f"watched for {self.duration_ns / 1e9:.1f} s: {format_bytes(self.rate_bytes_s)}/s of pages dirtied, "
            f"{format_bytes(self.working_set_bytes)} in all"
        )


def observe(qmp: Path, duration_ns: int, every_ns: int, tell: Callable[[str], None]) -> Observation:
    """Watch the VM of the QEMU whose QMP socket is `qmp`; Ctrl-C ends it early. Raises InputError.

    The VM runs on; its threads stand still for each look, some milliseconds.
    """

    async def body() -> Observation:
        guest = await take_hold(qmp)
        try:
            return await watch(guest, RdmaRuntime(), duration_ns, every_ns, tell)
        finally:
            await guest.close()

    return asyncio.run(body())


async def watch(
    guest: QemuGuest, runtime: RdmaRuntime, duration_ns: int, every_ns: int, tell: Callable[[str], None]
) -> Observation:
    """`observe`, of a VM that somebody has hold of already."""
    async with interruptible(runtime) as enough:
        guest.start_dirty_log()
        began_ns = now_ns = runtime.now_ns()
        rows: list[Row] = []
        looks_ns: list[int] = []
        ever = np.zeros(guest.pages, dtype=np.bool_)
        while now_ns < began_ns + duration_ns and not enough.is_set:
            await runtime.wait(enough, deadline_ns=min(now_ns + every_ns, began_ns + duration_ns))
            looked_ns = runtime.now_ns()
            written = np.zeros(guest.pages, dtype=np.bool_)
            guest.sync_dirty(written)
            now_ns = runtime.now_ns()
            looks_ns.append(now_ns - looked_ns)
            ever |= written
            runs = runs_of(written) or ((0, 0),)
            rows += [(now_ns - began_ns, first, count) for first, count in runs]
            tell(f"watching, {(now_ns - began_ns) / 1e9:.1f} s")
        guest.stop_dirty_log()
    pages = sum(count for _, _, count in rows)
    working_set_bytes = int(np.count_nonzero(ever)) * PAGE_BYTES
    look_ns = round(median(looks_ns or [0]))
    return Observation(tuple(guest.blocks), rows, now_ns - began_ns, pages, working_set_bytes, look_ns)
