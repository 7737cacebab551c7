from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from simmig.guest.machine import MIN_DEVICE_STATE_BYTES, Machine
from simmig.guest.memory import PagePayload
from simmig.guest.sim import SimGuest, different_pages
from simmig.guest.workload import BATCH_WRITES, Hotspot, Idle, Recorded, Sweep, Uniform, Workload
from simmig.trace.events import AnyEvent, PagesDirtied
from simmig.verbs.sim.host import Host, HostCosts
from simmig.verbs.sim.memory import Payload
from simmig.verbs.sim.runtime import SimRuntime

PAGE = 4096
MIB = 1 << 20
SECOND = 10**9
BLOCKS = (("pc.ram", 600 * PAGE), ("pc.bios", 64 * PAGE), ("pc.rom", 3 * PAGE))
PAGES = 667
ORDERS = [["pc.ram", "pc.bios", "pc.rom"], ["pc.rom", "pc.ram", "pc.bios"], ["pc.bios", "pc.rom", "pc.ram"]]


class Rig:
    """A guest on a host of its own."""

    def __init__(
        self,
        machine: Machine,
        *,
        env: simpy.Environment | None = None,
        costs: HostCosts | None = None,
        incoming: bool = False,
        order: list[str] | None = None,
        emit: Callable[[AnyEvent], None] | None = None,
    ) -> None:
        self.env = env or simpy.Environment()
        self.host = Host(self.env, "here", costs or HostCosts())
        self.runtime = SimRuntime(self.host)
        self.guest = SimGuest(self.host, self.runtime, machine, incoming=incoming, order=order, emit=emit)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it as a task of the host to its end; returns what it returns, raises what it raises."""
        outcome: list[Any] = []

        async def keep() -> None:
            try:
                outcome.append(await coroutine)
            except Exception as error:
                outcome.append(error)

        task = self.runtime.start(keep(), "test")
        while not task.done:
            self.env.step()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def pass_time(self, duration_ns: int) -> None:
        """Let virtual time go by."""
        if duration_ns:
            self.env.run(until=self.env.now + duration_ns)

    def read(self, page: int, count: int) -> Payload:
        """What a device reads from pages of one block."""
        block = next(b for b in self.guest.blocks if b.first_page <= page < b.first_page + b.pages)
        address = block.address + (page - block.first_page) * PAGE
        mapping = self.host.memory.find(address, count * PAGE)
        assert mapping is not None
        return mapping.read(address, count * PAGE)

    def put(self, page: int, payload: Payload, offset_bytes: int = 0) -> None:
        """Have a device write there."""
        block = next(b for b in self.guest.blocks if b.first_page <= page < b.first_page + b.pages)
        address = block.address + (page - block.first_page) * PAGE + offset_bytes
        mapping = self.host.memory.find(address, 1)
        assert mapping is not None
        mapping.write(address, payload)

    def ids(self) -> list[int]:
        """The content ids of all pages."""
        found: list[int] = []
        for block in self.guest.blocks:
            payload = self.read(block.first_page, block.pages)
            assert isinstance(payload, PagePayload)
            found.extend(int(word) for word in payload.ids)
        return found

    def sync(self, bitmap: np.ndarray[Any, np.dtype[np.bool_]] | None = None) -> set[int]:
        """The pages of a sync into that bitmap (an empty one)."""
        bitmap = np.zeros(PAGES, dtype=np.bool_) if bitmap is None else bitmap
        before = int(np.count_nonzero(bitmap))
        ballooned = int(np.count_nonzero(bitmap & self.guest.ballooned()))
        turned_on = self.guest.sync_dirty(bitmap)
        assert turned_on == int(np.count_nonzero(bitmap)) - before + ballooned
        return set(np.flatnonzero(bitmap).tolist())


def copy_memory(source: Rig, target: Rig) -> None:
    """Copy all blocks, by name, as a device would."""
    places = {block.name: block.first_page for block in target.guest.blocks}
    for block in source.guest.blocks:
        for page in range(0, block.pages, 256):
            payload = source.read(block.first_page + page, min(256, block.pages - page))
            target.put(places[block.name] + page, payload)


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


workloads = st.one_of(
    st.just(Idle()),
    st.builds(Sweep, st.integers(1, PAGES).map(lambda n: n * PAGE), st.integers(0, 10**9)),
    st.builds(Uniform, st.integers(1, PAGES).map(lambda n: n * PAGE), st.integers(0, 10**9), st.integers(0, 99)),
    st.builds(
        Hotspot, st.just(500 * PAGE), st.integers(0, 10**9), st.just(20 * PAGE), st.floats(0, 1), st.just(4)
    ),
    st.just(Recorded([(10**6, 590, 60), (2 * 10**6, 0, 5), (2 * 10**6, 100, 50)])),
)
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


def test_sync_gathers_in_a_bitmap_and_counts_only_new_bits() -> None:
    rig = Rig(Machine(BLOCKS))
    rig.guest.start_dirty_log()
    bitmap = np.zeros(PAGES, dtype=np.bool_)
    rig.guest.write(10, 5)
    assert rig.guest.sync_dirty(bitmap) == 5
    rig.guest.write(12, 5)
    assert rig.guest.sync_dirty(bitmap) == 2
    assert rig.guest.sync_dirty(bitmap) == 0
    assert np.flatnonzero(bitmap).tolist() == list(range(10, 17))
    with pytest.raises(ValueError, match="666"):
        rig.guest.sync_dirty(bitmap[:-1])


def test_a_page_given_back_leaves_the_bitmap_and_comes_back_when_taken() -> None:
    rig = Rig(Machine(BLOCKS))
    rig.guest.start_dirty_log()
    bitmap = np.ones(PAGES, dtype=np.bool_)
    rig.guest.write(100, 10)
    rig.guest.balloon(95, 10)
    assert rig.guest.sync_dirty(bitmap) == 0
    assert (
        np.flatnonzero(~bitmap).tolist() == list(range(95, 105)) == np.flatnonzero(rig.guest.ballooned()).tolist()
    )
    assert rig.guest.is_zero(95, 10)
    rig.guest.deflate(100, 2)
    rig.guest.write(101)
    assert rig.guest.sync_dirty(bitmap) == 2
    assert np.flatnonzero(~bitmap).tolist() == [95, 96, 97, 98, 99, 102, 103, 104]
    assert rig.guest.is_zero(100, 1)
    assert not rig.guest.is_zero(101, 1)


def test_ballooned_flags_are_a_copy() -> None:
    rig = Rig(Machine(BLOCKS))
    rig.guest.balloon(0, 1)
    flags = rig.guest.ballooned()
    rig.guest.balloon(1, 1)
    assert flags[:2].tolist() == [True, False]


def test_pages_that_lie_in_no_block_are_refused() -> None:
    rig = Rig(Machine(BLOCKS))
    for first, count in ((599, 2), (-1, 1), (667, 1), (0, 0)):
        with pytest.raises(ValueError, match="do not lie in one RAM block"):
            rig.guest.is_zero(first, count)


def test_blocks_lie_end_to_end_in_the_order_asked_for() -> None:
    blocks = Rig(Machine(BLOCKS), order=["pc.rom", "pc.ram", "pc.bios"]).guest.blocks
    assert [block.name for block in blocks] == ["pc.rom", "pc.ram", "pc.bios"]
    assert [block.first_page for block in blocks] == [0, 3, 603]
    assert [block.offset_bytes for block in blocks] == [0, 256 << 10, (256 << 10) + (2560 << 10)]
    with pytest.raises(ValueError, match="order"):
        Rig(Machine(BLOCKS), order=["pc.ram"])


def test_stopping_takes_time_in_which_the_guest_still_writes() -> None:
    events: list[AnyEvent] = []
    costs = HostCosts(stop_ns=300.4, resume_ns=50)
    rig = Rig(Machine(BLOCKS, workload=Sweep(600 * PAGE, PAGE * SECOND)), costs=costs, emit=events.append)
    rig.pass_time(100)
    rig.run(rig.guest.stop())
    assert rig.env.now == 400
    assert events == [PagesDirtied(400, "source", 400)]
    before = rig.ids()
    rig.pass_time(1000)
    assert rig.ids() == before
    rig.run(rig.guest.stop())
    assert rig.env.now == 1400
    rig.run(rig.guest.resume())
    rig.run(rig.guest.resume())
    assert rig.env.now == 1450
    rig.pass_time(7)
    assert [page for page, (old, new) in enumerate(zip(before, rig.ids(), strict=True)) if old != new] == list(
        range(400, 407)
    )


def test_a_host_at_work_sees_what_is_written_meanwhile() -> None:
    rig = Rig(Machine(BLOCKS, workload=Sweep(600 * PAGE, PAGE * SECOND)))
    rig.guest.start_dirty_log()
    rig.host.charge(50)
    assert rig.sync() == set(range(50))


def moved(source: Rig, **arguments: Any) -> Rig:
    """The same machine on another host, with the source's device state."""
    target = Rig(source.guest._machine, env=source.env, incoming=True, **arguments)
    source.run(source.guest.stop())
    state = source.run(source.guest.save_device_state())
    target.run(target.guest.load_device_state(state))
    return target


@given(workload=workloads, before_ns=st.integers(0, 10**7), order=st.sampled_from(ORDERS))
def test_the_workload_goes_on_where_it_stopped(workload: Workload, before_ns: int, order: list[str]) -> None:
    machine = Machine(BLOCKS, workload=workload)
    source, stays = Rig(machine), Rig(machine)
    for rig in (source, stays):
        rig.pass_time(before_ns)
        rig.guest.write(3)
    target = moved(source, order=order)
    copy_memory(source, target)
    source.pass_time(12345)  # it stands still on both sides
    assert different_pages(source.guest, target.guest) == 0
    target.run(target.guest.resume())
    for rig in (target, stays):
        rig.pass_time(10**6)
        rig.guest.write(target.guest.blocks[0].first_page if rig is target else stays_page(order))
    assert different_pages(stays.guest, target.guest) == 0
    assert not source.guest.running


def stays_page(order: list[str]) -> int:
    """Where the machine's own order has the first page of the block that comes first in that order."""
    return {"pc.ram": 0, "pc.bios": 600, "pc.rom": 664}[order[0]]


@given(
    page=st.integers(0, PAGES - 1), order=st.sampled_from(ORDERS), how=st.sampled_from(["byte", "zero", "page"])
)
def test_comparison_finds_any_single_page(page: int, order: list[str], how: str) -> None:
    source = Rig(Machine(BLOCKS, workload=Uniform(MIB, 10**9, 1)))
    source.pass_time(10**6)
    target = moved(source, order=order)
    assert different_pages(source.guest, target.guest) == PAGES
    copy_memory(source, target)
    assert different_pages(source.guest, target.guest) == 0
    if how == "byte":
        target.put(page, b"\xfe", 7)
    elif how == "zero":
        target.guest.zero(page, 1)
    else:
        target.put(page, source.read((page + 1) % PAGES, 1))
    assert different_pages(source.guest, target.guest) == 1


def test_comparison_leaves_out_what_was_given_back() -> None:
    source = Rig(Machine(BLOCKS))
    source.guest.balloon(500, 100)
    target = moved(source, order=["pc.bios", "pc.rom", "pc.ram"])
    copy_memory(source, target)
    target.put(67 + 550, b"x")
    assert different_pages(source.guest, target.guest) == 0
    target.put(67 + 450, b"x")
    assert different_pages(source.guest, target.guest) == 1


def test_only_equal_machines_are_compared() -> None:
    with pytest.raises(ValueError, match="RAM blocks"):
        different_pages(Rig(Machine(BLOCKS)).guest, Rig(Machine(BLOCKS[:2])).guest)


def test_a_snapshot_stays_while_the_guest_writes_on() -> None:
    rig = Rig(Machine(BLOCKS, workload=Sweep(300 * PAGE, PAGE * SECOND)))
    payload = rig.read(0, 256)
    before = payload if isinstance(payload, bytes) else payload.to_bytes()
    rig.pass_time(200)
    assert rig.read(0, 256) != payload
    assert (payload if isinstance(payload, bytes) else payload.to_bytes()) == before


def test_an_unaligned_read_gives_bytes() -> None:
    rig = Rig(Machine(BLOCKS))
    block = rig.guest.blocks[0]
    mapping = rig.host.memory.find(block.address, block.length_bytes)
    assert mapping is not None
    whole = mapping.read(block.address, 2 * PAGE)
    assert not isinstance(whole, bytes)
    assert mapping.read(block.address + 100, PAGE) == whole.to_bytes()[100 : 100 + PAGE]


def test_incoming_memory_is_zero_and_does_not_run() -> None:
    rig = Rig(Machine(BLOCKS, workload=Sweep(MIB, 10**9)), incoming=True)
    rig.pass_time(SECOND)
    assert not rig.guest.running
    assert rig.ids() == [0] * PAGES
    with pytest.raises(RuntimeError, match="device state"):
        rig.run(rig.guest.resume())


@pytest.mark.parametrize("length", [MIN_DEVICE_STATE_BYTES, 21, 1000, 3 * MIB + 1])
def test_device_state_is_as_long_as_asked_and_always_the_same(length: int) -> None:
    states = []
    for _ in range(2):
        rig = Rig(Machine(BLOCKS, device_state_bytes=length))
        rig.run(rig.guest.stop())
        states.append(rig.run(rig.guest.save_device_state()))
    assert states[0] == states[1]
    assert len(states[0]) == length


@given(place=st.integers(0, 99), flip=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_device_state_is_refused(place: int, flip: int, cut: bool) -> None:
    source = Rig(Machine(BLOCKS, device_state_bytes=100))
    source.run(source.guest.stop())
    state = bytearray(source.run(source.guest.save_device_state()))
    if cut:
        del state[place]
    else:
        state[place] ^= flip
    target = Rig(Machine(BLOCKS, device_state_bytes=100), incoming=True)
    with pytest.raises(ValueError, match="device state"):
        target.run(target.guest.load_device_state(bytes(state)))
    with pytest.raises(RuntimeError, match="device state"):
        target.run(target.guest.resume())


def test_device_state_needs_a_stopped_guest() -> None:
    rig = Rig(Machine(BLOCKS))
    with pytest.raises(RuntimeError, match="running"):
        rig.run(rig.guest.save_device_state())
    with pytest.raises(RuntimeError, match="running"):
        rig.run(rig.guest.load_device_state(b""))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Machine(()),
        lambda: Machine((("a", PAGE), ("a", PAGE))),
        lambda: Machine((("a", PAGE + 1),)),
        lambda: Machine((("a", 0),)),
        lambda: Machine((("a", 9 << 40),)),
        lambda: Machine(BLOCKS, -0.1),
        lambda: Machine(BLOCKS, 1.1),
        lambda: Machine(BLOCKS, workload=Sweep((PAGES + 1) * PAGE, 1)),
        lambda: Machine(BLOCKS, device_state_bytes=MIN_DEVICE_STATE_BYTES - 1),
    ],
)
def test_what_no_machine_can_be_is_refused(make: Callable[[], Machine]) -> None:
    with pytest.raises(ValueError, match=r"RAM block|memory|fraction|workload|device state"):
        make()
