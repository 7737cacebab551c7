"""Completion channels, completion queues, completions (module pyverbs.cq)."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import Any

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.base import NotModelled, PyverbsCM
from simmig.verbs.sim.device import Context
from simmig.verbs.sim.parts import QueuePair
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError
from simmig.verbs.sim.waiting import Waitable
from simmig.verbs.sim.wc import WC

NOT_ARMED = 0
ARMED_SOLICITED = 1
ARMED_ANY = 2


class CompChannel(PyverbsCM, Waitable):
    """Where completion events of CQs arrive. A source of `Runtime.wait`: ready while it holds an event."""

    __slots__ = ("_closed", "_context", "_cqs", "events", "posted", "ready")

    ready: bool
    """Whether an event can be taken without waiting."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context
        self.events: deque[CQ] = deque()
        self.ready = False
        self.posted: Callable[[], None] | None = None  # told of each event
        self._cqs: list[CQ] = []
        self._closed = False
        context.add_ref(self)

    @property
    def context(self) -> Context:
        """Where it was made."""
        return self._context

    def get_cq_event(self, expected_cq: CQ) -> None:
        """Take the next event, which must be that CQ's.

        While there is none, blocks by letting virtual time go on. Raises PyverbsRDMAError: EAGAIN when called on
        an empty channel by a simulated task, which has to wait for it first; EDEADLK when nothing is left that
        could bring an event.
        """
        events = self.events
        if not events:
            self._context.device.block_until(lambda: bool(events), "Failed to get CQ event")
        cq = events.popleft()
        if not events:
            self.ready = False
        cq.events_taken += 1
        if cq is not expected_cq:
            raise PyverbsRDMAError("Received event on an unexpected CQ", errno.EINVAL)
        cq.num_events += 1

    def add_ref(self, cq: CQ) -> None:
        """A CQ reports here."""
        self._cqs.append(cq)

    def remove_ref(self, cq: CQ) -> None:
        """It no longer does: events nobody has taken go with it."""
        self._cqs.remove(cq)
        while cq in self.events:
            self.events.remove(cq)
        self.ready = bool(self.events)

    def post(self, cq: CQ) -> None:
        """Deliver an event."""
        self.events.append(cq)
        self.ready = True
        if self.posted is not None:
            self.posted()
        for waiter in self.waiters:
            if waiter.waiting and self in waiter.sources:
                waiter.wake(True)

    def post_last(self, cq: CQ) -> None:
        """Deliver an event to the only one who ever waits here, as the last thing that happens at this moment."""
        self.events.append(cq)
        self.ready = True
        waiter = self.waiters[0]
        if waiter.waiting and self in waiter.sources:
            waiter.wake_now()

    def close(self) -> None:
        """Destroy the channel, after its CQs as pyverbs does."""
        if self._closed:
            return
        for cq in self._cqs[:]:
            cq.close()
        self._closed = True
        self._context.remove_ref(self)


class CQ(PyverbsCM):
    """A completion queue."""

    def __init__(
        self,
        context: Context,
        cqe: int,
        cq_context: Any = None,
        channel: CompChannel | None = None,
        comp_vector: int = 0,
    ) -> None:
        profile = context.device.profile
        foreign = channel is not None and channel.context is not context
        if foreign or not 0 < cqe <= profile.max_completions or not 0 <= comp_vector < context.num_comp_vectors:
            raise PyverbsRDMAError("Failed to create a CQ", errno.EINVAL)
        self._context = context
        self._device = context.device
        self._host = context.device.host
        self._env = self._host.env
        self._poll_ns = self._host.costs.poll_ns
        self._poll_cqe_ns = self._host.costs.poll_cqe_ns
        self._charged = bool(self._poll_ns or self._poll_cqe_ns)
        self.entries: deque[WC] = deque()
        self.armed = NOT_ARMED
        self._dead = False
        self._errors_solicit = profile.solicited_fires_for_errors
        self._closed = False
        self._qps: list[QueuePair] = []
        self.cq_context = cq_context
        self.channel = channel
        self.cqe = profile.completion_slots(cqe)
        self.num_events = 0
        """Events that pyverbs knows of: not those taken by mistake for another CQ's."""
        self.events_taken = 0
        self.events_acknowledged = 0
        context.add_ref(self)
        if channel is not None:
            channel.add_ref(self)

    @property
    def context(self) -> Context:
        """Where it was made."""
        return self._context

    @property
    def comp_channel(self) -> CompChannel | None:
        """The channel it reports to."""
        return self.channel

    def poll(self, num_entries: int = 1) -> tuple[int, list[WC]]:
        """Take up to that many completions: (how many, the completions).

        Outside any simulated task an empty queue lets virtual time go on to the next event, then looks again.
        """
        entries = self.entries
        if not entries and self._env.active_process is None:
            self._device.let_time_pass()
        if not entries:
            if self._charged:
                self._host.charge(self._poll_ns)
            return 0, []
        completion = entries.popleft()
        if completion.queue is not None:  # R14
            completion.queue.retired = completion.retires
        completions = [completion]
        count = 1
        while entries and count < num_entries:
            completion = entries.popleft()
            if completion.queue is not None:
                completion.queue.retired = completion.retires
            completions.append(completion)
            count += 1
        if self._charged:
            self._host.charge(self._poll_ns + count * self._poll_cqe_ns)
        return count, completions

    def take(self, count: int) -> list[WC]:
        """Take up to that many completions that are there."""
        return self.poll(count)[1] if self.entries and count > 0 else []

    def req_notify(self, solicited_only: bool = False) -> None:
        """Ask for one event at the next completion (R26), or the next solicited one or error (R28, R29)."""
        if not solicited_only:
            self.armed = ARMED_ANY
        elif self.armed == NOT_ARMED:
            self.armed = ARMED_SOLICITED

    def ack_events(self, num_events: int) -> None:
        """Acknowledge events taken from the channel; destruction waits until exactly all are (R25)."""
        self.num_events -= num_events
        self.events_acknowledged += num_events

    def resize(self, cqe: int) -> None:
        """Change the depth; raises PyverbsRDMAError (EINVAL) when what is queued would not fit."""
        if not len(self.entries) <= cqe <= self._device.profile.max_completions or cqe == 0:
            raise PyverbsRDMAError("Failed to resize CQ", errno.EINVAL)
        self.cqe = self._device.profile.completion_slots(cqe)

    def close(self) -> None:
        """Destroy the queue; as in pyverbs, its QPs go first and events taken are acknowledged."""
        if self._closed:
            return
        for qp in self._qps[:]:
            qp.close()
        if self.num_events:
            self.ack_events(self.num_events)
        self.destroy()

    def destroy(self) -> None:
        """ibv_destroy_cq itself, without pyverbs' help (R25).

        Raises PyverbsRDMAError: EBUSY with QPs attached; while events are not acknowledged it waits, or raises
        EDEADLK (EAGAIN in a simulated task) where that would be for ever.
        """
        if self._qps:
            raise PyverbsRDMAError("Failed to close CQ", errno.EBUSY)
        if self.events_acknowledged != self.events_taken:  # libibverbs compares with !=: too many never match
            self._device.block_until(
                lambda: self.events_acknowledged == self.events_taken,
                f"Failed to close CQ: {self.events_taken} events taken, {self.events_acknowledged} acknowledged",
            )
        self._closed = True
        self.entries.clear()
        if self.channel is not None:
            self.channel.remove_ref(self)
        self._context.remove_ref(self)

    def add_ref(self, qp: QueuePair) -> None:
        """A QP completes here."""
        if qp not in self._qps:
            self._qps.append(qp)

    def remove_ref(self, qp: QueuePair) -> None:
        """It no longer does; its completions stay."""
        if qp in self._qps:
            self._qps.remove(qp)

    def push(self, completion: WC, solicited: bool) -> bool:
        """Add a completion and raise the event if one was asked for; False when it was lost to an overrun."""
        if len(self.entries) >= self.cqe or self._dead:
            self._overrun()
            return False
        self.entries.append(completion)
        armed = self.armed
        if armed and (armed == ARMED_ANY or solicited or (completion.status and self._errors_solicit)):
            self.armed = NOT_ARMED
            channel = self.channel
            if channel is not None:
                channel.post(self)
        return True

    def push_last(self, completion: WC) -> None:
        """Add one that nothing else of the event under way comes behind: who waits alone goes on at once."""
        channel = self.channel
        if self.armed == ARMED_ANY and not self.entries and channel is not None and len(channel.waiters) == 1:
            self.entries.append(completion)
            self.armed = NOT_ARMED
            channel.post_last(self)
        else:
            self.push(completion, False)

    def purge(self, qp_num: int) -> None:
        """Take out that QP's completions (R21)."""
        self.entries = deque(entry for entry in self.entries if entry.qp_num != qp_num)

    def _overrun(self) -> None:
        if self._dead:
            return
        self._context.raise_event(e.IBV_EVENT_CQ_ERR, self)
        if self._device.profile.overrun_kills_cq:
            self._dead = True
            for qp in self._qps[:]:
                self._context.raise_event(e.IBV_EVENT_QP_FATAL, qp)
                qp.enter_error()


class CQEX(NotModelled):
    """Extended completion queues."""


class CqInitAttrEx(NotModelled):
    """Attributes of extended completion queues."""


__all__ = ["CQ", "CQEX", "WC", "CompChannel", "CqInitAttrEx"]
