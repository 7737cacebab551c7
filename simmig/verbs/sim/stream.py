"""Long writes one after another on a link with nothing else to carry: most of a migration.

Such writes make a stream. All that is left of each are two events, the arrival of its last byte and that of its
acknowledgement. At the first the next write's data is read as well, which has then been on the wire for as long as
the link's latency: for that a write must take longer than it, so that a device would still be reading. Whatever
might see the state of the queue or the wire in between (another flow, a fault, a change of a queue pair) has the
stream left first, that is turned into the bursts it stands for.
"""

from __future__ import annotations

from heapq import heappush
from typing import Any

from simpy.events import NORMAL

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.memory import Payload
from simmig.verbs.sim.parts import QueuePair
from simmig.verbs.sim.requester import Requester
from simmig.verbs.sim.waiting import LightEvent
from simmig.verbs.sim.wc import WC
from simmig.verbs.sim.work import RequestBurst, SendWork

_RDMA_WRITE = int(e.IBV_WC_RDMA_WRITE)


class WriteStream:
    """Has a requester's direction for itself, from its making until it leaves it or runs dry.

    `payload` is the data of the first write, which goes on the wire now. The method bodies are long and flat, and
    work on what they look up once, because they run for every chunk of every migration.
    """

    __slots__ = (
        "_answer",
        "_answered_psn",
        "_answering",
        "_arrival_ns",
        "_arriving",
        "_back_ns",
        "_base_ns",
        "_den",
        "_direction",
        "_end_ns",
        "_env",
        "_event",
        "_header_bytes",
        "_heap",
        "_latency_ns",
        "_length",
        "_mrs",
        "_num",
        "_number",
        "_payload",
        "_pd",
        "_peer",
        "_peer_mrs",
        "_peer_pd",
        "_pending",
        "_push_last",
        "_requester",
        "_rest",
        "_slots",
        "_unacked",
        "_wire_bytes",
        "_wire_ns",
        "_wire_rest",
    )

    _wire_bytes: int

    def __init__(self, requester: Requester, peer: QueuePair, payload: Payload) -> None:
        direction = requester.direction
        self._requester = requester
        self._slots = None if requester.slots_free_at_ack else requester  # to which a polled completion gives back
        self._push_last = requester.qp.send_cq.push_last
        self._pd = requester.qp.pd
        self._mrs = requester.device.mrs
        self._pending = requester.pending
        self._unacked = requester.unacked
        self._header_bytes = requester.header_bytes
        env: Any = requester.env
        self._env = env
        self._heap = env.heap
        self._number = env.number
        self._direction = direction
        self._latency_ns = direction.latency_ns
        self._back_ns = direction.reverse.latency_ns
        self._num = direction.num
        self._den = direction.den
        self._peer = peer.responder
        self._peer_pd = peer.pd
        self._peer_mrs = peer.device.mrs
        self._payload = payload  # of the write on the wire
        self._arriving = (self._arrived,)
        self._event = LightEvent(self._arrived)
        self._answering = (self._answered,)
        self._answer = LightEvent(self._answered)
        self._answered_psn = -1
        work = self._pending[0]
        self._arrival_ns = 0  # of the latest write that has arrived
        self._take_length(work)
        direction.occupy(self._wire_bytes, env._now)
        self._base_ns, self._rest, self._end_ns = direction.base_ns, direction.rest, direction.end_ns
        heappush(self._heap, (self._end_ns + self._latency_ns, NORMAL, self._number(), self._event))

    def _take_length(self, work: SendWork) -> None:
        """Reckon with writes like this one: what it takes is `_wire_ns` plus `_wire_rest` / den."""
        wire_bytes: int = work.length + work.packets * self._header_bytes
        self._length = work.length
        self._wire_bytes = wire_bytes
        self._wire_ns, self._wire_rest = divmod(wire_bytes * self._num, self._den)

    def _arrived(self, event: LightEvent) -> None:
        """The last byte of a write has arrived; the next one has been on the wire for the latency."""
        pending = self._pending
        work = pending.popleft()
        self._unacked.append(work)
        self._direction.bytes_sent += self._wire_bytes
        mr = self._peer_mrs.get(work.rkey)
        address = work.remote_addr
        peer = self._peer
        if (
            mr is None
            or mr.remote_pd is not self._peer_pd
            or address < mr.start
            or address + work.length > mr.end
            or work.psn != peer.expected_psn
        ):
            self._give_up(work)
            return
        mr.segment.dma_write(address - mr.segment_address, self._payload)
        peer.expected_psn = self._answered_psn = work.end_psn
        now = self._arrival_ns = self._env._now
        heap = self._heap
        answer = self._answer
        answer.callbacks = self._answering
        heappush(heap, (now + self._back_ns, NORMAL, self._number(), answer))

        work = pending[0]  # there is one, and it is plain: that was seen to when this one went on the wire
        address, length, lkey = work.sg[0]
        mr = self._mrs.get(lkey)
        if mr is None or mr.pd is not self._pd or address < mr.start or address + length > mr.end:
            self._end(None)
            return
        payload = mr.segment.dma_read(address - mr.segment_address, length)
        if len(pending) == 1 or not (following := pending[1]).streamable or following.visible_ns > now:
            self._end(self._requester.whole_burst(work, payload))
            return
        self._payload = payload
        if length != self._length:
            self._take_length(work)
        if self._wire_rest:
            self._rest += self._wire_rest
            self._base_ns += self._wire_ns + self._rest // self._den
            self._rest %= self._den
            end_ns = self._base_ns + (self._rest > 0)
        else:
            self._base_ns += self._wire_ns
            end_ns = self._end_ns + self._wire_ns
        self._end_ns = end_ns
        event.callbacks = self._arriving
        heappush(heap, (end_ns + self._latency_ns, NORMAL, self._number(), event))

    def _answered(self, event: LightEvent) -> None:
        """The acknowledgement has arrived."""
        requester = self._requester
        work = self._unacked[0]
        if work.end_psn != self._answered_psn:
            requester.acknowledge(self._answered_psn, True)
            return
        self._unacked.popleft()
        requester.acked = work.end_psn
        requester.progress_ns = self._env._now
        if self._slots is None:
            requester.retired = work.ordinal
        if not work.signaled:  # R13
            return
        completion = WC(
            work.wr_id,
            0,
            _RDMA_WRITE,
            0,
            work.length,
            requester.qp_num,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            self._slots,
            work.ordinal,
        )
        self._push_last(completion)  # nothing comes behind it here that would have to come before

    def _late_answered(self, event: LightEvent) -> None:
        """The acknowledgement arrives after the stream has been left."""
        requester = self._requester
        if self._direction.reverse.was_cut():
            requester.set_timer()
        elif requester.sending:
            requester.acknowledge(self._answered_psn, True)

    def leave(self) -> None:
        """Go on burst by burst, from where the stream is now."""
        direction = self._direction
        requester = self._requester
        burst = requester.whole_burst(self._pending[0], self._payload)
        self._detach()
        if self._end_ns > self._env._now:
            direction.free(
                *divmod(self._base_ns * self._den + self._rest - self._wire_bytes * self._num, self._den)
            )
            direction.take_back(requester, burst)
            return
        direction.bytes_sent += self._wire_bytes
        requester.departed(burst)
        burst.work.sent_ns = self._end_ns
        direction.fly(burst, self._end_ns)
        following = self._pending[0]
        direction.take_back(requester, requester.burst(following, 0, following.packets))

    def _give_up(self, work: SendWork) -> None:
        """There is something about this write that the peer has to look into; the next one is on the wire."""
        requester = self._requester
        burst = requester.whole_burst(work, self._payload)
        self._detach()
        work.sent_ns = self._end_ns
        requester.arrived(burst)
        following = None
        if requester.sending and self._pending:
            following = requester.burst(self._pending[0], 0, self._pending[0].packets)
        self._direction.take_back(requester, following)

    def _end(self, burst: RequestBurst | None) -> None:
        """Run dry: behind what has arrived there is only this burst, or something else."""
        self._detach()
        self._direction.take_back(self._requester, burst)

    def _detach(self) -> None:
        """Hand the wire back; the acknowledgement under way, if there is one, is to be looked at closely."""
        self._direction.tenant = None
        self._direction.free(self._base_ns, self._rest)
        self._event.callbacks = ()
        self._requester.forgive()
        if self._unacked and not self._unacked[-1].sent_ns:
            self._unacked[-1].sent_ns = self._arrival_ns - self._latency_ns
        if self._answer.callbacks:
            self._answer.callbacks = (self._late_answered,)


class StreamingRequester(Requester):
    """A requester that streams where nothing speaks against it."""

    __slots__ = ()

    def _begin_stream(self, work: SendWork) -> bool:
        pending = self.pending
        if len(pending) == 1 or not pending[1].streamable or pending[1].visible_ns > self.env._now:
            return False
        direction = self.direction
        peer = direction.target.qps.get(self.qp.dest_qp_num)
        if self._reads or self.draining or self._impatient or not direction.link.up:
            return False
        if peer is None or not direction.target.host.alive or not peer.responder.takes_streams(self):
            return False
        payload = self._payload(work, 0, work.length)
        if payload is None or work.length > self._max_message_bytes:
            return False
        direction.tenant = WriteStream(self, peer, payload)
        return True
