"""What a responder sends: the data of reads, as a flow of its direction, and answers, none before earlier data."""

from __future__ import annotations

from collections import deque
from typing import cast

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.burst import Burst
from simmig.verbs.sim.link import Direction
from simmig.verbs.sim.memory import Payload, payload_length, payload_part
from simmig.verbs.sim.parts import ReceivingHalf
from simmig.verbs.sim.work import PSN_MASK, RequestBurst, SendWork

_REMOTE_ATOMIC = int(e.IBV_ACCESS_REMOTE_ATOMIC)
_REMOTE_READ = int(e.IBV_ACCESS_REMOTE_READ)
_REMOTE_WRITE = int(e.IBV_ACCESS_REMOTE_WRITE)
_ATOMIC_WRITE = int(e.IBV_WR_ATOMIC_WRITE)


def right_for(work: SendWork) -> int:
    """The right that a read or an atomic needs of region and queue pair (R31); an atomic write needs a write's."""
    if work.extra is None:
        return _REMOTE_READ
    return _REMOTE_WRITE if work.opcode == _ATOMIC_WRITE else _REMOTE_ATOMIC


class ResponseBurst(Burst):
    """Packets of the data that a read asked for, and the answers that come right behind them."""

    __slots__ = ("answers", "first", "mtu", "payload", "request")

    def __init__(
        self, flow: Responses, request: RequestBurst, first: int, count: int, payload: Payload, header_bytes: int
    ) -> None:
        self.mtu = flow.mtu
        last_bytes = payload_length(payload) - (count - 1) * self.mtu
        super().__init__(flow, count, self.mtu + header_bytes, last_bytes + header_bytes)
        self.request = request
        self.first = first
        self.payload = payload
        self.answers: list[RequestBurst] = []

    def cut(self, count: int) -> None:
        """Keep the first packets only."""
        super().cut(count)
        self.payload = payload_part(self.payload, 0, count * self.mtu)


class _Response:
    """A read whose data is being sent from packet `next` on, or (`next` -1) an answer waiting behind one."""

    __slots__ = ("fresh", "next", "request")

    def __init__(self, request: RequestBurst, first: int, fresh: bool) -> None:
        self.request = request
        self.next = first
        self.fresh = fresh  # a read asked for for the first time


class Responses:
    """The queue of what a responder has to send."""

    __slots__ = ("_responder", "_responses", "queued", "reads")

    def __init__(self, responder: ReceivingHalf) -> None:
        self._responder = responder
        self._responses: deque[_Response] = deque()
        self.reads = 0
        self.queued = False

    @property
    def mtu(self) -> int:
        """Payload bytes of a packet."""
        return self._responder.mtu

    def packets(self, work: SendWork) -> int:
        """How many packets the data of that read takes here, whatever the requester reckons (R43)."""
        return -(-work.length // self._responder.mtu) or 1

    @property
    def fresh_reads(self) -> int:
        """Reads being answered for the first time: those that count against the limit (R44)."""
        return sum(1 for response in self._responses if response.fresh)

    def add_read(self, request: RequestBurst, fresh: bool) -> None:
        """Send the data of that read, from the request's first packet on; a repeated request starts it anew."""
        direction = self._direction()
        direction.reverse.settle()  # its acknowledgements will have to wait
        for response in self._responses:
            if response.next >= 0 and response.request.work is request.work:
                response.request = request
                response.next = request.first
                return
        self.reads += 1
        self._responses.append(_Response(request, request.first, fresh))
        direction.activate(self)

    def add_answer(self, request: RequestBurst) -> None:
        """Send that answer, behind the data of the reads before it."""
        if self.reads:
            self._responses.append(_Response(request, -1, False))
        elif not self._responder.direction.answer(request, request.flow.answering):
            request.flow.lost(request)

    def clear(self) -> None:
        """Send nothing of it any more."""
        self._responses.clear()
        self.reads = 0

    def may_read(self, work: SendWork) -> bool:
        """Whether what the read asks for may be read (R31, R32)."""
        responder = self._responder
        if work.result is not None:
            return True
        mr = responder.device.mrs.get(work.rkey)
        right = right_for(work)
        if mr is None or (mr.pd is not responder.qp.pd and mr.pd is not responder.qp) or not mr.access & right:
            return False
        return bool(mr.start <= work.remote_addr and work.remote_addr + work.length <= mr.end)

    def _direction(self) -> Direction:
        return cast("Direction", self._responder.direction)

    # --- the flow ---------------------------------------------------------------------------------------------

    def next_burst(self, whole: bool) -> ResponseBurst | None:
        """All that is left of the oldest read's data, or a packet of it."""
        responses = self._responses
        if not responses:
            return None
        response = responses[0]
        request = response.request
        work = request.work
        first = response.next
        if work.length and not self.may_read(work):
            self.clear()
            self._responder.region_gone(request, (work.psn + first) & PSN_MASK)
            return None
        count = self.packets(work) - first if whole else 1
        payload: Payload = b""
        if work.result is not None:
            payload = work.result
        elif work.length:
            mr = self._responder.device.mrs[work.rkey]
            start = first * self.mtu
            length = min(count * self.mtu, work.length - start)
            payload = mr.segment.dma_read(work.remote_addr + start - mr.segment_address, length)
        return ResponseBurst(self, request, first, count, payload, self._direction().spec.header_bytes)

    def turn(self) -> None:
        """What it sends goes packet by packet where others send, too."""

    def departed(self, burst: ResponseBurst) -> bool:
        """Go on behind it; answers that had to wait for the read travel with its last packet."""
        responses = self._responses
        if not responses or responses[0].request is not burst.request:
            return bool(responses)
        response = responses[0]
        response.next = burst.first + burst.count
        if response.next == self.packets(burst.request.work):
            responses.popleft()
            self.reads -= 1
            while responses and responses[0].next < 0:
                burst.answers.append(responses.popleft().request)
            if not responses:
                self._responder.all_said()
        return bool(responses)

    def arrived(self, burst: ResponseBurst) -> None:
        """The data is there, then what was to be said after it."""
        burst.request.flow.read_response(burst)
        for answer in burst.answers:
            answer.flow.answered(answer)

    def lost(self, burst: ResponseBurst) -> None:
        """The requester's timer will tell."""
        for request in (burst.request, *burst.answers):
            request.flow.set_timer()
