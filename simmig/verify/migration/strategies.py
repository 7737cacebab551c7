"""Cases for Hypothesis: what `generate` draws by seed, drawn so that a failure shrinks as a whole.

The usual value of everything comes first, so a shrunk case differs from the usual one only where it must.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from simmig.verbs.sim.profiles import PROFILES
from simmig.verify import faults as f
from simmig.verify.choices import KINDS, Choice
from simmig.verify.migration.case import Case, Small
from simmig.verify.watch import SIDES

_FEATURES: dict[str, list[Any]] = {
    "pages": [(512,), (1,), (257,), (300, 100), (40, 512, 3), (1280,)],
    "zero_fraction": [0.0, 0.3, 1.0],
    "workload": ["idle", "uniform", "sweep"],
    "working_set_pages": [64, 1, 300],
    "rate_bytes_s": [50 << 20, 900 << 20],
    "ballooned_pages": [0, 1, 30],
    "device_state_bytes": [1024, 40_000],
    "bandwidth_bit_s": [10_000_000_000, 1_000_000_000],
    "latency_ns": [2_000, 0, 1_000_000],
    "busy_host": [False, True],
    "profile": list(PROFILES),
    "pin_all": [False, True],
    "slice_ns": [50_000_000, 300_000, "round", None],
    "registration_batch": [1, 3],
    "control_wait": ["completion", "deferred"],
    "control_qp": ["shared", "own"],
    "max_rounds": [4, 1, 8],
    "stop_when_flat": [False, True],
    "downtime_limit_ns": [3_000_000, 100_000],
    "send_queue_depth": [512, 1, 3],
}
_CALLS = [(call, errno) for call, errnos in f.VERBS_CALLS.items() for errno in errnos]


_REAL: dict[str, list[Any]] = {
    "pages": [(512,), (1,), (257,), (300, 100), (40, 512, 3)],
    "zero_fraction": [0.0, 0.3, 1.0],
    "workload": ["idle", "uniform", "sweep"],
    "working_set_pages": [64, 1, 300],
    "rate_bytes_s": [512 << 10, 50 << 20],
    "device_state_bytes": [1024, 40_000],
    "pin_all": [False, True],
    "slice_ns": [50_000_000, 5_000_000, "round", None],
    "registration_batch": [1, 3],
    "control_wait": ["completion", "deferred"],
    "control_qp": ["shared", "own"],
    "max_rounds": [4, 1],
    "downtime_limit_ns": [300_000_000, 3_000_000],
}
"""What is left of a case on devices, which have a link of their own; of a size for emulated ones."""


def faults() -> st.SearchStrategy[f.Fault]:
    """One fault of an honest world: packets, verbs calls, receives not ready, death, a cut, a cancellation."""
    sides = st.sampled_from(SIDES)
    events = st.integers(0, 300)
    packets = st.builds(f.Packet, sides, st.integers(0, 700), st.just("drop"))
    moved = st.sampled_from(["delay", "duplicate", "reorder"])
    calls = st.tuples(sides, st.sampled_from(_CALLS), st.integers(0, 30))
    return st.one_of(
        packets,
        st.builds(f.Packet, sides, st.integers(0, 700), moved, st.sampled_from([500, 20_000, 3_000_000])),
        st.builds(f.Cancel, sides, events),
        st.builds(f.LinkDown, events, st.sampled_from([1_000, 1_000_000, None])),
        st.builds(f.Dies, sides, events),
        st.builds(f.Disconnect, sides, events),
        st.builds(f.NotReady, sides, st.integers(0, 30)),
        calls.map(lambda drawn: f.Call(drawn[0], drawn[1][0], drawn[2], drawn[1][1])),
    )


def cases(with_faults: bool = True) -> st.SearchStrategy[Case]:
    """Small migrations over RDMA, with up to two faults and a schedule that differs in a few places."""
    migrations = st.fixed_dictionaries(
        {}, optional={name: st.sampled_from(options) for name, options in _FEATURES.items()}
    ).map(lambda drawn: Small(**drawn))
    plan = st.lists(faults(), max_size=2, unique=True).map(tuple) if with_faults else st.just(())
    choices = st.builds(Choice, st.sampled_from(sorted(KINDS)), st.integers(0, 60), st.integers(1, 3))
    schedules = st.lists(choices, max_size=6, unique_by=lambda each: (each.kind, each.number)).map(tuple)
    return st.builds(Case, migrations, plan, schedules)


def real_cases() -> st.SearchStrategy[Case]:
    """Small migrations for devices to carry out: faults and schedule are not ours to choose."""
    usual = {name: st.just(_REAL[name][0]) for name in ("rate_bytes_s", "downtime_limit_ns")}
    drawn = {name: st.sampled_from(options) for name, options in _REAL.items()}
    migrations = st.fixed_dictionaries({}, optional=drawn)
    first = st.fixed_dictionaries(usual)
    return st.builds(lambda usual, drawn: Case(Small(**(usual | drawn))), first, migrations)
