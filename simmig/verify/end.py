"""One end of a protocol of one's own: a connected queue pair over the seam, and what one needs to use it.

Nothing here is simulated or real: it is handed verbs, a runtime and the way to the peer, as the migration is.
"""

from __future__ import annotations

import contextlib
import errno
from collections import deque
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

from simmig.trace.events import Event, Side
from simmig.verbs.api import MR, SGE, Verbs
from simmig.verbs.runtime import Connection, Dialer, Listener, Runtime, Signal

MESSAGE_BYTES = 64
"""The longest message; what is longer goes by write or read."""
MESSAGES = 16
"""Receives that are posted, and messages that may be on their way out: more is the protocol's mistake."""
_TIMEOUT_NS = 10_000_000_000
_FIRST_ID = 2 * MESSAGES
T = TypeVar("T")
ToldT = TypeVar("ToldT", bound=Event)


class Lost(OSError):
    """The connection is gone, or a work request failed: the protocol cannot go on."""


class Arrival(NamedTuple):
    """What `End.next` gives: a message of the peer's, or (`message` is None) the end of a write or read."""

    message: bytes | None
    work: int = -1
    """Which, by what `write` or `read` returned."""


class End:
    """One end. `given` has the scenario's values; `verbs`, `runtime`, `qp`, `pd` are for whatever is not here.

    The first side dials, the second listens. Whatever waits raises Lost when the connection goes, and so does what
    comes of a work request that fails; a side may let that pass.
    """

    def __init__(
        self, side: Side, given: SimpleNamespace, verbs: Verbs, runtime: Runtime, way: Dialer | Listener, emit: Any
    ) -> None:
        self.side: Side = side
        self.given = given
        self.verbs = verbs
        self.runtime = runtime
        self.cancel: Signal = runtime.signal()
        self._way: Any = way
        self._emit = emit
        self._made: list[Any] = []
        self.qp: Any = None
        self._connection: Connection | None = None
        self._next_id = _FIRST_ID
        self._sending = 0
        self._arrived: deque[Arrival] = deque()

    def tell(self, event: type[ToldT], **fields: Any) -> None:
        """Put something that happened into the trace."""
        self._emit(event(t_ns=self.runtime.now_ns(), side=self.side, **fields))

    async def open(self) -> None:
        """Find the peer, and make a queue pair on the device that leads there. Raises OSError."""
        v, e = self.verbs, self.verbs.enums
        if self.side == "source":
            connection = await self._way.dial(_TIMEOUT_NS)
        else:
            self._way.cancel = self.cancel
            connection = await self._way.request()
        self._connection = connection
        self.pd = self._keep(v.PD(connection.context))
        self.channel = self._keep(v.CompChannel(connection.context))
        self.cq = self._keep(v.CQ(connection.context, 4 * MESSAGES, None, self.channel, 0))
        cap = v.QPCap(2 * MESSAGES, MESSAGES, 1, 1, 0)
        init = v.QPInitAttr(qp_type=e.IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=cap, sq_sig_all=1)
        self.qp = v.QP(self.pd, init)
        self._made.append(self.qp)
        self._messages = self.region(2 * MESSAGES * MESSAGE_BYTES)
        connection.prepare(self.qp)
        for slot in range(MESSAGES):
            self._receive(slot)

    def region(self, length_bytes: int) -> MR:
        """A region of that many bytes, all zero, which the peer may read and write."""
        e = self.verbs.enums
        access = e.IBV_ACCESS_LOCAL_WRITE | e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_REMOTE_READ
        return self._keep(self.verbs.MR(self.pd, length_bytes, access))

    async def connect(self, hello: bytes = b"") -> bytes:
        """Connect the queue pairs; up to 56 bytes go over to the peer, whose own are returned. Raises OSError."""
        assert self._connection is not None
        if self.side == "source":
            answer = await self._connection.connect(self.qp, hello, _TIMEOUT_NS)
        else:
            answer = self._connection.private_data
            await self._connection.accept(self.qp, hello)
        self.cq.req_notify()
        return answer

    def send(self, message: bytes) -> None:
        """Send a message, to one of the receives that the peer's `End` keeps posted."""
        slot = MESSAGES + self._sending % MESSAGES
        self._sending += 1
        self._messages.write(message, len(message), slot * MESSAGE_BYTES)
        sge = self.verbs.SGE(self._messages.buf + slot * MESSAGE_BYTES, len(message), self._messages.lkey)
        self._post(self.verbs.enums.IBV_WR_SEND, slot, sge)

    def write(self, region: MR, offset: int, length_bytes: int, key: int, address: int) -> int:
        """Write from the region to the peer's memory; returns what its end is known by."""
        return self._one_sided(self.verbs.enums.IBV_WR_RDMA_WRITE, region, offset, length_bytes, key, address)

    def read(self, region: MR, offset: int, length_bytes: int, key: int, address: int) -> int:
        """Read from the peer's memory into the region; returns what its end is known by."""
        return self._one_sided(self.verbs.enums.IBV_WR_RDMA_READ, region, offset, length_bytes, key, address)

    @property
    def waiting(self) -> bool:
        """Whether `next` has something right now."""
        self._poll()
        return bool(self._arrived)

    async def next(self) -> Arrival:
        """Wait for the next message of the peer's, or the end of a write or read of this side's."""
        while not self._arrived:
            self._poll()
            if self._arrived:
                break
            await self._wait()
        return self._arrived.popleft()

    async def until(self, work: int) -> None:
        """Wait for the end of that write or read; what else arrives is kept for `next`."""
        while (found := next((each for each in self._arrived if each.work == work), None)) is None:
            self._poll()
            if not any(each.work == work for each in self._arrived):
                await self._wait()
        self._arrived.remove(found)

    async def _wait(self) -> None:
        assert self._connection is not None
        await self.runtime.wait(self.channel, self._connection, self.cancel)
        if self.cancel.is_set:
            raise OSError(errno.ECANCELED, "cancelled")
        if self._connection.lost:
            before = len(self._arrived)
            self._poll()
            if len(self._arrived) == before:
                raise Lost(errno.ECONNRESET, self._connection.lost)
            return
        self.channel.get_cq_event(self.cq)
        self.cq.ack_events(1)
        self.cq.req_notify()

    def _poll(self) -> None:
        while (found := self.cq.poll(MESSAGES))[0]:
            for wc in found[1]:
                if wc.status != self.verbs.enums.IBV_WC_SUCCESS:
                    raise Lost(errno.EIO, f"a work request failed with status {wc.status}")
                if wc.wr_id < MESSAGES:
                    message = self._messages.read(wc.byte_len, wc.wr_id * MESSAGE_BYTES)
                    self._receive(wc.wr_id)
                    self._arrived.append(Arrival(message))
                elif wc.wr_id >= _FIRST_ID:
                    self._arrived.append(Arrival(None, wc.wr_id))

    async def linger(self, peer: Signal, for_ns: int) -> None:
        """This side is done; keep the connection until the peer is as well, or the connection is lost."""
        if self._connection is not None:
            deadline_ns = self.runtime.now_ns() + for_ns
            await self.runtime.wait(peer, self._connection, self.cancel, deadline_ns=deadline_ns)

    def close(self) -> None:
        """Disconnect and destroy everything; what cannot be destroyed is left."""
        if self._connection is not None:
            self._connection.disconnect()
        self._made.sort(key=lambda each: each is self.qp)  # the queue pair goes first, the domain last
        for made in reversed(self._made):
            with contextlib.suppress(self.verbs.PyverbsError):
                made.close()

    def _receive(self, slot: int) -> None:
        sge = self.verbs.SGE(self._messages.buf + slot * MESSAGE_BYTES, MESSAGE_BYTES, self._messages.lkey)
        self.qp.post_recv(self.verbs.RecvWR(wr_id=slot, num_sge=1, sg=[sge]))

    def _one_sided(self, opcode: int, region: MR, offset: int, length_bytes: int, key: int, address: int) -> int:
        number, self._next_id = self._next_id, self._next_id + 1
        sge = self.verbs.SGE(region.buf + offset, length_bytes, region.lkey)
        self._post(opcode, number, sge, key, address)
        return number

    def _post(self, opcode: int, number: int, sge: SGE, key: int = 0, address: int = 0) -> None:
        flags = self.verbs.enums.IBV_SEND_SIGNALED
        wr = self.verbs.SendWR(wr_id=number, opcode=opcode, num_sge=1, sg=[sge], send_flags=flags)
        if key:
            wr.set_wr_rdma(key, address)
        self.qp.post_send(wr)

    def _keep(self, made: T) -> T:
        self._made.append(made)
        return made
