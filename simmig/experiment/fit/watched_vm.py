"""What a simulation has to know of a running QEMU's VM, seen from outside.

That is what it writes, and which pages are zero. It is stopped for a moment, as at the end of a migration: that
tells how long its devices' state is, and how long QEMU takes to stop it, to give that and to let it run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

from simmig.experiment.errors import InputError
from simmig.experiment.fit.calibrate import Tell
from simmig.experiment.runs.ends_qemu import take_hold
from simmig.experiment.runs.observe import Observation, Row, watch
from simmig.experiment.scenario.machine import Subject
from simmig.experiment.scenario.schema import Scenario
from simmig.guest import machine_state
from simmig.guest.api import PAGE_BYTES, RamBlock
from simmig.guest.machine import MIN_DEVICE_STATE_BYTES, Machine
from simmig.guest.qemu.errors import QemuError
from simmig.guest.qemu.guest import QemuGuest
from simmig.guest.workload import Looped
from simmig.migration.ram import runs_of
from simmig.migration.stream import MAX_ENDING_BYTES
from simmig.verbs.rdma.runtime import RdmaRuntime

LOOK_EVERY_NS = 100_000_000
_STOPS = 3
"""How often a VM is stopped for a moment: one time differs from the next."""
_ASKED_TO_RESUME = 2
"""Commands in `QemuGuest.resume`."""
_LEAST_NS, _MOST_NS = 5_000_000_000, 60_000_000_000


@dataclass(frozen=True)
class Watched:
    """A VM as it was seen.

    Attributes:
        seen: what it wrote.
        first_round_ns: how long the link takes for its memory once: pages written more rarely than it was watched
            are not known.
        zero_runs: its zero pages, as (first page, count), each run within a block.
        state_bytes: how long its devices' state is.
        stop_ns: how long QEMU takes to stop it.
        save_ns: how long QEMU takes to give the state; the VM stands still meanwhile.
        resume_ns: how long QEMU takes to let it run, less the asking: a destination does so by itself.
        last_look_ns: how long a look takes at the stopped VM, which need not be made to stand still for it.
    """

    seen: Observation
    first_round_ns: int
    zero_runs: Sequence[tuple[int, int]]
    state_bytes: int
    stop_ns: int
    save_ns: int
    resume_ns: int
    last_look_ns: int

    @property
    def extra_ns(self) -> int:
        """What its stop takes beyond a simulation: QEMU gives the state, and the last look is a shorter one."""
        return self.save_ns + self.last_look_ns - self.seen.look_ns

    def subject(self, phase: float = 0.0) -> Subject:
        """The guest to simulate, which begins when that share of the recording has gone by."""
        blocks = tuple((block.name, block.length_bytes) for block in self.seen.blocks)
        workload = Looped(_begun_later(self.seen.rows, phase))
        state_bytes = max(MIN_DEVICE_STATE_BYTES, self.state_bytes)
        return Subject(Machine(blocks, workload=workload, device_state_bytes=state_bytes), self.zero_runs)

    def on_its_hosts(self, scenario: Scenario) -> Scenario:
        """The scenario with what it costs the hosts to look at this VM, to stop it and to let it run.

        The destination is a QEMU. What a calibrated message costs is an interpreter's share, which it has not.
        """
        pages = sum(block.pages for block in self.seen.blocks)
        here = {"sync_page_ns": self.seen.look_ns / pages, "stop_ns": float(self.stop_ns)}
        there = {"message_ns": 0.0, "resume_ns": float(self.resume_ns)}
        destination = scenario.destination_host or scenario.host
        update = {
            "host": scenario.host.model_copy(update=here),
            "destination_host": destination.model_copy(update=there),
        }
        return scenario.model_copy(update=update)

    @property
    def words(self) -> str:
        """In a line."""
        save, stop = (f"{ns / 1e6:.0f} ms" for ns in (self.save_ns, self.stop_ns))
        words = f"{self.seen.words}; {stop} to stop it, {save} for {self.state_bytes} bytes of devices' state"
        if self.seen.duration_ns < self.first_round_ns:
            words += f"; a first round takes {self.first_round_ns / 1e9:.0f} s, longer than it was watched"
        return words


def watch_vm(qmp: Path, duration_ns: int | None, bandwidth_bit_s: float, tell: Tell) -> Watched:
    """Watch the VM of the QEMU whose QMP socket is `qmp`, stop it for moments. Raises InputError.

    Without `duration_ns` for as long as a link of that bandwidth takes for its memory once, 5 s to 60 s.
    """

    async def body() -> Watched:
        guest = await take_hold(qmp)
        runtime = RdmaRuntime()
        try:
            first_round_ns = _copy_ns(guest, bandwidth_bit_s)
            for_ns = min(max(first_round_ns, _LEAST_NS), _MOST_NS) if duration_ns is None else duration_ns
            seen = await watch(guest, runtime, for_ns, LOOK_EVERY_NS, tell)
            zero_runs = _within_blocks(runs_of(guest.zero_pages()), guest.blocks)
            return Watched(seen, first_round_ns, zero_runs, *await _stopped_for_moments(guest, runtime))
        except QemuError as error:
            raise InputError(f"--qemu {qmp}: {error}") from None
        finally:
            await guest.close()

    return asyncio.run(body())


async def _stopped_for_moments(guest: QemuGuest, runtime: RdmaRuntime) -> tuple[int, int, int, int, int]:
    """How long its state is, and medians: to stop it, to give that, to let it run, and to look at it meanwhile."""
    took: list[tuple[int, ...]] = []
    flags = np.zeros(guest.pages, dtype=np.bool_)
    guest.start_dirty_log()
    while len(took) < _STOPS:
        times_ns = [runtime.now_ns()]
        try:
            await guest.stop()
            times_ns.append(runtime.now_ns())
            guest.sync_dirty(flags)
            times_ns.append(runtime.now_ns())
            state = await guest.save_device_state()
            times_ns.append(runtime.now_ns())
            await guest.ask()
            times_ns.append(runtime.now_ns())
        finally:
            await guest.resume()
        times_ns.append(runtime.now_ns())
        if guest.lost:
            raise QemuError(f"the VM was stopped for a moment, and does not run on: {guest.lost}")
        took.append(tuple(after - before for before, after in pairwise(times_ns)))
        await runtime.sleep(LOOK_EVERY_NS)
    guest.stop_dirty_log()
    stop_ns, look_ns, save_ns, ask_ns, resume_ns = (round(median(each)) for each in zip(*took, strict=True))
    resume_ns = max(0, resume_ns - _ASKED_TO_RESUME * ask_ns)
    try:
        sections, _ = machine_state.with_ending(state, MAX_ENDING_BYTES)
    except ValueError as error:
        raise QemuError(str(error)) from None
    return len(sections), stop_ns, save_ns, resume_ns, look_ns


def _copy_ns(guest: QemuGuest, bandwidth_bit_s: float) -> int:
    """How long a link takes for the pages that are not zero. The VM runs: some may change meanwhile."""
    pages = guest.pages - int(np.count_nonzero(guest.zero_pages()))
    return round(pages * PAGE_BYTES * 8e9 / bandwidth_bit_s)


def _begun_later(rows: Sequence[Row], phase: float) -> list[Row]:
    """The rows of a recording that is gone through again and again, from the look after that share of it."""
    period_ns = rows[-1][0] if rows else 0
    begin_ns = max((at_ns for at_ns, _, _ in rows if at_ns <= phase * period_ns), default=0)
    later = [(at_ns - begin_ns, first, count) for at_ns, first, count in rows if at_ns > begin_ns]
    before = [(at_ns - begin_ns + period_ns, first, count) for at_ns, first, count in rows if at_ns <= begin_ns]
    return later + before


def _within_blocks(runs: Sequence[tuple[int, int]], blocks: Sequence[RamBlock]) -> list[tuple[int, int]]:
    """The runs of pages, cut where a block ends."""
    cut = []
    for first, count in runs:
        for block in blocks:
            begin = max(first, block.first_page)
            end = min(first + count, block.first_page + block.pages)
            if begin < end:
                cut.append((begin, end - begin))
    return cut
