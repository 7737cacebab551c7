"""Links: bandwidth, latency, packets, loss; each direction shared packet by packet among its flows.

A flow that has a direction to itself sends a whole message as one burst, of which only the end is an event. As
soon as another flow has something to send, the burst under way is cut at the next packet boundary and the flows
take turns, a packet each: a small message overtakes megabytes queued on another queue pair. Long writes of several
queue pairs take such turns without an event a packet (`turns.py`).

Times are exact: a burst ends at the start of the busy period plus all wire bytes since then over the bandwidth,
rounded up once, however the bytes were cut into bursts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappush
from math import gcd, log, log1p
from random import Random
from typing import Any

from simpy.events import NORMAL

from simmig.verbs.sim.burst import bytes_begun
from simmig.verbs.sim.messages import LinkMessage, MessageFlow
from simmig.verbs.sim.parts import TAKEN, Adapter, Flow, Tenant
from simmig.verbs.sim.turns import Turns, turns_of
from simmig.verbs.sim.waiting import LightEvent

PATH_MTUS = {256: 1, 512: 2, 1024: 3, 2048: 4, 4096: 5}
"""Payload bytes of a packet: the values of enum ibv_mtu."""

_NS_BITS = 8_000_000_000  # nanoseconds per second times bits per byte


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """A full-duplex link, the same in both directions.

    `mtu` is the payload of a packet in bytes (an RDMA path MTU), `header_bytes` what a packet needs on the wire
    beside it, `latency_ns` one way, `loss` the probability that a packet is lost. Raises ValueError on nonsense.
    """

    bandwidth_bit_s: int
    latency_ns: int = 0
    mtu: int = 4096
    header_bytes: int = 0
    loss: float = 0.0

    def __post_init__(self) -> None:
        if self.bandwidth_bit_s <= 0:
            raise ValueError(f"a link needs a bandwidth above zero, not {self.bandwidth_bit_s} bit/s")
        if self.latency_ns < 0 or self.header_bytes < 0:
            raise ValueError("latency and header size must not be negative")
        if self.mtu not in PATH_MTUS:
            raise ValueError(f"the MTU must be one of {', '.join(map(str, PATH_MTUS))}, not {self.mtu}")
        if not 0 <= self.loss < 1:
            raise ValueError(f"the loss probability must be in [0, 1), not {self.loss}")


class Direction:
    """One way of a link: takes bursts from its flows in turn and brings them to the other end.

    A queue pair that has it to itself may take it over and `stream` its writes. `bytes_sent` counts all that has
    left, headers too.
    """

    __slots__ = (
        "_arriving",
        "_burst",
        "_departing",
        "_end",
        "_flows",
        "_messages",
        "_random",
        "_together_in",
        "_until_loss",
        "base_ns",
        "bytes_sent",
        "den",
        "end_ns",
        "env",
        "latency_ns",
        "link",
        "num",
        "packet_bytes",
        "packets_lost",
        "rest",
        "reverse",
        "source",
        "spec",
        "start_ns",
        "start_rest",
        "target",
        "tenant",
    )

    def __init__(self, link: Link, source: Adapter, target: Adapter, random: Random) -> None:
        spec = link.spec
        self.env: Any = source.host.env
        self.link = link
        self.source = source
        self.target = target
        self.spec = spec
        self.latency_ns = spec.latency_ns
        self.packet_bytes = spec.mtu + spec.header_bytes  # of the largest
        self.reverse: Direction = self  # until the link has both
        self.bytes_sent = 0
        self.packets_lost = 0
        self.tenant: Tenant | None = None  # who has it for itself, packets by reckoning
        divisor = gcd(_NS_BITS, spec.bandwidth_bit_s)
        self.num = _NS_BITS // divisor  # a byte takes num / den nanoseconds
        self.den = spec.bandwidth_bit_s // divisor
        self.end_ns = -1  # when the wire is or was free
        self.base_ns = 0  # the same exactly is `base_ns` plus `rest` / den
        self.rest = 0
        self.start_ns = 0  # and this is where what is on the wire began
        self.start_rest = 0
        self._random = random
        self._until_loss = self._draw_loss() if spec.loss else -1  # -1: nothing is ever lost
        self._flows: deque[Flow] = deque()  # waiting for their turn; the one that sends is not among them
        self._messages = MessageFlow(self)
        self._burst: Any = None
        self._together_in = 0  # packets until it is tried again to take turns by reckoning
        self._departing = (self._depart,)
        self._arriving = (self.arrive,)
        self._end = LightEvent(self._depart)

    def wire_ns(self, wire_bytes: int) -> int:
        """How long that many bytes take, rounded up."""
        return -(-wire_bytes * self.num // self.den)

    def bytes_in(self, duration_ns: int) -> int:
        """How many bytes are sent in that time, rounded up."""
        return -(-duration_ns * self.den // self.num)

    def activate(self, flow: Flow) -> None:
        """A flow has something to send."""
        if flow.queued:
            return
        flow.queued = True
        if self.tenant is not None:
            self.tenant.leave()
        self._flows.append(flow)
        if self._burst is None:
            self._send_next()
        elif self._burst.count > 1:
            self._shorten(self._burst)

    def transmit(
        self,
        wire_bytes: int,
        on_arrival: Callable[..., None],
        *args: Any,
        on_loss: Callable[..., None] | None = None,
    ) -> None:
        """Send a message of that many bytes on the wire, headers and all, beside the queue pairs' traffic.

        `on_arrival(*args)` is called when its last byte has reached the other end; messages arrive in order.
        Should a packet of it be lost (loss, link down, a dead host at either end), `on_loss(*args)` is called
        instead, when that is certain: retransmission is the caller's business.
        """
        self._messages.send(LinkMessage(wire_bytes, on_arrival, args, on_loss))

    def answer(self, event: Any, callbacks: tuple[Callable[[Any], None], ...]) -> bool:
        """Bring an acknowledgement to the other end: it takes the latency and the risks, but no bandwidth.

        Returns False when it is lost on the way out; the other end asks `was_cut`.
        """
        if not self.link.up or not self.source.host.alive or (self._until_loss >= 0 and self._take(1) == 0):
            self.packets_lost += 1
            return False
        event.callbacks = callbacks
        env = self.env
        heappush(env.heap, (env._now + self.latency_ns, NORMAL, env.number(), event))
        return True

    def was_cut(self) -> bool:
        """Whether the link was pulled while what arrives now was on the way."""
        return bool(self.link.cut_ns >= self.env._now - self.latency_ns)

    def settle(self) -> None:
        """Something is about to happen that a stream, or turns, must not be ahead of."""
        if self.tenant is not None:
            self.tenant.leave()

    def settle_turns(self) -> None:
        """A region is about to change of which a packet may be the next to need it."""
        if isinstance(self.tenant, Turns):
            self.tenant.leave()

    # --- bursts -----------------------------------------------------------------------------------------------

    def _send_next(self) -> None:
        flows = self._flows
        self._burst = None
        while flows:
            flow = flows.popleft()
            if flows and self._until_loss < 0 and self._together(flow):
                return
            burst = flow.next_burst(not flows)
            if burst is None:
                flow.queued = False
                continue
            if burst is TAKEN:
                return
            if self._until_loss >= 0:
                self._expose(burst)
            self.start(burst, self.env._now)
            return

    def _together(self, first: Flow) -> bool:
        """Have that flow and all others take turns by reckoning, if nobody has to look at their packets."""
        self._together_in -= 1
        if self._together_in > 0:
            return False
        flows = [first, *self._flows]
        turns = turns_of(flows) if self.link.up and self.source.host.alive else None
        if turns is None:
            self._together_in = len(flows)
            return False
        self._flows.clear()
        self.tenant = Turns(self, turns)
        return True

    def start(self, burst: Any, begin_ns: int) -> None:
        """Put a burst on the wire: at its free end or, if that is before `begin_ns`, then."""
        self._burst = burst
        self.occupy((burst.count - 1) * burst.packet_bytes + burst.last_bytes, begin_ns)
        end, env = self._end, self.env
        end.callbacks = self._departing
        heappush(env.heap, (self.end_ns, NORMAL, env.number(), end))

    def occupy(self, wire_bytes: int, begin_ns: int) -> None:
        """Have that many bytes on the wire, at its free end or, if that is before `begin_ns`, from then on."""
        if begin_ns > self.end_ns:
            self.base_ns = begin_ns
            self.rest = 0
        self.start_ns = base_ns = self.base_ns
        self.start_rest = rest = self.rest
        time = rest + wire_bytes * self.num
        self.rest = rest = time % self.den
        self.base_ns = base_ns = base_ns + time // self.den
        self.end_ns = base_ns + (rest > 0)

    def free(self, base_ns: int, rest: int) -> None:
        """The wire is free from exactly `base_ns` plus `rest` / den on."""
        self.base_ns = base_ns
        self.rest = rest
        self.end_ns = base_ns + (rest > 0)

    def _shorten(self, burst: Any) -> None:
        """Let the burst under way end with the packet that is now on the wire."""
        begun_bytes = bytes_begun(self.env._now - self.start_ns, self.start_rest, self.num, self.den)
        count = max(-(-begun_bytes // burst.packet_bytes), 1)
        if count >= burst.count:
            return
        if self._until_loss >= 0 and not burst.doomed:
            self._until_loss += burst.count - count
        burst.cut(count)
        self.base_ns = self.start_ns
        self.rest = self.start_rest
        self._end.callbacks = ()  # this is not the end any more
        self._end = LightEvent(self._depart)
        self.start(burst, -1)

    def _depart(self, event: LightEvent) -> None:
        burst = self._burst
        self.bytes_sent += (burst.count - 1) * burst.packet_bytes + burst.last_bytes
        flow = burst.flow
        has_more = flow.departed(burst)
        if burst.doomed or not self.link.up or not self.source.host.alive:
            self.packets_lost += burst.count
            flow.lost(burst)
            has_more = True  # or may have, now that it knows
        else:
            self.fly(burst, self.env._now)
        if has_more or self._flows:
            self._flows.append(flow)
            self._send_next()
        else:
            self._burst = None
            flow.queued = False

    def fly(self, burst: Any, departure_ns: int) -> None:
        """Have what left the wire then arrive."""
        burst.callbacks = self._arriving
        env = self.env
        heappush(env.heap, (departure_ns + self.latency_ns, NORMAL, env.number(), burst))

    def arrive(self, burst: Any) -> None:
        """What flew is there, unless the link was pulled or the other end has died."""
        if self.link.cut_ns >= self.env._now - self.latency_ns or not self.target.host.alive:
            self.packets_lost += burst.count
            burst.flow.lost(burst)
        else:
            burst.flow.arrived(burst)

    def take_back(self, flow: Flow, burst: Any) -> None:
        """A stream has ended; its flow has a burst on the wire or, without one, takes its turn again."""
        self.resume((flow,) if burst is None else (), burst)

    def resume(self, flows: Iterable[Flow], burst: Any) -> None:
        """Whoever had the wire has left it: these flows are next, after that burst or, without one, now."""
        self._flows.extend(flows)
        if burst is not None:
            self.start(burst, -1)
        else:
            self._send_next()

    # --- losses -----------------------------------------------------------------------------------------------

    def _expose(self, burst: Any) -> None:
        """Cut the burst so that all of it gets through or, a single packet, nothing."""
        through = self._take(burst.count)
        burst.doomed = through == 0
        if burst.count > max(through, 1):
            burst.cut(max(through, 1))

    def _take(self, count: int) -> int:
        """How many of the next packets get through before one is lost; 0 means that the first one is."""
        through = min(count, self._until_loss)
        self._until_loss = self._until_loss - through if through else self._draw_loss()
        return through

    def _draw_loss(self) -> int:
        """How many packets get through before one is lost: geometric, so that one draw serves them all."""
        return int(log(1.0 - self._random.random()) / log1p(-self.spec.loss))


class Link:
    """A full-duplex link between two devices (or from a device to itself, as a loopback)."""

    __slots__ = ("cut_ns", "directions", "spec", "up", "watchers")

    def __init__(
        self,
        spec: LinkSpec,
        one: Adapter,
        other: Adapter,
        seed: str,
        direction: type[Direction] = Direction,
    ) -> None:
        self.spec = spec
        self.up = True
        self.cut_ns = -1  # when it was last pulled
        self.watchers: list[Callable[[], None]] = []  # called when it went up or down
        there = direction(self, one, other, Random(f"{seed}:0"))
        back = there if one is other else direction(self, other, one, Random(f"{seed}:1"))
        there.reverse = back
        back.reverse = there
        self.directions = (there, back)
        for device in (one, other):
            device.host.watchers.append(self._settle)

    def set_up(self, up: bool) -> None:
        """Plug or pull the cable. What is on the way when it is pulled is lost; both ports raise their event."""
        if up == self.up:
            return
        self._settle()
        self.up = up
        if not up:
            self.cut_ns = int(self.directions[0].env._now)
        for device in dict.fromkeys(direction.source for direction in self.directions):
            device.port_changed(up)
        for watcher in self.watchers[:]:
            watcher()

    def _settle(self) -> None:
        for direction in self.directions:
            direction.settle()
