"""The simulated guest against one that does every write by itself, and however often somebody looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simmig.guest.machine import Machine
from simmig.guest.workload import BATCH_WRITES, Workload
from simmig.trace.events import AnyEvent, PagesDirtied
from tests.guest.rig import BLOCKS, ORDERS, PAGE, PAGES, Rig, workloads


class SlowGuest:
    """The same machine with a dictionary for its memory, write by write. Pages are the machine's own."""

    def __init__(self, machine: Machine) -> None:
        self.workload = machine.workload
        self.contents: dict[int, object] = {}
        first = 0
        for _, length_bytes in machine.blocks:
            pages = length_bytes // PAGE
            chunks = -(-pages // 256)
            zero_pages = int(chunks * machine.zero_fraction + 0.5)
            for page in range(pages):
                zero = page // 256 >= chunks - zero_pages
                self.contents[first + page] = "zero" if zero else ("initial", first + page)
            first += pages
        self.guest_ns = self.done = self.told = 0
        self.running = True
        self.log: set[int] | None = None
        self.ballooned: set[int] = set()
        self.writes = 0

    def put(self, page: int, content: object) -> None:
        self.contents[page] = content
        self.writes += 1
        if self.log is not None:
            self.log.add(page)

    def pass_time(self, duration_ns: int) -> None:
        if self.running:
            self.guest_ns += duration_ns
            while self.done < self.workload.writes_by(self.guest_ns):
                page = int(self.workload.batch(self.done // BATCH_WRITES)[self.done % BATCH_WRITES])
                self.put(page, ("write", self.done))
                self.done += 1

    def tell(self, pages: range, zero: bool) -> None:
        for page in pages:
            self.put(page, "zero" if zero else ("told", self.told))
            self.told += 1

    def balloon(self, pages: range) -> None:
        for page in pages:
            self.contents[page] = "zero"
            self.ballooned.add(page)

    def deflate(self, pages: range) -> None:
        self.ballooned -= set(pages)
        self.tell(pages, zero=True)

    def sync(self) -> set[int]:
        dirty = (self.log or set()) - self.ballooned
        if self.log is not None:
            self.log = set()
        return dirty


runs = st.sampled_from(BLOCKS).flatmap(
    lambda block: st.tuples(st.just(block[0]), st.integers(0, block[1] // PAGE - 1), st.integers(1, 300))
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(0, 10**6)),
        st.tuples(st.sampled_from(["write", "write zeros", "balloon", "deflate", "read", "zero test"]), runs),
        st.tuples(st.sampled_from(["sync", "sync", "stop", "resume", "start log", "stop log"]), st.none()),
    ),
    max_size=25,
)


def do(rig: Rig, slow: SlowGuest, name: str, pages: range, machine_pages: range) -> None:
    """One step on a run of pages, on both."""
    guest, first, count = rig.guest, pages.start, len(pages)
    if name == "balloon":
        guest.balloon(first, count)
        slow.balloon(machine_pages)
    elif name == "zero test":
        assert guest.is_zero(first, count) == all(slow.contents[page] == "zero" for page in machine_pages)
    elif name == "read":
        rig.read(first, count)
    elif not slow.running:
        with pytest.raises(RuntimeError):
            guest.write(first, count)
    elif name == "deflate":
        guest.deflate(first, count)
        slow.deflate(machine_pages)
    elif name == "write":
        guest.write(first, count)
        slow.tell(machine_pages, zero=False)
    else:
        guest.write_zeros(first, count)
        slow.tell(machine_pages, zero=True)


def switch(rig: Rig, slow: SlowGuest, name: str) -> None:
    """One step on the whole machine, on both."""
    if name in ("stop", "resume"):
        rig.run(rig.guest.stop() if name == "stop" else rig.guest.resume())
        slow.running = name == "resume"
        assert rig.guest.running == slow.running
    elif name == "start log":
        rig.guest.start_dirty_log()
        slow.log = set()
    else:
        rig.guest.stop_dirty_log()
        slow.log = None


@settings(max_examples=300)
@given(
    workload=workloads,
    zero_fraction=st.sampled_from([0.0, 0.3, 1.0]),
    order=st.sampled_from(ORDERS),
    script=steps,
)
def test_guest_does_what_a_slow_guest_does(
    workload: Workload, zero_fraction: float, order: list[str], script: list[tuple[str, Any]]
) -> None:
    machine = Machine(BLOCKS, zero_fraction, workload)
    events: list[AnyEvent] = []
    rig, slow = Rig(machine, order=order, emit=events.append), SlowGuest(machine)
    machine_first = {"pc.ram": 0, "pc.bios": 600, "pc.rom": 664}
    machine_page = [machine_first[block.name] + page for block in rig.guest.blocks for page in range(block.pages)]
    assert len(machine_page) == PAGES
    # Equal contents must have equal ids and different ones different ids, at any two moments.
    id_of: dict[object, int] = {"zero": 0}
    content_of: dict[int, object] = {0: "zero"}

    def look() -> None:
        for page, found in enumerate(rig.ids()):
            content = slow.contents[machine_page[page]]
            assert id_of.setdefault(content, found) == found
            assert content_of.setdefault(found, content) == content

    for name, argument in [*script, ("pass", 123_457), ("sync", None)]:
        if name == "pass":
            rig.pass_time(argument)
            slow.pass_time(argument)
        elif name == "sync":
            assert {machine_page[page] for page in rig.sync()} == slow.sync()
            assert {machine_page[int(p)] for p in np.flatnonzero(rig.guest.ballooned())} == slow.ballooned
            look()
        elif argument is None:
            switch(rig, slow, name)
        else:
            block = next(block for block in rig.guest.blocks if block.name == argument[0])
            pages = range(block.first_page + argument[1], block.first_page + argument[1] + argument[2])
            pages = pages[: block.pages - argument[1]]
            do(rig, slow, name, pages, range(machine_page[pages.start], machine_page[pages.start] + len(pages)))
    assert sum(event.writes for event in events if isinstance(event, PagesDirtied)) == slow.writes


@given(workload=workloads, cuts=st.lists(st.integers(0, 10**8), max_size=20))
def test_it_does_not_matter_how_often_somebody_looks(workload: Workload, cuts: list[int]) -> None:
    watched, unwatched = (Rig(Machine(BLOCKS, workload=workload)) for _ in range(2))
    watched.guest.start_dirty_log()
    unwatched.guest.start_dirty_log()
    for cut in sorted(cuts):
        watched.pass_time(cut - int(watched.env.now))
        watched.read(0, 1)
    for rig in (watched, unwatched):
        rig.pass_time(10**8 - int(rig.env.now))
    assert watched.ids() == unwatched.ids()
    assert watched.sync() == unwatched.sync()
