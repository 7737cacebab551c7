"""From a scenario's guest to the machine that both simulated hosts know."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from simmig.experiment.amounts import format_bytes
from simmig.experiment.errors import InputError, shown
from simmig.experiment.scenario import schema
from simmig.experiment.scenario.dirty_rates import workload_of
from simmig.guest import workload
from simmig.guest.api import PAGE_BYTES
from simmig.guest.machine import Machine
from simmig.guest.sim import SimGuest


@dataclass(frozen=True)
class Subject:
    """A guest that no scenario describes: `zero_runs`, as (first page, count), are zero when it begins."""

    machine: Machine
    zero_runs: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class Devices:
    """Real devices, by name: where the guest is, and where it goes."""

    source: str
    destination: str


RECORDING_COLUMNS = ["time_ns", "first_page", "pages"]
MAX_RECORDING_ROWS = 4_000_000
MAX_REPEATED_BYTES_S = 1 << 40
"""Half a gigabyte of them in memory; a file that never ends has more."""
_LINE = 200


def machine_of(scenario: schema.Scenario) -> Machine:
    """The machine; raises InputError for a recording or a balloon that cannot be used."""
    guest = scenario.guest
    try:
        machine = Machine(
            tuple(guest.blocks),
            guest.zero_fraction,
            _workload(scenario),
            device_state_bytes=guest.device_state_bytes,
            dirty_log_page_bytes=guest.dirty_log_page_bytes,
        )
    except ValueError as error:
        raise InputError(f"guest: {error}") from None
    if machine.workload.span.stop + guest.ballooned_pages > machine.pages:
        left_bytes = (machine.pages - machine.workload.span.stop) * PAGE_BYTES
        raise InputError(f"guest.ballooned: the workload leaves only {format_bytes(left_bytes)} to give back")
    return machine


def inflate_balloon(guest: SimGuest, machine: Machine, pages: int) -> None:
    """Have the guest give back that many pages, those that come right after what its workload writes."""
    first = machine.workload.span.stop
    for block in guest.blocks:
        begin = max(first, block.first_page)
        count = min(pages, block.first_page + block.pages - begin)
        if count > 0:
            guest.balloon(begin, count)
            pages -= count


def _workload(scenario: schema.Scenario) -> workload.Workload:
    guest, table = scenario.guest, scenario.guest.workload
    match table:
        case schema.UniformTable():
            return workload.Uniform(table.working_set_bytes, table.rate_bytes_s, scenario.seed)
        case schema.SweepTable():
            return workload.Sweep(table.working_set_bytes, table.rate_bytes_s)
        case schema.HotspotTable():
            return workload.Hotspot(
                table.working_set_bytes, table.rate_bytes_s, table.hot_set_bytes, table.hot_fraction, scenario.seed
            )
        case schema.RecordedTable():
            return _recorded(Path(table.file), table.page_bytes // PAGE_BYTES, guest.memory_bytes // PAGE_BYTES)
        case schema.DirtyRates():
            return workload_of(table, guest.memory_bytes, scenario.seed)
        case _:
            return workload.Idle()


def _recorded(path: Path, unit: int, pages: int) -> workload.Recorded:
    """A recording is CSV: when (ns since the guest's start), and which pages were written since the row before.

    Its rows count pages of `unit` pages; the guest's last may be cut short.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.reader(_bounded(file, path))
            if next(lines, None) != RECORDING_COLUMNS:
                columns = ",".join(RECORDING_COLUMNS)
                raise InputError(f"{path}: a recording's first line is {columns} (`simmig explain recording`)")
            rows = [_row(path, lines.line_num, line) for line in islice(lines, MAX_RECORDING_ROWS + 1) if line]
        if len(rows) > MAX_RECORDING_ROWS:
            raise InputError(f"{path}: more than {MAX_RECORDING_ROWS} rows, which a recording has at most")
        recorded = workload.Recorded(rows if unit == 1 else [_in_pages(row, unit, pages) for row in rows])
        writes, interval_ns = recorded.repeated
        if writes * PAGE_BYTES * 10**9 > MAX_REPEATED_BYTES_S * interval_ns:
            raise InputError(
                f"{path}: its last interval, {writes} pages in {interval_ns} ns, repeats for ever, and no guest"
                " writes more than 1 TiB/s: times are nanoseconds since its start"
            )
        return recorded
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file: {error}") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def _in_pages(row: tuple[int, int, int], unit: int, pages: int) -> tuple[int, int, int]:
    time_ns, first, count = row
    end = (first + count) * unit
    if pages <= end < pages + unit:  # the last of them is not all there
        end = pages
    return time_ns, first * unit, max(0, end - first * unit) if count > 0 else count


def _bounded(file: IO[str], path: Path) -> Iterator[str]:
    """Its lines, none of which is read further than a row can be long."""
    while line := file.readline(_LINE):
        if len(line) == _LINE:
            raise InputError(f"{path}: not a recording: a line of more than {_LINE} characters")
        yield line


def _row(path: Path, number: int, line: list[str]) -> tuple[int, int, int]:
    try:
        time_ns, first_page, count = (int(cell) for cell in line)
    except ValueError:
        raise InputError(f"{path}: line {number}: {shown(','.join(line))} is not three whole numbers") from None
    return time_ns, first_page, count
