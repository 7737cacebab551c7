"""From a seed to a case, swarm-style: each seed switches on a few features, faults and freedoms.

Runs in which everything happens at once all look alike; what is left out makes room for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from simmig.migration import policies
from simmig.migration.config import Change
from simmig.trace.events import Side
from simmig.verify import faults as f
from simmig.verify.choices import KINDS, Drawn
from simmig.verify.dice import Dice
from simmig.verify.migration.case import Case, Small
from simmig.verify.watch import SIDES

_USUAL_EVENTS = 280
_USUAL_PACKETS = 700
_FAR_CALLS = {"poll": 150, "req_notify": 90, "get_cq_event": 70, "post_send": 40, "post_recv": 30, "reg_mr": 8}
_TCP_FAULTS = ("drop", "delay", "dies", "hangs", "link-down", "disconnect", "cancel")

_LONG: dict[str, tuple[Any, ...]] = {
    "pages": ((1280,), (1000, 500)),
    "bandwidth_bit_s": (60_000_000, 100_000_000),
    "downtime_limit_ns": (10_000_000, 20_000_000, 50_000_000, 100_000_000),
}
"""What takes several windows of the bandwidth estimate, each of which may decide."""
PARAMETERS: dict[str, dict[str, Any]] = {"pending-limit": {"limit": 1 << 20}, "every-bytes": {"interval": 1 << 20}}
POLICIES = tuple(policies.builtin())


_CHANGES, _FLAT = 1 << 64, 1 << 65
"""Added to seeds: draws of their own."""


def generate(seed: int, policy: tuple[str, dict[str, Any]] | None = None) -> tuple[Case, Drawn]:
    """The case of a seed, its schedule still to be drawn, and who draws it. `policy` replaces the seed's own."""
    dice = Dice(seed * 2 + 1)
    small = _changing(Dice(seed * 2 + _CHANGES), _migration(dice, policy))
    if Dice(seed * 2 + _FLAT).chance(0.1):
        small = msgspec.structs.replace(small, stop_when_flat=True, max_rounds=8)
    faults = _plan(dice, small)
    likelihood = {kind: dice.one((0.01, 0.05, 0.3)) for kind in KINDS if dice.chance(0.4)}
    return Case(small, faults), Drawn(seed * 2 + 2, likelihood)


def _changing(dice: Dice, small: Small) -> Small:
    """Limits that change on the way, from draws of their own: what a seed draws beside them stays."""
    if not dice.chance(0.15):
        return small
    changes = []
    for _ in range(dice.one((1, 2))):
        when = dice.one(({"at_ns": 50_000_000}, {"at_ns": 250_000_000}, {"round": 2}, {"round": 3}))
        downtime_limit_ns = dice.one((None, 100_000, 50_000_000))
        rates = (0, 4 << 20, 30 << 20)
        bandwidth = dice.one((None, *rates) if downtime_limit_ns else rates)
        changes.append(Change(**when, downtime_limit_ns=downtime_limit_ns, max_bandwidth_bytes_s=bandwidth))
    return msgspec.structs.replace(small, changes=tuple(changes))


def _migration(dice: Dice, policy: tuple[str, dict[str, Any]] | None) -> Small:
    """A feature that is not switched on keeps its usual value."""
    values: dict[str, Any] = {}
    features: dict[str, Callable[[], Any]] = {
        "pages": lambda: dice.one([(512,), (300,), (256, 100), (700, 1), (40, 512, 3), (1,), (1280,)]),
        "zero_fraction": lambda: dice.one([0.3, 0.5, 1.0]),
        "workload": lambda: dice.one(["uniform", "sweep"]),
        "working_set_pages": lambda: dice.one([1, 20, 200, 400]),
        "rate_bytes_s": lambda: dice.one([5 << 20, 200 << 20, 900 << 20]),
        "ballooned_pages": lambda: dice.one([1, 30, 300]),
        "device_state_bytes": lambda: dice.one([20, 40_000, 100_000]),
        "reversed_blocks": lambda: True,
        "bandwidth_bit_s": lambda: dice.one([100_000_000, 1_000_000_000, 40_000_000_000]),
        "latency_ns": lambda: dice.one([0, 100, 50_000, 1_000_000]),
        "mtu": lambda: dice.one([1024, 2048]),
        "busy_host": lambda: True,
        "profile": lambda: dice.one(["rxe", "mlx5"]),
        "streams": lambda: True,
        "pin_all": lambda: True,
        "destination_pin_all": lambda: dice.one([True, False]),
        "slice_ns": lambda: dice.one([100_000, 300_000, "round", None]),
        "registration_batch": lambda: dice.one([2, 3, 4096]),
        "control_wait": lambda: "deferred",
        "control_qp": lambda: "own",
        "max_rounds": lambda: dice.one([1, 2, 8]),
        "max_bandwidth_bytes_s": lambda: dice.one([30 << 20, 4 << 20]),
        "downtime_limit_ns": lambda: dice.one([100_000, 300_000, 300_000_000]),
        "send_queue_depth": lambda: dice.one([1, 2, 3]),
        "policy": lambda: dice.one(POLICIES),
        "rate_limit": lambda: "qemu-10.0",
    }
    for name, draw in features.items():
        if dice.chance(0.35):
            values[name] = draw()
    if dice.chance(0.08):
        values |= {name: dice.one(options) for name, options in _LONG.items()}
    if dice.chance(0.15):
        values["transport"] = "tcp"
    if policy is not None:
        values["policy"], values["policy_parameters"] = policy
    else:
        values["policy_parameters"] = PARAMETERS.get(values.get("policy", ""), {})
    return Small(**values)


def _plan(dice: Dice, small: Small) -> tuple[f.Fault, ...]:
    """None, one or a few; a socket's simulation knows fewer kinds, and loses at most two packets."""
    count = dice.one([0, 1, 1, 1, 2, 3])
    kinds: Sequence[str] = _TCP_FAULTS if small.transport == "tcp" else FAULTS
    chosen = [dice.one(kinds) for _ in range(dice.one([1, 1, 2]))]
    plan = [FAULT_MAKERS[dice.one(chosen)](dice, small) for _ in range(count)]
    if small.transport == "tcp":
        dropped = [fault for fault in plan if isinstance(fault, f.Packet) and fault.what == "drop"]
        plan = [fault for fault in plan if fault not in dropped[2:]]
    return tuple(dict.fromkeys(plan))


def _side(dice: Dice) -> Side:
    return dice.one(SIDES)


def _event(dice: Dice, small: Small) -> int:
    return dice.below(_USUAL_EVENTS if small.transport == "rdma" else 30)


def _packet(what: Any) -> Callable[[Dice, Small], f.Fault]:
    def make(dice: Dice, small: Small) -> f.Fault:
        by_ns = 0 if what == "drop" else dice.one([500, 20_000, 3_000_000])
        return f.Packet(_side(dice), dice.below(_USUAL_PACKETS), what, by_ns)

    return make


def _call(dice: Dice, small: Small) -> f.Fault:
    call = dice.one(tuple(f.VERBS_CALLS))
    return f.Call(_side(dice), call, dice.below(_FAR_CALLS.get(call, 3)), dice.one(f.VERBS_CALLS[call]))


def _queue_full(dice: Dice, small: Small) -> f.Fault:
    times = dice.one([1, 1, 2, 5, 50])
    if dice.chance(0.5):
        return f.Call("source", "post_write", dice.below(5), 12, times)
    return f.Call(_side(dice), "post_send", dice.below(40), 12, times)


def _link_down(dice: Dice, small: Small) -> f.Fault:
    return f.LinkDown(_event(dice, small), dice.one([None, 1_000, 1_000_000, 200_000_000]))


_WORDS = (0, 1, 2, 3, 5, 7, 12, 0xFF, 0x1000, 0x80000, 0xFFFF0000, 0x7FFFFFFF, 0xFFFFFFFF)


_ANY, _STREAM, _COMPRESS, _REGISTER = None, 3, 6, 7
_NEAR_MISSES: dict[int | None, tuple[tuple[int, int], ...]] = {
    _ANY: (
        *((0, length) for length in (0, 8, 23, 25, 1 << 31)),  # a header that lies about its data
        *((4, kind) for kind in (1, 2, 3, 5, 9)),  # a type that is one, out of place
        *((8, repeat) for repeat in (0, 2, 4097)),
    ),
    _STREAM: (
        *((16, word) for word in (0, 0x0006FFFF)),  # the magic, or the end of the sections and their description
        *((18, length) for length in (0, 1, 0xFFFFFFFF)),  # the description's length
        *((20, version) for version in (2, 4)),
        *((25, length) for length in (7, 257, 0xFFFFFFFF)),  # the machine's name
        *((40, name) for name in (0x0372616E, 0xFF72616D)),  # RAM's section
        *((48, length) for length in (0, 3, 5, 0x7FFFFFFF, 0xFFFFFFFF)),  # its version; a device's length
        *((52, high) for high in (1, 0xFFFFFFFF)),  # what all RAM blocks add up to
        *((56, low) for low in (4, 0x1004, 0xFFFFF004)),
    ),
    _COMPRESS: (
        (16, 1),
        (20, 1),
        (20, 2),
        (20, 3),
        (28, 1),
        (28, 4095),
        (28, 1 << 20),
        (36, 0),
        (36, 1),
        (36, 3 << 20),
    ),
    _REGISTER: ((8, 0), (8, 2), (20, 1 << 20), (20, 1 << 23), (24, 1), (24, 2), (24, 3), (36, 1), (36, 2)),
}
"""By the message's type, offsets of 32-bit words in it (of the stream's framing; of value, block, offset and
length; of address, block and further chunks) and values that only just do not belong there."""


def _hostile(dice: Dice, small: Small) -> f.Fault:
    """A word of header or data replaced, or a message cut short or drawn out."""
    if dice.chance(0.5):
        kind = dice.one((_ANY, _STREAM, _COMPRESS if small.zero_fraction else _REGISTER))
        most = 30 if kind is _ANY else 12 if kind == _STREAM else 2
        side, number = _side(dice) if kind is _ANY else "source", dice.below(most)
        offset, value = dice.one(_NEAR_MISSES[kind])
        return f.Hostile(side, number, offset, value, kind=kind)
    number = dice.below(30)
    if dice.chance(0.3):
        lengths = (0, 1, 4, 15, 16, 17, 40, 4096, 524287, 524288, 524289)
        return f.Hostile(_side(dice), number, length_bytes=dice.one(lengths))
    return f.Hostile(_side(dice), number, 4 * dice.one((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)), dice.one(_WORDS))


FAULT_MAKERS: dict[str, Callable[[Dice, Small], f.Fault]] = {
    "drop": _packet("drop"),
    "delay": _packet("delay"),
    "duplicate": _packet("duplicate"),
    "reorder": _packet("reorder"),
    "call": _call,
    "queue-full": _queue_full,
    "not-ready": lambda dice, small: f.NotReady(_side(dice), dice.below(30)),
    "dies": lambda dice, small: f.Dies(_side(dice), _event(dice, small)),
    "hangs": lambda dice, small: f.Hangs(_side(dice), _event(dice, small)),
    "link-down": _link_down,
    "disconnect": lambda dice, small: f.Disconnect(_side(dice), _event(dice, small)),
    "cancel": lambda dice, small: f.Cancel(_side(dice), _event(dice, small)),
    "hostile": _hostile,
}
FAULTS = (*FAULT_MAKERS, "call", "call", "hostile")
