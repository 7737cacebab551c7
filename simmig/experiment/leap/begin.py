"""From a scenario to a state in which both ends are connected: no time passes yet."""

from __future__ import annotations

import ctypes
from math import gcd
from typing import Any

import numpy as np
from numpy.random import PCG64
from numpy.typing import NDArray

from simmig.experiment.leap.decide import POLICIES
from simmig.experiment.leap.envelope import MAX_RATE_BYTES_S
from simmig.experiment.leap.guest import HOTSPOT, IDLE, MIXTURE, RECORDED, SWEEP, UNIFORM
from simmig.experiment.leap.state import PARAMETERS, ROW, Declined, Memory, new_state
from simmig.experiment.scenario.machine import machine_of
from simmig.experiment.scenario.policy_choice import make_policy
from simmig.experiment.scenario.schema import HostTable, Scenario
from simmig.guest import workload
from simmig.guest.api import PAGE_BYTES, RamBlock
from simmig.guest.machine import MACHINE_NAME, Machine
from simmig.migration import savevm
from simmig.migration.config import CHUNK_PAGES
from simmig.migration.control import DEFERRED_BUFFERS, PATIENCE_NS
from simmig.migration.convergence import Convergence, Shrinking
from simmig.migration.limits import table_of
from simmig.migration.pace import Pace
from simmig.migration.rate_limit import RateLimit
from simmig.migration.rdma_stream import PIN_BYTES_S
from simmig.verbs.sim.profiles import PROFILES

_NS_BITS = 8_000_000_000
_SECOND_NS = 1_000_000_000
_KINDS: dict[type, int] = {
    workload.Idle: IDLE,
    workload.Sweep: SWEEP,
    workload.Uniform: UNIFORM,
    workload.Hotspot: HOTSPOT,
    workload.Recorded: RECORDED,
    workload.Mixture: MIXTURE,
}
_LARGE = 2.0**62
_NEVER = 1 << 62
_COSTS = (
    "post",
    "post_byte",
    "poll",
    "poll_cqe",
    "message",
    "scan",
    "sync",
    "zero_test",
    "write",
    "register",
    "register_page",
    "deregister",
    "deregister_page",
)
_KEYS = {"scan": "scan_page_ns", "sync": "sync_page_ns", "zero_test": "zero_test_page_ns"}


def begin(scenario: Scenario, slice_rows: int, traced: bool = False) -> tuple[Any, Memory, PCG64]:
    """The state of two connected ends, and the memory, with room for that many slices; and what draws for them."""
    machine = machine_of(scenario)
    state = new_state()
    s = state[0]
    _set_link(s, scenario)
    for side, host in enumerate((scenario.host, scenario.destination_host or scenario.host)):
        _set_host(s, side, host)
    _set_migration(s, scenario, machine)
    random = PCG64(scenario.seed)
    _set_workload(s, machine, random)
    memory = _memory(s, scenario, machine, slice_rows, traced)
    s["traced"] = traced
    s["connect_ns"] = scenario.host.connect_ns
    return state, memory, random


def _set_link(s: Any, scenario: Scenario) -> None:
    link = scenario.link
    divisor = gcd(_NS_BITS, link.bandwidth_bit_s)
    s["num"], s["den"] = _NS_BITS // divisor, link.bandwidth_bit_s // divisor
    s["latency"], s["mtu"], s["header"] = link.latency_ns, link.mtu_bytes, link.header_bytes
    s["stream_min"] = -(-link.latency_ns * int(s["den"]) // int(s["num"])) + 1
    window = PROFILES[scenario.device.profile].window_packets
    packet_ns = -(-(link.mtu_bytes + link.header_bytes) * int(s["num"]) // int(s["den"]))
    if packet_ns + 2 * link.latency_ns > window * packet_ns:  # else it never holds anything back
        s["window"], s["stream_min"] = window, _NEVER
        s["parted"] = (1, 1)


def _set_host(s: Any, side: int, host: HostTable) -> None:
    for cost in _COSTS:
        s[cost][side] = getattr(host, _KEYS.get(cost, f"{cost}_ns"))
    s["wake_ns"][side] = round(host.wake_ns)
    if side == 0 and host.stop_ns:
        s["stop_ns"] = round(host.stop_ns)
    if side == 1 and host.resume_ns:
        s["resume_ns"] = round(host.resume_ns)


def _set_migration(s: Any, scenario: Scenario, machine: Machine) -> None:
    migration = scenario.migration
    policy = make_policy(scenario.policy.name, scenario.policy.parameters)
    if scenario.policy.name in POLICIES:
        s["policy"] = POLICIES.index(scenario.policy.name)
        for name in PARAMETERS.names or ():
            s["parameters"][name] = getattr(policy, name, 0)
    s["pin_all"] = migration.pin_all
    s["own_control"] = migration.control_qp == "own"
    if s["own_control"]:
        s["parted"][0] = 1
    s["control_queue"] = (2 if s["own_control"] else 0, 1)
    s["deferred"] = migration.control_wait == "deferred"
    s["slots"] = DEFERRED_BUFFERS if s["deferred"] else 1
    s["registration_batch"] = migration.registration_batch
    s["max_rounds"], s["downtime_limit_ns"] = migration.max_rounds, migration.downtime_limit_ns
    s["stop_when_flat"] = migration.stop_when_flat
    s["single_slice"] = migration.slice_ns is None
    s["max_bandwidth"] = migration.max_bandwidth_bytes_s or 0
    config = migration.config()
    _keep(s["convergence"], Convergence(config, 0, 0))
    _keep(s["pace"], Pace(migration.slice_ns))
    _keep(s["rate_limit"], RateLimit(config, 0, 0))
    _keep(s["shrinking"], Shrinking())
    s["patience_ns"] = PATIENCE_NS
    if migration.pin_all:
        s["patience_ns"] += machine.pages * PAGE_BYTES * _SECOND_NS // PIN_BYTES_S
    blocks = [RamBlock(name, 0, length_bytes, 0, 0) for name, length_bytes in machine.blocks]
    opening = savevm.stream_header(MACHINE_NAME) + savevm.ram_start(blocks) + savevm.flag(savevm.FLAG_HOOK)
    s["start_bytes"] = len(opening)
    s["device_bytes"], s["ending_bytes"] = machine.state_sizes()


def _keep(record: Any, kept: object) -> None:
    for name in record.dtype.names:
        record[name] = getattr(kept, name)


def _set_workload(s: Any, machine: Machine, random: PCG64) -> None:
    writes = machine.workload
    s["log_page"] = machine.log_page_pages
    s["workload"] = s["kind"] = _KINDS[type(writes)] if writes.span else IDLE
    if not isinstance(writes, workload.Sweep | workload.Uniform | workload.Hotspot | workload.Mixture):
        return
    if writes.rate_bytes_s > MAX_RATE_BYTES_S:
        raise Declined
    s["rate"], s["span"] = writes.rate_bytes_s, len(writes.span)
    if isinstance(writes, workload.Hotspot):
        s["hot"] = writes.hot_set_bytes // PAGE_BYTES
        s["hot_below"] = int(writes.hot_fraction * 2**32)
    s["random_address"] = random.ctypes.state_address
    s["draw_address"] = ctypes.cast(random.ctypes.next_uint64, ctypes.c_void_p).value


def _memory(s: Any, scenario: Scenario, machine: Machine, slice_rows: int, traced: bool) -> Memory:
    lengths = np.array([length_bytes // PAGE_BYTES for _, length_bytes in machine.blocks], dtype=np.int64)
    ends = np.cumsum(lengths)
    firsts = ends - lengths
    chunks = -(-lengths // CHUNK_PAGES)
    pages = _bytes(machine.pages)
    pages[: machine.pages] = 1
    log = _bytes(machine.workload.span.stop if machine.log_page_pages == 1 else machine.pages)
    balloon = given_back(scenario, machine)
    for first, count in balloon:
        pages[first : first + count] = 0
    zero = np.zeros(0, dtype=np.uint8)
    if not scenario.migration.pin_all and (machine.zero_fraction or balloon):
        zero = np.zeros(machine.pages, dtype=np.uint8)
        for first, end in zip(firsts.tolist(), ends.tolist(), strict=True):
            zero[first + machine.zero_from(end - first) : end] = 1
        for first, count in balloon:
            zero[first : first + count] = 1
    s["page_count"], s["blocks"] = machine.pages, len(lengths)
    s["dirty"] = machine.pages - sum(count for _, count in balloon)
    s["held"]["block_end"] = ends[0]
    total = int(chunks.sum())
    return Memory(
        pages=pages,
        page_words=pages.view(np.uint64),
        log=log,
        log_words=log.view(np.uint64),
        zero=zero,
        last=np.zeros(total, dtype=np.int64),
        known=np.zeros(total, dtype=np.uint8),
        order=np.zeros(total + 1, dtype=np.int32),
        block_first=firsts,
        block_end=ends,
        block_chunk=np.cumsum(chunks) - chunks,
        rounds=np.empty((scenario.migration.max_rounds + 2, ROW), dtype=np.int64),
        slices=np.empty((slice_rows, ROW), dtype=np.int64),
        place=np.zeros(total, dtype=np.int32),
        written=np.zeros(machine.workload.span.stop if traced else 0, dtype=np.int32),
        changes=table_of(scenario.migration.config().changes),
        balloon=np.array(balloon, dtype=np.int64).reshape(-1, 2),
        **_tables(machine.workload),
    )


def _tables(writes: workload.Workload) -> dict[str, NDArray[np.int64]]:
    """A recorded workload's, or a mixture's; raises Declined where they need more than 64 bits on the way."""
    names = ("recorded_ends", "recorded_totals", "recorded_firsts", "recorded_starts")
    none = np.zeros(0, dtype=np.int64)
    if isinstance(writes, workload.Mixture):
        return dict(zip(names, (*writes.tables(), none), strict=True))
    if not isinstance(writes, workload.Recorded):
        return dict.fromkeys(names, none)
    tables = writes.tables()
    ends, totals = tables[:2]
    if float(np.max(np.diff(totals), initial=0)) * float(np.max(np.diff(ends), initial=0)) > _LARGE:
        raise Declined
    return dict(zip(names, tables, strict=True))


def _bytes(count: int) -> NDArray[np.uint8]:
    """As many zero bytes, in whole words."""
    return np.zeros(-(-count // 8) * 8, dtype=np.uint8)


def given_back(scenario: Scenario, machine: Machine) -> tuple[tuple[int, int], ...]:
    """The pages in the balloon, as runs (first, count): those of `machine.inflate_balloon`."""
    left = scenario.guest.ballooned_pages
    first = 0
    runs: list[tuple[int, int]] = []
    for _, length_bytes in machine.blocks:
        end = first + length_bytes // PAGE_BYTES
        low = max(machine.workload.span.stop, first)
        count = min(left, end - low)
        if count > 0:
            left -= count
            if runs and sum(runs[-1]) == low:
                low, count = runs[-1][0], runs.pop()[1] + count
            runs.append((low, count))
        first = end
    return tuple(runs)
