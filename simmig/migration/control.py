"""The control channel: messages with credit, over SENDs of one queue pair.

The receiver of a message grants it with READY; answers go straight, without credit. On a queue pair that it
shares with RAM writes every wait here is a drain: completions come in posting order (R16), so a SEND's own comes
after that of every write before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from simmig.migration import wire
from simmig.migration.config import MigrationError
from simmig.migration.lane import KIND_MASK, KIND_PROBE, KIND_RECV, KIND_SEND, Lane, PatienceError, give_back
from simmig.migration.wire import NAMES, Message, Type
from simmig.trace.events import ControlReceived, ControlSent, WorkCompleted, WorkPosted
from simmig.verbs.api import MR
from simmig.verbs.runtime import Work

PATIENCE_NS = 30_000_000_000
"""How long a peer that is alive may take for an answer or the next credit."""
PROBE_NS = 5_000_000_000
"""A waiting receiver asks the peer's device for a sign of life this often."""
DEFERRED_BUFFERS = 4
_READY, _DATA = 0, 1
SLOT_SHIFT = 30


class ControlChannel:
    """Both ends' control messages. Create it before connecting: the first RECV must be posted by then."""

    def __init__(self, lane: Lane, deferred: bool) -> None:
        verbs = lane.verbs
        self._lane = lane
        self._send_wr, self._recv_wr, self._sge = verbs.SendWR, verbs.RecvWR, verbs.SGE
        self._send, self._signaled = verbs.enums.IBV_WR_SEND, verbs.enums.IBV_SEND_SIGNALED
        self._deferred = deferred
        self._access = verbs.enums.IBV_ACCESS_LOCAL_WRITE
        self._buffers: list[MR] = []
        self._outgoing: list[MR] = []
        self._next_slot = 0
        self.posts = 0
        self.silence_ns: int | None = None
        """How long a peer whose device answers may say nothing at all; None for as long as it likes."""
        self._granted = False  # a READY is out, and its message has not been taken
        self._in_flight: set[int] = set()  # send slots the device still owns (R12)
        self._arrived: list[Message | None] = [None, None]  # what lies in each receive buffer
        self.before_wait: Callable[[str], None] = _nothing
        self.after_wait: Callable[[], None] = _nothing
        lane.on_send = self._sent
        lane.on_receive = self._received
        try:
            for buffers, count in ((self._buffers, 2), (self._outgoing, DEFERRED_BUFFERS if deferred else 1)):
                for _ in range(count):
                    buffers.append(self._buffer())
            self.post_receive(_READY)
        except verbs.PyverbsError:
            self.close()
            raise

    def _buffer(self) -> MR:
        return self._lane.verbs.MR(self._lane.pd, wire.BUFFER_BYTES, self._access)

    def post_receive(self, index: int) -> None:
        """Give receive buffer `index` to the device."""
        lane, buffer = self._lane, self._buffers[index]
        self._arrived[index] = None
        wr_id = KIND_RECV + index
        sge = self._sge(buffer.buf, wire.BUFFER_BYTES, buffer.lkey)
        lane.qp.post_recv(self._recv_wr(wr_id=wr_id, num_sge=1, sg=[sge]))
        if lane.emit is not None:
            lane.emit(WorkPosted(lane.runtime.now_ns(), lane.side, lane.qp_num, wr_id, "recv", wire.BUFFER_BYTES))

    async def send(
        self,
        message: Message,
        answer: Type | None = None,
        meanwhile: Callable[[], None] | None = None,
        patience_ns: int = PATIENCE_NS,
    ) -> Message | None:
        """Send with credit: wait for READY, post the receives (answer's first: the queue is FIFO), SEND.

        With `answer`, runs `meanwhile` (work to overlap) and waits for that answer. Raises MigrationError when the
        peer answers with anything else, or with ERROR.
        """
        if self._arrived[_READY] is None:
            await self.granted(NAMES[message.type], patience_ns)
        self._expect(_READY, Type.READY)
        if answer is not None:
            self.post_receive(_DATA)
        self.post_receive(_READY)
        await self.post(message)
        if answer is None:
            return None
        if meanwhile is not None:
            meanwhile()
        await self._wait_receive(_DATA, NAMES[answer], patience_ns)
        return self._expect(_DATA, answer)

    async def granted(self, what: str = "the last message", patience_ns: int = PATIENCE_NS) -> None:
        """Wait for the credit of the next message: the peer has dealt with all before."""
        await self._wait_receive(_READY, f"READY for {what}", patience_ns)

    async def receive(self) -> Message:
        """Grant one message with READY, wait for it, and post the receive for the next.

        A peer that has nothing to say is probed with empty RDMA writes (R34), so that a dead one is noticed.
        """
        # Not waiting for READY's own completion: the message says as much, and may come with the connection's end.
        await self.post(Message(Type.READY), deferred=True)
        self._granted = True
        now_ns = self._lane.runtime.now_ns
        deadline_ns = None if self.silence_ns is None else now_ns() + self.silence_ns
        while True:
            try:
                await self._wait_receive(_READY, "message", PROBE_NS)
            except PatienceError:
                if deadline_ns is not None and now_ns() >= deadline_ns:
                    waited_s = (self.silence_ns or 0) // 1_000_000_000
                    raise PatienceError(f"the peer lives and has said nothing for {waited_s} s") from None
                await self._probe()
                continue
            return self._next()

    async def receive_in_spite(self) -> Message | None:
        """The message that was granted before something failed here; None if it cannot come any more."""
        if self._granted and await self._lane.see_out(
            self._lane.receives, lambda: self._arrived[_READY] is not None, KIND_RECV
        ):
            return self._next()
        return None

    def _next(self) -> Message:
        """The message that has come. That no receive can be posted for another is for whoever wants another."""
        self._granted = False
        message = self._take(_READY)
        try:
            self.post_receive(_READY)
        except self._lane.verbs.PyverbsError as error:
            self._lane.break_down(f"posting a receive failed: {error}")
        return message

    async def post(self, message: Message, deferred: bool = False) -> None:
        """SEND without waiting for credit (answers, READY, ERROR).

        Waits for its own completion, unless `deferred` here or for the channel: then only before its buffer is
        used again.
        """
        lane = self._lane
        data = message.encode()
        slot = self._next_slot
        self._next_slot = (slot + 1) % len(self._outgoing)
        name = NAMES[message.type]
        if slot in self._in_flight:
            await self._wait_slot(slot, name)
        buffer = self._outgoing[slot]
        buffer.write(data, len(data))
        lane.runtime.work(Work.MESSAGE, 1)
        wr_id = KIND_SEND | slot << SLOT_SHIFT
        sge = self._sge(buffer.buf, len(data), buffer.lkey)
        wr = self._send_wr(wr_id=wr_id, opcode=self._send, num_sge=1, sg=[sge], send_flags=self._signaled)
        lane.check()
        await lane.post_send(wr)
        self._in_flight.add(slot)
        self.posts += 1
        if lane.emit is not None:
            now_ns = lane.runtime.now_ns()
            lane.emit(WorkPosted(now_ns, lane.side, lane.qp_num, wr_id, "send", len(data)))
            lane.emit(ControlSent(now_ns, lane.side, name, len(data) - wire.HEADER.size, message.repeat))
        if not (deferred or self._deferred):
            await self._wait_slot(slot, name)

    async def settle(self) -> None:
        """Wait until every control SEND has completed: it has then arrived at the peer."""
        for slot in range(len(self._outgoing)):
            await self._wait_slot(slot, "acknowledgement")

    async def settle_in_spite(self) -> bool:
        """The same after something has failed here; False if a SEND did not arrive, as far as one can know."""
        return await self._lane.see_out(self._lane.sends, lambda: not self._in_flight, KIND_SEND)

    def close(self) -> None:
        """Deregister the buffers; the queue pair must be gone."""
        give_back(self._lane.verbs, *(buffer.close for buffer in (*self._buffers, *self._outgoing)))

    async def _wait_slot(self, slot: int, name: str) -> None:
        if slot in self._in_flight:
            self.before_wait(name)
            await self._lane.wait(self._lane.sends, lambda: slot not in self._in_flight, name)
            self.after_wait()

    async def _wait_receive(self, index: int, what: str, patience_ns: int) -> None:
        if self._arrived[index] is not None:
            return
        self.before_wait(what)
        lane = self._lane
        await lane.wait(lane.receives, lambda: self._arrived[index] is not None, what, patience_ns)
        self.after_wait()

    def _expect(self, index: int, kind: Type) -> Message:
        message = self._take(index)
        if message.type is not kind:
            raise MigrationError(f"the peer sent {NAMES[message.type]} where {NAMES[kind]} was due")
        return message

    def _take(self, index: int) -> Message:
        message = self._arrived[index]
        assert message is not None, "taken before it came"
        self._arrived[index] = None
        return message

    def _sent(self, wr_id: int) -> None:
        self._in_flight.discard(wr_id >> SLOT_SHIFT)
        if self._lane.emit is not None:
            self._record(wr_id, "send", 0)

    def _received(self, wr_id: int, length: int) -> None:
        lane = self._lane
        index = (wr_id & KIND_MASK) - KIND_RECV
        if lane.emit is not None:
            self._record(wr_id, "recv", length)
        lane.runtime.work(Work.MESSAGE, 1)
        message = wire.decode(self._buffers[index].read(length, 0))
        self._arrived[index] = message
        if lane.emit is not None:
            name, now_ns = NAMES[message.type], lane.runtime.now_ns()
            lane.emit(ControlReceived(now_ns, lane.side, name, len(message.data), message.repeat))
        if message.type is Type.ERROR:
            lane.break_down("the peer reported an error")

    def _record(self, wr_id: int, opcode: Literal["send", "recv"], length: int) -> None:
        lane = self._lane
        assert lane.emit is not None
        lane.emit(WorkCompleted(lane.runtime.now_ns(), lane.side, lane.qp_num, wr_id, opcode, length))

    async def _probe(self) -> None:
        """An empty write to nowhere: completes when the peer's device answers, fails when it is gone."""
        verbs, buffer = self._lane.verbs, self._outgoing[0]
        wr = verbs.SendWR(
            wr_id=KIND_PROBE,
            opcode=verbs.enums.IBV_WR_RDMA_WRITE,
            num_sge=1,
            sg=[verbs.SGE(buffer.buf, 0, buffer.lkey)],
            send_flags=verbs.enums.IBV_SEND_SIGNALED,
        )
        wr.set_wr_rdma(0, 0)
        await self._lane.post_send(wr)


def _nothing(*_: str) -> None:
    return None
