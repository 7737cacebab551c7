"""What may not be accepted, what must be asked: the judges that need no trace."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest

from simmig.migration.policies import Point
from simmig.trace.events import (
    DeviceStateSent,
    MigrationEnded,
    RoundBegan,
    RoundEnded,
    SliceBegan,
    SliceEnded,
    VmStopped,
)
from simmig.verify.faults import Call, Hostile
from simmig.verify.migration.asked import Asked
from simmig.verify.migration.case import Case
from simmig.verify.migration.hostile import illegal
from simmig.verify.migration.play import play

MIB = 1 << 20
BLOCKS = [(0, 3 * MIB), (4 * MIB, 4096)]


def message(kind: int, data: bytes = b"", repeat: int = 1, length: int | None = None) -> bytes:
    return struct.pack(">4I", len(data) if length is None else length, kind, repeat, 0) + data


def compress(value: int = 0, block: int = 0, offset: int = 0, length: int = 4096) -> bytes:
    return message(6, struct.pack(">IIQQ", value, block, offset, length))


def register(address: int = 0, block: int = 0, extra: int = 0, repeat: int = 1) -> bytes:
    return message(7, struct.pack(">QIIQ", address, block, 0, extra), repeat)


@pytest.mark.parametrize(
    "sent",
    [
        compress(value=1),
        compress(block=2),
        compress(block=1),
        compress(offset=1),
        compress(length=0),
        compress(length=3 * MIB + 4096),
        compress(block=1, offset=4 * MIB + 4096),
        compress()[:-1],
        compress() + b"\0",
    ],
)
def test_a_compress_outside_of_its_block_is_illegal(sent: bytes) -> None:
    assert illegal(compress(), sent, BLOCKS)


@pytest.mark.parametrize(
    "sent",
    [register(block=2), register(address=3 * MIB), register(block=1), register(extra=3), register(repeat=2)],
)
def test_a_register_outside_of_its_block_is_illegal(sent: bytes) -> None:
    assert illegal(register(), sent, BLOCKS)


@pytest.mark.parametrize("sent", [b"", message(2)[:15], message(2, length=1), message(3), message(12)])
def test_a_header_that_lies_or_has_no_place_is_illegal(sent: bytes) -> None:
    assert illegal(message(2), sent, BLOCKS)


@pytest.mark.parametrize(
    ("meant", "sent"),
    [
        (compress(), compress(offset=MIB, length=2 * MIB)),
        (compress(), compress(block=1, offset=4 * MIB)),
        (register(), register(address=2 * MIB)),
        (register(), register(extra=2)),
        (message(2), message(2, repeat=7)),
        (message(9), message(4)),
    ],
)
def test_what_could_have_been_meant_is_legal(meant: bytes, sent: bytes) -> None:
    assert illegal(meant, meant, BLOCKS) == illegal(meant, sent, BLOCKS) == ""


def test_the_shipped_code_refuses_it() -> None:
    verdict = play(Case(faults=(Hostile("source", 0, 24, 1, kind=7),)))
    assert verdict.happened
    assert verdict.status == "failed"
    assert not verdict.broken


SETUP, STATE, END = 0, 6, 7  # which of the source's QEMU FILE messages, in the smallest migration


@pytest.mark.parametrize(
    ("number", "offset", "value"),
    [
        (SETUP, 16, 0),  # no magic
        (SETUP, 20, 4),  # another version
        (SETUP, 25, 0xFFFFFFFF),  # a machine's name of 4 GiB
        (SETUP, 52, 0xFFFFFFFF),  # blocks that add up to 16 EiB
        (SETUP, 56, 0x1004),  # or to less than the first
        (STATE, 48, 0x7FFFFFFF),  # a device's section of 2 GiB
        (STATE, 48, 5),  # or of 5 bytes
        (END, 18, 0xFFFFFFFF),  # a description of 4 GiB
        (END, 18, 1),  # or of one byte
        (END, 16, 0x0006FFFF),
    ],
)
def test_a_stream_that_lies_is_refused(number: int, offset: int, value: int) -> None:
    verdict = play(Case(faults=(Hostile("source", number, offset, value, kind=3),)))
    assert verdict.happened
    assert not verdict.broken
    ended = {event.side: event.status for event in verdict.events if isinstance(event, MigrationEnded)}
    assert ended["destination"] == "failed"


def test_a_full_queue_is_no_failure_when_there_is_something_to_wait_for() -> None:
    verdicts = [play(Case(faults=(Call("source", "post_send", number, 12),))) for number in range(2, 12)]
    assert all(len(verdict.happened) == 1 and not verdict.broken for verdict in verdicts)
    assert {verdict.status for verdict in verdicts} == {"completed", "failed"}  # failed: with nothing in the queue


class _Nobody:
    def drain(self, point: Point, sender: object) -> int | None:
        return None


def test_a_policy_that_was_not_asked_is_missed() -> None:
    events = [
        SliceBegan(0, "source", 1),
        RoundBegan(0, "source", 1, 2),
        SliceEnded(1, "source", 1),
        RoundEnded(2, "source", 1),
        VmStopped(3, "source"),
        DeviceStateSent(4, "source", 1),
    ]
    seen: list[object] = []
    policy = _Nobody()
    asked = Asked(policy, seen)  # type: ignore[arg-type]
    points = {SliceEnded: Point.SLICE_END, RoundEnded: Point.ROUND_END, DeviceStateSent: Point.BEFORE_DEVICE_STATE}
    for event in events:
        if type(event) in points:
            policy.drain(points[type(event)], SimpleNamespace(pending_bytes=0))
        seen.append(event)
    assert [(index, point) for index, point in asked.missed()] == [(4, "before-stop")]
