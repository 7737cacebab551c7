"""Several flows with long messages on one direction take turns, a packet each; only messages' ends are events.

Who is on the wire at any moment follows from the order of the flows and the sizes of their packets. So nothing
has to happen until the first of their messages ends; what might see the state of a queue or the wire in between
has the turns left first, that is turned into the packets that have gone and the one that is going.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappush
from typing import Any

from simpy.events import NORMAL

from simmig.verbs.sim.burst import bytes_begun
from simmig.verbs.sim.parts import Flow, Wire
from simmig.verbs.sim.waiting import LightEvent
from simmig.verbs.sim.work import RequestBurst

_WORTH = 2
"""With fewer packets a flow, on an average, an event each is as cheap."""


class _Turn:
    """What is left of a flow's message, how many packets of it are gone, and when the latest one left."""

    __slots__ = ("burst", "flow", "gone", "left_ns")

    def __init__(self, flow: Flow, burst: Any) -> None:
        self.flow = flow
        self.burst = burst
        self.gone = 0
        self.left_ns = 0


def turns_of(flows: Sequence[Flow]) -> list[_Turn] | None:
    """The flows' messages, in their order; None when one of them has to be looked at packet by packet."""
    turns: list[_Turn] = []
    for flow in flows:
        burst = flow.turn()
        if burst is None:
            return None
        turns.append(_Turn(flow, burst))
    return turns if sum(turn.burst.count for turn in turns) >= _WORTH * len(turns) else None


class Turns:
    """Has a direction for itself from its making until it leaves it, or a flow comes to something else."""

    __slots__ = ("_event", "_first", "_round_bytes", "_rounds", "_turns", "_wire")

    def __init__(self, wire: Wire, turns: list[_Turn]) -> None:
        self._wire = wire
        self._turns = turns
        self._event = LightEvent(self._ended)
        self._plan()

    def _plan(self) -> None:
        """The next to end is `_first`, with its packet after `_rounds` whole rounds."""
        turns = self._turns
        lefts = [turn.burst.count - turn.gone for turn in turns]
        least = min(lefts)
        self._rounds = least - 1
        self._first = first = lefts.index(least)
        sizes = [turn.burst.packet_bytes for turn in turns]
        self._round_bytes = sum(sizes)
        wire = self._wire
        last_bytes = turns[first].burst.last_bytes
        wire.occupy(self._rounds * self._round_bytes + sum(sizes[:first]) + last_bytes, wire.env._now)
        event = self._event
        event.callbacks = (self._ended,)
        heappush(wire.env.heap, (wire.end_ns, NORMAL, wire.env.number(), event))

    def _ended(self, event: LightEvent) -> None:
        """The last packet of a message has left; its flow goes on behind all others."""
        wire = self._wire
        turns, first = self._turns, self._first
        self._advance(self._rounds, first)
        ended = turns[first]
        burst, flow = ended.burst, ended.flow
        wire.bytes_sent += burst.wire_bytes
        flow.departed(burst)
        wire.fly(burst, wire.env._now)
        self._turns = turns = turns[first + 1 :] + turns[:first]
        following = flow.turn()
        if following is not None:
            turns.append(_Turn(flow, following))
            self._plan()
            return
        wire.tenant = None
        landed = self._dissolve()
        wire.resume([*(turn.flow for turn in turns), flow], None)
        for part in landed:
            wire.arrive(part)

    def leave(self) -> None:
        """Go on packet by packet, from where the flows are now."""
        wire, turns = self._wire, self._turns
        self._event.callbacks = ()
        wire.tenant = None
        begun_bytes = bytes_begun(wire.env._now - wire.start_ns, wire.start_rest, wire.num, wire.den)
        rounds, rest_bytes = divmod(begun_bytes, self._round_bytes)
        if rest_bytes == 0 and rounds:  # a packet that ends this very moment has not ended yet
            rounds, rest_bytes = rounds - 1, self._round_bytes
        before_bytes = at = 0
        while before_bytes + turns[at].burst.packet_bytes < rest_bytes:
            before_bytes += turns[at].burst.packet_bytes
            at += 1
        if (rounds, at) > (self._rounds, self._first):
            rounds, at = self._rounds, self._first
            before_bytes = sum(turn.burst.packet_bytes for turn in turns[:at])
        self._advance(rounds, at)
        time = wire.start_rest + (rounds * self._round_bytes + before_bytes) * wire.num
        wire.free(wire.start_ns + time // wire.den, time % wire.den)
        landed = self._dissolve()
        current = turns[at].burst
        if current.count > 1:
            current.cut(1)
        wire.resume([turn.flow for turn in turns[at + 1 :] + turns[:at]], current)
        for part in landed:
            wire.arrive(part)

    def _advance(self, rounds: int, at: int) -> None:
        """So many rounds are gone since the wire's start, and of the next one what comes before that turn."""
        wire = self._wire
        end_bytes = -self._round_bytes
        for index, turn in enumerate(self._turns):
            end_bytes += turn.burst.packet_bytes
            gone = rounds + (index < at)
            if gone:
                turn.gone += gone
                time = wire.start_rest + (end_bytes + gone * self._round_bytes) * wire.num
                turn.left_ns = wire.start_ns - (-time // wire.den)

    def _dissolve(self) -> list[Any]:
        """Make bursts of what is gone and have them fly; returns those that have landed already."""
        wire = self._wire
        landed = []
        for turn in self._turns:
            if not turn.gone:
                continue
            part = turn.burst.split(turn.gone)
            wire.bytes_sent += part.wire_bytes
            turn.flow.departed(part)
            if isinstance(part, RequestBurst):
                part.work.sent_ns = turn.left_ns
            if turn.left_ns + wire.latency_ns <= wire.env._now:
                landed.append(part)
            else:
                wire.fly(part, turn.left_ns)
        return landed
