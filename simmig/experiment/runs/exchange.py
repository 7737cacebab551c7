"""What the two ends of a migration tell each other when it is over, so that each knows the whole of it.

This is no part of the migration: a TCP connection of its own, to the address that the destination listened on,
after both ends have ended. The source asks for the destination's clock a few times, then each sends its `Account`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable
from heapq import merge
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

import simmig
from simmig.experiment.runs.run_rdma import interruptible
from simmig.guest.api import PAGE_BYTES
from simmig.trace.events import AnyEvent, MemoryCompared, VmResumed
from simmig.verbs.rdma.runtime import RdmaRuntime
from simmig.verbs.rdma.socket import RdmaSocket

DIGEST_BYTES = 16
_CLOCK_QUESTIONS = 16
_QUESTION, _ACCOUNT = b"?", b"!"
_MAX_FRAME_BYTES = 1 << 31
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class ExchangeError(Exception):
    """The other end cannot be asked, or answers what it should not; the text is the reason a person reads."""


class Clock(msgspec.Struct, frozen=True):
    """By how much the destination's clock is ahead of the source's, give or take `uncertainty_ns`."""

    ahead_ns: int = 0
    uncertainty_ns: int = 0


class Account(msgspec.Struct, frozen=True):
    """One end's account of a migration.

    `boot` names the kernel whose CLOCK_MONOTONIC its times are of, `origin_ns` is where on it the trace's times
    begin. `digests` has `DIGEST_BYTES` a page: at the source of the guest as it was stopped for good, at the
    destination of the guest before it was resumed; empty without that. `late_ns` is how far the guest fell behind.
    """

    simmig: str
    boot: str
    origin_ns: int
    status: str
    reason: str
    running: bool
    trace: list[AnyEvent]
    digests: bytes
    device: str = ""
    late_ns: int = 0
    clock: Clock = Clock()


def make_account(
    origin_ns: int,
    status: str,
    reason: str,
    running: bool,
    trace: list[AnyEvent],
    digests: bytes,
    device: str = "",
    late_ns: int = 0,
) -> Account:
    """This end's."""
    return Account(
        simmig.__version__, _boot(), origin_ns, status, reason, running, trace, digests, device, late_ns
    )


def page_digests(pages: Iterable[NDArray[np.uint64]]) -> bytes:
    """BLAKE2b of each page, one after the other."""
    return b"".join(hashlib.blake2b(page.data, digest_size=DIGEST_BYTES).digest() for page in pages)


async def settle(
    runtime: RdmaRuntime, pages: int, own: Account, reach: Awaitable[RdmaSocket], talk: Callable[..., Any]
) -> tuple[Account | None, Clock, str]:
    """The other end's account, its clock, and why there is none.

    `reach` makes the connection, `talk` is `ask` or `answer`. Ctrl-C ends it: the outcome is known here.
    """

    async def asking() -> tuple[Account, Clock]:
        socket = await reach
        async with asyncio.timeout(patience_s(pages)):
            told: tuple[Account, Clock] = await talk(socket, own)
            return told

    try:
        async with interruptible(runtime) as impatient:
            task = asyncio.ensure_future(asking())

            def stop() -> None:
                task.cancel()

            impatient.add_waiter(stop)
            theirs, clock = await task
    except asyncio.CancelledError:
        if not impatient.is_set:
            raise
        return None, Clock(), "the other end was not asked to the end: interrupted"
    except ExchangeError as error:
        return None, Clock(), str(error)
    except (OSError, TimeoutError) as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return None, Clock(), f"the other end cannot be asked: {text}"
    return theirs, clock, ""


async def ask(socket: RdmaSocket, own: Account) -> tuple[Account, Clock]:
    """The source's part: returns the destination's account, and what its clock is.

    Raises ExchangeError, or OSError when the connection breaks.
    """
    samples = []
    for _ in range(_CLOCK_QUESTIONS):
        before_ns = time.monotonic_ns()
        await socket.send(_QUESTION)
        there_ns = int.from_bytes(await _exactly(socket, 8), "big")
        after_ns = time.monotonic_ns()
        samples.append((after_ns - before_ns, there_ns - (before_ns + after_ns) // 2))
    round_trip_ns, ahead_ns = min(samples)
    own = msgspec.structs.replace(own, clock=Clock(ahead_ns, -(-round_trip_ns // 2)))
    await socket.send(_ACCOUNT + _frame(own))
    theirs = await _account(socket)
    return theirs, _clock(own, theirs)


async def answer(socket: RdmaSocket, own: Account) -> tuple[Account, Clock]:
    """The destination's part. Raises ExchangeError, or OSError when the connection breaks."""
    while (kind := await _exactly(socket, 1)) == _QUESTION:
        await socket.send(time.monotonic_ns().to_bytes(8, "big"))
    if kind != _ACCOUNT:
        raise ExchangeError("the source sent something that is no account of a migration")
    theirs = await _account(socket)
    await socket.send(_frame(own))
    return theirs, _clock(theirs, own)


def whole_trace(source: Account, destination: Account, clock: Clock) -> list[AnyEvent]:
    """Both ends' events on the source's time axis; with both memories, how many pages differ is among them."""
    shift_ns = destination.origin_ns - clock.ahead_ns - source.origin_ns
    there: list[AnyEvent] = []
    for event in destination.trace:
        moved = msgspec.structs.replace(event, t_ns=event.t_ns + shift_ns)
        if type(moved) is VmResumed and source.digests and destination.digests:
            pages, different = _compare(source.digests, destination.digests)
            there.append(MemoryCompared(moved.t_ns, "destination", pages, different))
        there.append(moved)
    return list(merge(source.trace, there, key=lambda event: event.t_ns))


def _compare(one: bytes, other: bytes) -> tuple[int, int]:
    """How many pages there are, and how many of them differ."""
    pages = max(len(one), len(other)) // DIGEST_BYTES
    pieces = (slice(page * DIGEST_BYTES, (page + 1) * DIGEST_BYTES) for page in range(pages))
    return pages, sum(one[piece] != other[piece] for piece in pieces)


def patience_s(pages: int) -> float:
    """How long the other end may take: it may have to digest all its memory first, at 10 MiB/s if need be."""
    return 15 + pages * PAGE_BYTES / (10 << 20)


def _clock(source: Account, destination: Account) -> Clock:
    """Two processes under one kernel have one clock."""
    return Clock() if source.boot == destination.boot else source.clock


def _boot() -> str:
    return _BOOT.read_text().strip()


def _frame(account: Account) -> bytes:
    body = msgspec.msgpack.encode(account)
    return len(body).to_bytes(8, "big") + body


async def _account(socket: RdmaSocket) -> Account:
    length = int.from_bytes(await _exactly(socket, 8), "big")
    if length > _MAX_FRAME_BYTES:
        raise ExchangeError(f"the other end announced an account of {length} bytes")
    try:
        return msgspec.msgpack.decode(await _exactly(socket, length), type=Account)
    except msgspec.MsgspecError as error:
        raise ExchangeError(
            f"the other end's account cannot be read ({error}): another version of simmig?"
        ) from None


async def _exactly(socket: RdmaSocket, length: int) -> bytes:
    pieces: list[bytes] = []
    while length:
        piece = await socket.receive(length)
        if not piece:
            raise ExchangeError("the other end said nothing of how it ended")
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)
