"""A small whole trace, made by hand, to break."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simmig.trace import events as ev
from simmig.verify.invariants import Invariants, Violation

MIB = 1 << 20
S: ev.Side = "source"
D: ev.Side = "destination"
BEGAN = ev.MigrationBegan(0, S, 2 * MIB, 4096, "rdma", False, "some", 1_000_000)


def write_id(chunk: int) -> int:
    return 1 | chunk << 30


def write(t_ns: int, chunk: int = 0, pages: int = 1, **changes: Any) -> list[ev.AnyEvent]:
    """Pages saved and their write posted."""
    event: dict[str, Any] = {
        "qp": 7,
        "wr_id": write_id(chunk),
        "opcode": "write",
        "length_bytes": pages * 4096,
        "block": 0,
        "offset_bytes": chunk * MIB,
        "key": 30 + chunk,
    }
    return [ev.PagesSaved(t_ns, S, chunk * 256, pages, "data"), ev.WorkPosted(t_ns, S, **event | changes)]


def written(t_ns: int, chunk: int = 0, pages: int = 1) -> ev.WorkCompleted:
    return ev.WorkCompleted(t_ns, S, 7, write_id(chunk), "write", pages * 4096)


def receive(t_ns: int, side: ev.Side, buffer: int = 0) -> ev.WorkPosted:
    return ev.WorkPosted(t_ns, side, 7, 4000 + buffer, "recv", 1 << 19)


def message(t_ns: int, side: ev.Side, kind: str, length_bytes: int = 0) -> list[ev.AnyEvent]:
    return [
        ev.WorkPosted(t_ns, side, 7, 2000, "send", 16 + length_bytes),
        ev.ControlSent(t_ns, side, kind, length_bytes, 1),
    ]


def arrived(t_ns: int, side: ev.Side, kind: str, length_bytes: int = 0) -> list[ev.AnyEvent]:
    """At `side`, the peer's send having completed."""
    peer: ev.Side = S if side == D else D
    return [
        ev.WorkCompleted(t_ns, peer, 7, 2000, "send"),
        ev.WorkCompleted(t_ns, side, 7, 4000, "recv", 16 + length_bytes),
        ev.ControlReceived(t_ns, side, kind, length_bytes, 1),
    ]


def registered(chunk: int = 0) -> list[ev.AnyEvent]:
    return [ev.MemoryRegistered(4, D, 0, chunk, MIB, 30 + chunk), ev.MemoryRegistered(5, S, 0, chunk, MIB, 9)]


SETUP: list[ev.AnyEvent] = [
    BEGAN,
    receive(1, S),
    receive(1, D),
    *message(2, D, "READY"),
    *arrived(3, S, "READY"),
    *registered(0),
    *registered(1),
    ev.SetupEnded(6, S),
]
LIVE: list[ev.AnyEvent] = [
    *write(10),
    ev.DrainBegan(11, S, "policy", "slice-end", 4096, 0),
    written(12),
    ev.DrainEnded(12, S, "policy", 0),
]
HAND_OVER: list[ev.AnyEvent] = [
    ev.VmStopped(20, S),
    ev.DeviceStateSent(20, S, 1024),
    receive(21, S),
    *message(21, S, "QEMU_FILE", 99),
    *arrived(22, D, "QEMU_FILE", 99),
    ev.MemoryCompared(23, D, 512, 0),
    ev.VmResumed(23, D),
]
ENDS: list[ev.AnyEvent] = [
    ev.MigrationEnded(24, S, "completed", ""),
    ev.MigrationEnded(25, D, "completed", ""),
    ev.PortCounted(26, S, 4 * MIB),
]
GOOD = [*SETUP, *LIVE, *HAND_OVER, *ENDS]


def failed(*events: ev.AnyEvent, status: str = "failed") -> list[ev.AnyEvent]:
    """A migration that gets as far as the setup, sees these events, and fails on both sides."""
    ends = [ev.MigrationEnded(30, S, status, "x"), ev.MigrationEnded(31, D, "failed", "x")]
    return [*SETUP, *events, *ends]


def check(events: Sequence[ev.AnyEvent]) -> Invariants:
    invariants = Invariants()
    for event in events:
        invariants(event)
    return invariants


def broken(events: Sequence[ev.AnyEvent]) -> list[str]:
    """Names of the invariants that do not hold, the first one first."""
    return [violation.invariant for violation in violations(events)]


def violations(events: Sequence[ev.AnyEvent]) -> list[Violation]:
    return check(events).violations


def without(kind: type, events: Sequence[ev.AnyEvent] = GOOD) -> list[ev.AnyEvent]:
    return [event for event in events if type(event) is not kind]
