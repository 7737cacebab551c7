"""A connection's queue pair with its completion queues and channels, and how to wait on them."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable

from simmig.migration.config import CQ_DEPTH, Cancelled, MigrationError
from simmig.trace.events import Emit, Side, WorkFailed
from simmig.verbs.api import CQ, WC, Context, SendWR, Verbs
from simmig.verbs.runtime import Connection, Runtime, Signal

RECEIVE_QUEUE_DEPTH = 3
KIND_MASK = 0xFFFF
KIND_WRITE = 1
KIND_SEND = 2000
KIND_PROBE = 3000
KIND_RECV = 4000
SEE_OUT_NS = 30_000_000_000
"""How long a device may take to complete what was posted on it."""
_LOOK_AGAIN_NS = 1_000_000
_POLL_BATCH = 16
_ACK_BATCH = 64

_STATUS = [  # enum ibv_wc_status, man ibv_poll_cq(3)
    "SUCCESS",
    "LOC_LEN_ERR",
    "LOC_QP_OP_ERR",
    "LOC_EEC_OP_ERR",
    "LOC_PROT_ERR",
    "WR_FLUSH_ERR",
    "MW_BIND_ERR",
    "BAD_RESP_ERR",
    "LOC_ACCESS_ERR",
    "REM_INV_REQ_ERR",
    "REM_ACCESS_ERR",
    "REM_OP_ERR",
    "RETRY_EXC_ERR",
    "RNR_RETRY_EXC_ERR",
    "LOC_RDD_VIOL_ERR",
    "REM_INV_RD_REQ_ERR",
    "REM_ABORT_ERR",
    "INV_EECN_ERR",
    "INV_EEC_STATE_ERR",
    "FATAL_ERR",
    "RESP_TIMEOUT_ERR",
    "GENERAL_ERR",
]
_FLUSHED = _STATUS.index("WR_FLUSH_ERR")
_HINTS = {
    "RETRY_EXC_ERR": "the peer's device no longer answers",
    "RNR_RETRY_EXC_ERR": "the peer had no receive buffer posted",
    "REM_ACCESS_ERR": "the peer's memory region refused the access",
    "WR_FLUSH_ERR": "the queue pair was taken down",
}


def depths(send_queue: int) -> tuple[int, int, int]:
    """Work requests that a send queue, a receive queue and a completion queue have room for."""
    return send_queue, RECEIVE_QUEUE_DEPTH, CQ_DEPTH


class PatienceError(MigrationError):
    """Nothing came in the time given."""


class Queue:
    """A completion queue, its channel, and what the correct waiting loop (R27) has to remember."""

    __slots__ = ("armed", "channel", "cq", "unacked")

    def __init__(self, verbs: Verbs, context: Context) -> None:
        self.channel = verbs.CompChannel(context)
        try:
            self.cq = verbs.CQ(context, CQ_DEPTH, None, self.channel, 0)
        except verbs.PyverbsError:
            give_back(verbs, self.channel.close)
            raise
        self.armed = False
        self.unacked = 0

    def arm(self) -> None:
        """Ask for an event at the next completion."""
        self.cq.req_notify()
        self.armed = True

    def take_event(self) -> None:
        """Take one event off the channel and ask for the next, before anybody polls (R27).

        Events are acknowledged in bulk, for that takes a lock.
        """
        self.channel.get_cq_event(self.cq)
        self.cq.req_notify()
        self.unacked += 1
        if self.unacked == _ACK_BATCH:
            self.cq.ack_events(self.unacked)
            self.unacked = 0

    def close(self) -> None:
        """Acknowledge what is left, without which the destruction would wait for ever (R25), and destroy."""
        if self.unacked:
            self.cq.ack_events(self.unacked)
            self.unacked = 0
        self.cq.close()


def give_back(verbs: Verbs, *destroy: Callable[[], None]) -> None:
    """Destroy one after another, whatever a device may refuse: what it keeps is no reason to fail a migration."""
    for each in destroy:
        with contextlib.suppress(verbs.PyverbsError):
            each()


class Lane:
    """One reliable connection; polled completions go to `on_write`, `on_send` and `on_receive`.

    The first error sticks: every later call raises it again.
    """

    def __init__(
        self,
        verbs: Verbs,
        runtime: Runtime,
        connection: Connection,
        side: Side,
        emit: Emit | None,
        depth: int,
    ) -> None:
        enums = verbs.enums
        self.verbs = verbs
        self.runtime = runtime
        self.connection = connection
        self.side: Side = side
        self.emit = emit
        self.error = ""
        self.broken = False
        self._flushed = False
        self._failed_kinds: set[int] = set()
        self._depth = depth
        self._outstanding = 0
        self._closed = False
        self.cancel: Signal | None = None
        self.on_write: Callable[[int], None] = _unexpected
        self.on_send: Callable[[int], None] = _unexpected
        self.on_receive: Callable[[int, int], None] = _unexpected
        context = connection.context
        made: list[Callable[[], None]] = []
        try:
            self.pd = verbs.PD(context)
            made.append(self.pd.close)
            self.sends = Queue(verbs, context)
            made += (self.sends.channel.close, self.sends.close)
            self.receives = Queue(verbs, context)
            made += (self.receives.channel.close, self.receives.close)
            capacity = verbs.QPCap(depth, RECEIVE_QUEUE_DEPTH, 1, 1, 0)
            self.qp = verbs.QP(
                self.pd,
                verbs.QPInitAttr(
                    qp_type=enums.IBV_QPT_RC, scq=self.sends.cq, rcq=self.receives.cq, cap=capacity, sq_sig_all=0
                ),
            )
            made.append(self.qp.close)
            self.qp_num: int = self.qp.qp_num
            connection.prepare(self.qp)
        except verbs.PyverbsError:
            give_back(verbs, *reversed(made))
            raise

    @property
    def full(self) -> bool:
        """Whether the send queue has no room left, or nothing can be sent any more."""
        return self._outstanding >= self._depth or self.error != ""

    def _has_room(self) -> bool:
        return self._outstanding < self._depth

    def posted(self) -> None:
        """A send work request was posted on `qp` directly."""
        self._outstanding += 1

    async def post_send(self, wr: SendWR) -> None:
        """Post a send work request, waiting for a completion first while the queue is full.

        A device that grants less than it said (ENOMEM, R10) is no error either. Raises MigrationError when the
        post is refused for any other reason.
        """
        if self._outstanding >= self._depth:
            await self.wait(self.sends, self._has_room, "completion")
        if self.error:
            raise MigrationError(self.error)
        while True:
            try:
                self.qp.post_send(wr)
            except self.verbs.PyverbsError as error:
                if getattr(error, "error_code", None) != errno.ENOMEM or not self._outstanding:
                    self.break_down(f"posting a send failed: {error}")
                    raise MigrationError(self.error) from error
                await self._wait_for_slot()
            else:
                self._outstanding += 1
                return

    async def _wait_for_slot(self) -> None:
        before = self._outstanding
        await self.wait(self.sends, lambda: self._outstanding < before, "completion")

    def poll(self) -> None:
        """Take all completions there are, without waiting; raises MigrationError on the first failed one."""
        self._poll(self.receives.cq)
        self._poll(self.sends.cq)
        if self.error:
            raise MigrationError(self.error)

    def _poll(self, cq: CQ) -> None:
        count = _POLL_BATCH
        while count == _POLL_BATCH:
            count, completions = cq.poll(_POLL_BATCH)
            for completion in completions:
                if completion.status:
                    self._failed(completion.wr_id, completion.status)
                elif completion.wr_id & KIND_MASK == KIND_WRITE:
                    self._outstanding -= 1
                    self.on_write(completion.wr_id)
                else:
                    self._completed(completion)

    def check(self) -> None:
        """Raise what makes going on pointless: an earlier error, a lost connection, a cancellation."""
        if self.error:
            raise MigrationError(self.error)
        if self.connection.lost:
            self.break_down(f"connection lost: {self.connection.lost}")
            raise MigrationError(self.error)
        if self.cancel is not None and self.cancel.is_set:
            raise Cancelled("cancelled")

    async def wait(
        self, queue: Queue, done: Callable[[], bool], what: str, patience_ns: int | None = None
    ) -> None:
        """Wait until `done` by completions on `queue`; `what` names it in errors.

        Raises MigrationError when the connection is lost, a completion fails or patience (in ns) runs out, and
        Cancelled. Notification is armed before the last poll, so no completion can slip by unnoticed (R26, R27).
        """
        runtime, connection, cancel = self.runtime, self.connection, self.cancel
        deadline_ns = None if patience_ns is None else runtime.now_ns() + patience_ns
        sources = (queue.channel, connection) if cancel is None else (queue.channel, connection, cancel)
        # Completions of sends are wanted while waiting for a message, too: they tell what is pending.
        others = self.sends if queue is self.receives else None
        while True:
            lost = connection.lost  # before polling: what the peer did before it left is to be seen
            if others is not None:
                self._poll(others.cq)
            self._poll(queue.cq)
            if done():
                return
            if self.error or lost or (cancel is not None and cancel.is_set):
                self.check()
            if not queue.armed:
                queue.arm()
            elif not await runtime.wait(*sources, deadline_ns=deadline_ns):
                raise PatienceError(f"the peer sent no {what} within {(patience_ns or 0) / 1e9:g} s")
            elif not connection.lost and (cancel is None or not cancel.is_set):
                queue.take_event()

    async def see_out(self, queue: Queue, done: Callable[[], bool], kind: int) -> bool:
        """Wait for what has been posted, in spite of everything: whether `done`, or work of that kind has failed.

        A queue pair completes whatever was posted on it, even if only to say that it was flushed (R18). So this
        goes by the queue alone, and looks again and again: events, or single calls, may have failed.
        """
        deadline_ns = self.runtime.now_ns() + SEE_OUT_NS
        while True:
            with contextlib.suppress(self.verbs.PyverbsError):
                self._poll(self.receives.cq)
                self._poll(self.sends.cq)
            if done():
                return True
            if kind in self._failed_kinds or self.runtime.now_ns() >= deadline_ns:
                return False
            await self.runtime.sleep(_LOOK_AGAIN_NS)

    def break_down(self, reason: str) -> None:
        """Nothing can be sent any more; the first reason stays, and every later call raises it."""
        self.broken = True
        self.error = self.error or reason

    def close(self) -> None:
        """Destroy the queue pair and the queues. Again is a no-op."""
        if self._closed:
            return
        self._closed = True
        queues = (self.sends.close, self.sends.channel.close, self.receives.close, self.receives.channel.close)
        give_back(self.verbs, self.qp.close, *queues)

    def _completed(self, completion: WC) -> None:
        """Something else than a write has completed."""
        wr_id = completion.wr_id
        kind = wr_id & KIND_MASK
        if kind >= KIND_RECV:
            self.on_receive(wr_id, completion.byte_len)
        else:
            self._outstanding -= 1
            if kind == KIND_SEND:
                self.on_send(wr_id)

    def _failed(self, wr_id: int, status: int) -> None:
        name = _STATUS[status]
        self._failed_kinds.add(min(wr_id & KIND_MASK, KIND_RECV))
        if self.emit is not None:
            self.emit(WorkFailed(self.runtime.now_ns(), self.side, self.qp_num, wr_id, f"IBV_WC_{name}"))
        # A flush only says that something else failed; keep the status that says what.
        if not self.error or (self._flushed and status != _FLUSHED):
            kind = wr_id & KIND_MASK
            what = "a RAM write" if kind == KIND_WRITE else "a receive" if kind >= KIND_RECV else "a control send"
            hint = f", {_HINTS[name]}" if name in _HINTS else ""
            lost = f" ({self.connection.lost})" if self.connection.lost else ""
            self.error = f"{what} failed with IBV_WC_{name}{hint}{lost}"
            self._flushed = status == _FLUSHED
        self.broken = True


def _unexpected(*_: int) -> None:
    raise MigrationError("a completion nobody waits for")
