"""A dirty log of larger pages: against marking, page by page, all of the larger page a written page lies in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from simmig.guest.dirty import spread_marks
from simmig.guest.machine import Machine
from simmig.guest.workload import Idle, Uniform
from simmig.migration.config import CHUNK_PAGES
from simmig.trace.events import BitmapSynced
from tests.endtoend.worlds import simulate
from tests.guest.rig import BLOCKS, ORDERS, PAGE, PAGES, Rig

STARTS = [0, 600, 664]


def larger(pages: set[int], unit: int) -> set[int]:
    """Every page that shares a larger page with one of these, in the machine's order."""
    found = set()
    for page in pages:
        block = max(start for start in STARTS if start <= page)
        end = min([*(start for start in STARTS if start > block), PAGES])
        first = block + (page - block) // unit * unit
        found |= set(range(first, min(first + unit, end)))
    return found


@given(st.lists(st.booleans(), max_size=70), st.integers(1, 80))
def test_marks_spread_over_their_unit(flags: list[bool], unit: int) -> None:
    marks = np.array(flags, dtype=np.bool_)
    spread_marks(marks, unit)
    expected = [any(flags[place // unit * unit : (place // unit + 1) * unit]) for place in range(len(flags))]
    assert marks.tolist() == expected


@given(
    written=st.lists(st.integers(0, PAGES - 1), max_size=5),
    unit=st.sampled_from([1, 4, 64, 512, 4096]),
    order=st.sampled_from(ORDERS),
    given_back=st.booleans(),
)
def test_a_write_dirties_all_of_the_larger_page(
    written: list[int], unit: int, order: list[str], given_back: bool
) -> None:
    rig = Rig(Machine(BLOCKS, 0.0, Idle(), dirty_log_page_bytes=unit * PAGE), order=order)
    if given_back:
        block = next(each for each in rig.guest.blocks if each.name == "pc.ram")
        rig.guest.balloon(block.first_page + 100, 50)
    rig.guest.start_dirty_log()
    places = machine_order(rig)
    back = {machine: here for here, machine in enumerate(places)}
    for page in written:
        rig.guest.write(back[page])
    expected = larger(set(written), unit) - (set(range(100, 150)) if given_back else set())
    bitmap = np.zeros(PAGES, dtype=np.bool_)
    bitmap[back[0]] = True
    new = rig.guest.sync_dirty(bitmap)
    assert {places[here] for here in np.flatnonzero(bitmap)} == expected | {0}
    assert new == len(expected - {0})
    assert rig.guest.sync_dirty(bitmap) == 0  # it is forgotten


def machine_order(rig: Rig) -> list[int]:
    """The machine's number of each page of this host's order."""
    starts = dict(zip((name for name, _ in BLOCKS), STARTS, strict=True))
    return [starts[block.name] + page for block in rig.guest.blocks for page in range(block.pages)]


@pytest.mark.parametrize("unit_pages", [512, CHUNK_PAGES, 16 * CHUNK_PAGES])
def test_what_a_round_sends_is_whole_larger_pages(unit_pages: int) -> None:
    """A slow writer of a 64 MiB guest: as many larger pages are dirty as it touched, and nothing else differs."""
    size = f"{unit_pages * 4} KiB"
    workload = {"kind": "uniform", "working_set": "64 MiB", "rate": "1 MiB/s"}
    guest = {"memory": "64 MiB", "workload": workload, "dirty_log_page": size}
    link = {"bandwidth": "1 Gbit/s", "latency": "5 us"}
    result, events = simulate(guest=guest, link=link, migration__downtime_limit="1 ns", migration__max_rounds=3)
    assert all(result.invariants.values())
    syncs = [event.t_ns for event in events if isinstance(event, BitmapSynced)]
    dirtied = [event.new_pages for event in events if isinstance(event, BitmapSynced)]
    touched = pages_touched(Uniform(64 << 20, 1 << 20, 1), syncs[0], syncs[1])
    assert len(touched) > 64
    assert dirtied[1] == unit_pages * len({page // unit_pages for page in touched})


def pages_touched(workload: Uniform, since_ns: int, until_ns: int) -> set[int]:
    pages: NDArray[np.int64] = np.concatenate([workload.batch(index) for index in range(4)])
    return set(pages[workload.writes_by(since_ns) : workload.writes_by(until_ns)].tolist())
