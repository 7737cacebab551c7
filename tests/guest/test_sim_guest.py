"""What a simulated guest does: dirty log, ballooning, stopping, moving, comparing, device state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simmig.guest import machine_state
from simmig.guest.machine import MIN_DEVICE_STATE_BYTES, Machine
from simmig.guest.sim import different_pages
from simmig.guest.workload import Sweep, Uniform, Workload
from simmig.trace.events import AnyEvent, PagesDirtied
from simmig.verbs.sim.host import HostCosts
from tests.guest.rig import BLOCKS, MIB, ORDERS, PAGE, PAGES, SECOND, Rig, copy_memory, workloads


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
    sections, ending = machine_state.with_ending(states[0], 1000)
    assert (len(sections), len(ending)) == Machine(BLOCKS, device_state_bytes=length).state_sizes()
    assert (
        len(sections)
        == len(machine_state.section_header(machine_state.FULL, 3, "simmig-device", 1)) + 4 + length + 5
    )
    assert states[0] == sections + ending


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
