"""The seam between the migration and the world it runs in: clock, waiting, connections.

The migration is ordinary ``async def`` code. It is handed verbs objects (`simmig.verbs.api`) and a
`Runtime`; one runtime drives a SimPy environment, another an asyncio loop, and nothing in the migration
can tell which. Times are integer nanoseconds.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Coroutine
from typing import Any, Protocol

from simmig.verbs.api import CompChannel, Context, QPHandle

PEER_LEFT = "the peer disconnected"
"""A connection's `lost`, when the peer took it down, in order or because its process ended."""


class Work(enum.IntEnum):
    """Host work that the migration does itself, outside any verbs call.

    On a real host it takes the time it takes; a simulated host charges its model's cost per unit.
    """

    SCAN_PAGE = 0  #: look at one page's dirty bit and put the page into a run
    SYNC_PAGE = 1  #: merge one page's bit of the dirty log into the bitmap
    ZERO_TEST_PAGE = 2  #: read one page to see whether it is all zero
    MESSAGE = 3  #: build or take apart one control message
    WRITE = 4  #: get one RAM write ready and see to its completion


class Signal(Protocol):
    """A flag that can be waited for, set once and for all (cancellation, for one)."""

    @property
    def is_set(self) -> bool:
        """Whether `set` has been called."""

    def set(self) -> None:
        """Raise the flag and wake every waiter; again is a no-op."""


class Task(Protocol):
    """A coroutine running on its own."""

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""

    def cancel(self) -> None:
        """End it at its next wait, without its consent: the way a process is killed."""

    async def join(self) -> Any:
        """Wait for its end; returns its value or raises what it raised."""


class Connection(Protocol):
    """One reliable connection, as the RDMA connection manager makes it.

    The owner creates a queue pair on `context`, calls `prepare` (after which receives may be posted) and
    then `connect` or `accept`. A connection is a source for `Runtime.wait`: it becomes ready when `lost`
    turns non-empty.
    """

    @property
    def context(self) -> Context:
        """The device the address resolved to."""

    @property
    def private_data(self) -> bytes:
        """What the peer sent along with its request or answer; empty before."""

    @property
    def lost(self) -> str:
        """Why the connection is gone (peer disconnected, peer dead, ...); empty while it is not."""

    def prepare(self, qp: QPHandle) -> None:
        """Bring the queue pair to INIT on the right port, so that receives may be posted."""

    async def connect(self, qp: QPHandle, private_data: bytes, timeout_ns: int) -> bytes:
        """Ask for a connection; returns the peer's private data once the queue pair is in RTS.

        Raises ConnectionRefusedError when the peer rejects, TimeoutError when nobody answers.
        """

    async def accept(self, qp: QPHandle, private_data: bytes) -> None:
        """Accept a peer's request; returns once the connection is established (queue pair in RTS)."""

    def reject(self) -> None:
        """Turn a peer's request down."""

    def disconnect(self) -> None:
        """Take the connection down: both queue pairs enter ERR, the peer sees `lost`. Idempotent."""


class Dialer(Protocol):
    """The way to a destination: an address, and the device that reaches it."""

    async def dial(self, timeout_ns: int) -> Connection:
        """Resolve address and route; raises TimeoutError or OSError."""

    async def dial_socket(self, timeout_ns: int) -> Socket:
        """Open a byte stream to the same destination; raises TimeoutError or ConnectionRefusedError."""


class Listener(Protocol):
    """Where a destination waits for a source; once `cancel` is set, waiting raises OSError (ECANCELED)."""

    cancel: Signal | None

    async def request(self, deadline_ns: int | None = None) -> Connection:
        """The next connection request; raises TimeoutError at the deadline."""

    async def socket(self, deadline_ns: int | None = None) -> Socket:
        """The next byte stream that a source opens; raises TimeoutError at the deadline."""

    def refuse_others(self) -> None:
        """Reject every connection request from now on."""

    def close(self) -> None:
        """Stop listening."""


class Socket(Protocol):
    """A byte stream (TCP). A source for `Runtime.wait`: ready when readable or `lost`.

    Once `cancel` is set, whatever waits on the socket raises OSError (ECANCELED).
    """

    cancel: Signal | None

    @property
    def lost(self) -> str:
        """Why the connection is gone; empty while it is not."""

    async def send(self, data: bytes) -> None:
        """Send all of it, waiting while the socket buffer is full; raises OSError when lost."""

    async def send_memory(self, address: int, length_bytes: int) -> None:
        """Send a range of this host's memory (guest pages), as `send` does."""

    async def receive(self, length_bytes: int) -> bytes:
        """Wait for data; returns at most that many bytes, ``b""`` at the end of the stream."""

    async def receive_memory(self, address: int, length_bytes: int) -> None:
        """Receive exactly that many bytes straight into this host's memory; raises OSError when lost."""

    def close(self) -> None:
        """Close both directions. Idempotent."""


Source = CompChannel | Connection | Signal | Socket


class Runtime(Protocol):
    """Clock and waiting."""

    def now_ns(self) -> int:
        """This host's time, monotonic, including work done since the last wait."""

    async def sleep(self, duration_ns: int) -> None:
        """Wait for that long."""

    @property
    def lags(self) -> bool:
        """Whether a checkpoint would let anything happen that this task could see."""

    async def checkpoint(self) -> None:
        """Let the rest of the world catch up with the work this task has done since it last waited."""

    def wait(self, *sources: Source, deadline_ns: int | None = None) -> Awaitable[bool]:
        """Wait until one of the sources is ready: True; or until the deadline has passed: False.

        Level-triggered: returns at once when a source is ready already. A completion channel is ready
        while it holds an event, a connection when it is lost, a signal when it is set, a socket when it
        can be read.
        """

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> Task:
        """Run a coroutine beside the caller."""

    def signal(self) -> Signal:
        """A new signal, not set."""

    def work(self, kind: Work, count: int) -> None:
        """Account for `count` units of work this task has just done."""
