"""The simulated verbs with the doors open: calls fail as planned, and what a device is free to do is chosen.

One `CheckedVerbs` a side stands in for `simmig.verbs.sim`; its objects are subclasses of the simulated ones, so an
unchecked run pays nothing for them.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from simmig.trace.events import Side
from simmig.verbs import sim
from simmig.verbs.sim.responder import Responder
from simmig.verbs.sim.waiting import LightEvent
from simmig.verbs.sim.work import ACK, RequestBurst
from simmig.verify.choices import ACK_DELAYS_NS, COMPLETION_DELAYS_NS, NOTIFY_DELAYS_NS

if TYPE_CHECKING:
    from simmig.verify.watch import Watch


class CheckedVerbs:
    """The namespace that one side is handed (`simmig.verbs.api.Verbs`)."""

    SGE, SendWR, RecvWR = sim.SGE, sim.SendWR, sim.RecvWR
    QPCap, QPInitAttr, QPAttr = sim.QPCap, sim.QPInitAttr, sim.QPAttr
    PyverbsError, PyverbsRDMAError = sim.PyverbsError, sim.PyverbsRDMAError
    enums = sim.enums
    qp: type[CheckedQP]
    mr: type[CheckedMR]
    """What queue pairs and regions are, if a subject has more to ask of them."""

    def __init__(self, watch: Watch, side: Side) -> None:
        ask = Asker(watch, side)
        self.CompChannel = partial(_Channel, ask)
        self.CQ = partial(_CQ, ask)
        self.PD = partial(_PD, ask)
        self.QP = partial(self.qp, ask)
        self.MR = partial(self.mr, ask)


class Asker:
    """One side's view of the plan: what its objects ask before they do anything."""

    def __init__(self, watch: Watch, side: Side) -> None:
        self.watch = watch
        self.side: Side = side
        self.env = watch.env
        self.choose = watch.choices.choose

    def call(self, name: str, thing: Any = None) -> None:
        """A verb is being called; raises PyverbsRDMAError if it is to fail."""
        code = self.watch.failing(self.side, name)
        if code:
            if thing is not None:
                self.watch.refused.append(thing)
            raise sim.PyverbsRDMAError(f"Failed to {name.replace('_', ' ')}", code)

    def made(self, kind: str, thing: Any) -> None:
        """An object was made, which somebody has to destroy."""
        self.watch.made[self.side].append((kind, thing))

    def later(self, delay_ns: int, what: Any) -> None:
        """Have `what()` called after that time."""
        self.env.schedule(cast(Any, LightEvent(lambda _: what())), delay=delay_ns)


class _Channel(sim.CompChannel):
    __slots__ = ("_ask",)

    def __init__(self, ask: Asker, context: Any) -> None:
        ask.call("create_channel")
        super().__init__(context)
        self._ask = ask
        ask.made("completion channel", self)

    def get_cq_event(self, expected_cq: sim.CQ) -> None:
        self._ask.call("get_cq_event")
        super().get_cq_event(expected_cq)

    def post(self, cq: sim.CQ) -> None:
        option = self._ask.choose("notify", len(NOTIFY_DELAYS_NS))
        if option:
            self._ask.later(NOTIFY_DELAYS_NS[option], lambda: self._post_late(cq))
        else:
            super().post(cq)

    def _post_late(self, cq: sim.CQ) -> None:
        if cq in self._cqs:
            super().post(cq)

    def close(self) -> None:
        if not self._closed:
            self._ask.call("destroy_channel", self)
        super().close()


class _CQ(sim.CQ):
    """Completions may reach the queue late, in order (R16): `_held` are those on the way, and when they come."""

    def __init__(
        self, ask: Asker, context: Any, cqe: int, cq_context: Any = None, channel: Any = None, vector: int = 0
    ) -> None:
        ask.call("create_cq")
        super().__init__(context, cqe, cq_context, channel, vector)
        self._ask = ask
        self._held: deque[tuple[int, sim.cq.WC, bool]] = deque()
        ask.made("completion queue", self)

    def push(self, completion: sim.cq.WC, solicited: bool) -> bool:
        if self._ask.watch.streams:  # which do not come by here, and nothing may overtake
            return super().push(completion, solicited)
        option = self._ask.choose("completion", len(COMPLETION_DELAYS_NS))
        if not option and not self._held:
            return super().push(completion, solicited)
        at_ns = int(self._env.now) + COMPLETION_DELAYS_NS[option]
        if self._held and self._held[-1][0] >= at_ns:
            at_ns = self._held[-1][0]
        else:
            self._ask.later(COMPLETION_DELAYS_NS[option], self._release)
        self._held.append((at_ns, completion, solicited))
        return True

    def poll(self, num_entries: int = 1) -> tuple[int, list[sim.cq.WC]]:
        self._ask.call("poll")
        self._maybe_release()
        return super().poll(num_entries)

    def req_notify(self, solicited_only: bool = False) -> None:
        self._ask.call("req_notify")
        self._maybe_release()
        super().req_notify(solicited_only)
        if self.channel is not None and self._ask.choose("spurious", 2):
            self.armed = sim.cq.NOT_ARMED
            self.channel.post(self)

    def close(self) -> None:
        if not self._closed:
            self._ask.call("destroy_cq", self)
        super().close()

    def _maybe_release(self) -> None:
        if self._held and self._ask.choose("late", 2):
            self._release(late=True)

    def _release(self, late: bool = False) -> None:
        while self._held and not self._closed and (late or self._held[0][0] <= self._env.now):
            _, completion, solicited = self._held.popleft()
            super().push(completion, solicited)


class _PD(sim.PD):
    def __init__(self, ask: Asker, creator: Any) -> None:
        ask.call("alloc_pd")
        super().__init__(creator)
        self._ask = ask
        ask.made("protection domain", self)

    def close(self) -> None:
        if not self._closed:
            self._ask.call("dealloc_pd", self)
        super().close()


class CheckedMR(sim.MR):
    """A region; registering and deregistering it may fail."""

    __slots__ = ("_ask",)

    def __init__(
        self, ask: Asker, creator: Any, length: int = 0, access: int = 0, address: int | None = None
    ) -> None:
        ask.call("reg_mr")
        super().__init__(creator, length, access, address)
        self._ask = ask
        ask.made("memory region", self)

    def close(self) -> None:
        """As ever, or as planned."""
        if not self._closed:
            self._ask.call("dereg_mr", self)
        super().close()


class CheckedQP(sim.QP):
    """A queue pair; whatever is asked of it may fail."""

    def __init__(self, ask: Asker, creator: Any, init_attr: sim.QPInitAttr) -> None:
        ask.call("create_qp")
        super().__init__(creator, init_attr)
        self._ask = ask
        self.responder = _Responder(self, ask)
        ask.made("queue pair", self)
        ask.watch.queue_pairs.append(self)

    def to_init(self, qp_attr: sim.QPAttr) -> None:
        """As ever, or as planned."""
        self._ask.call("to_init")
        super().to_init(qp_attr)

    def to_rts(self, qp_attr: sim.QPAttr) -> None:
        """As ever, or as planned."""
        self._ask.call("to_rts")
        super().to_rts(qp_attr)

    def post_send(self, wr: sim.SendWR, bad_wr: sim.SendWR | None = None) -> None:
        """As ever, or as planned."""
        try:
            self.call_post(wr)
        except sim.PyverbsRDMAError:
            self._ask.watch.full_and_idle |= self.requester.posted == self.requester.retired
            raise
        super().post_send(wr, bad_wr)

    def call_post(self, wr: sim.SendWR) -> None:
        """What is asked before anything is posted; raises PyverbsRDMAError when that is to fail."""
        self._ask.call("post_send")

    def post_recv(self, wr: sim.RecvWR, bad_wr: sim.RecvWR | None = None) -> None:
        """As ever, or as planned."""
        self._ask.call("post_recv")
        super().post_recv(wr, bad_wr)

    def close(self) -> None:
        """As ever, or as planned."""
        if not self._closed:
            self._ask.call("destroy_qp", self)
        super().close()


class _Responder(Responder):
    """May acknowledge late, and may find that no receive is posted."""

    __slots__ = ("_ask",)

    def __init__(self, qp: sim.QP, ask: Asker) -> None:
        super().__init__(qp)
        self._ask = ask

    def takes_streams(self, requester: Any) -> bool:
        """Streams go past everything that is asked here."""
        return self._ask.watch.streams and super().takes_streams(requester)

    def _has_receive(self) -> bool:
        return super()._has_receive() and not self._ask.watch.not_ready(self._ask.side)

    def _answer(self, burst: RequestBurst, syndrome: int, psn: int | None = None) -> None:
        option = 0 if syndrome != ACK else self._ask.choose("ack", len(ACK_DELAYS_NS))
        if not option:
            super()._answer(burst, syndrome, psn)
            return
        burst.syndrome = syndrome
        burst.answer_psn = self.expected_psn if psn is None else psn
        self._ask.later(ACK_DELAYS_NS[option], lambda: self.responses.add_answer(burst))


CheckedVerbs.qp, CheckedVerbs.mr = CheckedQP, CheckedMR
