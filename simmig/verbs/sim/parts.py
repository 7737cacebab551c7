"""What the parts of a device ask of one another, so that none has to know those that are built upon it.

From the wire up: a link has flows, and brings their bursts from one adapter to another; an adapter has regions and
queue pairs; a queue pair has two halves. What stands here is what those further down see of those further up.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from simmig.verbs.sim.host import Host
from simmig.verbs.sim.memory import Segment
from simmig.verbs.sim.profiles import Profile
from simmig.verbs.sim.wc import WC
from simmig.verbs.sim.work import ReceiveWork, RequestBurst


class Answer(enum.Enum):
    """What a flow may answer instead of a burst."""

    TAKEN = enum.auto()


TAKEN = Answer.TAKEN


class Flow(Protocol):
    """Something that sends over a direction, one burst at a time."""

    queued: bool
    """Whether it is in a direction's round; the direction's own mark."""

    def next_burst(self, whole: bool) -> Any:
        """What to send now: up to a whole message, or one packet if not `whole`.

        None says that there is nothing, TAKEN that the flow is the direction's tenant from now on.

        After None the flow calls `Direction.activate` when it has something again, after TAKEN when it has handed
        the wire back.
        """

    def turn(self) -> Any:
        """All that is left of what `next_burst` would send, if nobody has to look at its packets; else None."""

    def departed(self, burst: Any) -> bool:
        """The burst, as long as it is now, has left; whether `next_burst` may have another."""

    def arrived(self, burst: Any) -> None:
        """It has reached the other end."""

    def lost(self, burst: Any) -> None:
        """It never will."""


class Tenant(Protocol):
    """Who has a direction for itself, its packets by reckoning."""

    def leave(self) -> None:
        """Go on burst by burst, from where it is now."""


class Wire(Protocol):
    """A direction, as seen by those who send over it or have it for themselves."""

    env: Any
    num: int
    den: int
    latency_ns: int
    packet_bytes: int
    bytes_sent: int
    end_ns: int
    start_ns: int
    start_rest: int
    tenant: Tenant | None

    def activate(self, flow: Flow) -> None:
        """A flow has something to send."""

    def occupy(self, wire_bytes: int, begin_ns: int) -> None:
        """Have that many bytes on the wire."""

    def free(self, base_ns: int, rest: int) -> None:
        """The wire is free from then on."""

    def fly(self, burst: Any, departure_ns: int) -> None:
        """Have what left then arrive."""

    def arrive(self, burst: Any) -> None:
        """It has arrived."""

    def resume(self, flows: Iterable[Flow], burst: Any) -> None:
        """These flows are next, after that burst or, without one, now."""


class Region(Protocol):
    """What a key leads to: a region, or a window."""

    @property
    def pd(self) -> object:
        """Whose it is: a domain's, or a queue pair's."""

    @property
    def remote_pd(self) -> object:
        """The domain whose peers may write to it without a closer look."""

    @property
    def start(self) -> int:
        """The address it begins at, as work requests see it."""

    @property
    def end(self) -> int:
        """The address behind it."""

    @property
    def access(self) -> int:
        """Rights to it."""

    @property
    def segment(self) -> Segment:
        """The memory it lies in."""

    @property
    def segment_address(self) -> int:
        """Where that memory begins, in the same terms as `start`."""


class Adapter(Protocol):
    """A device, as seen by links and queue pairs."""

    @property
    def host(self) -> Host:
        """The machine it is in."""

    @property
    def profile(self) -> Profile:
        """What it can do and how it behaves."""

    @property
    def mrs(self) -> dict[int, Region]:
        """By key."""

    @property
    def qps(self) -> dict[int, QueuePair]:
        """By number."""

    @property
    def gids(self) -> tuple[str, ...]:
        """Its addresses."""

    @property
    def groups(self) -> dict[str, list[QueuePair]]:
        """Who is in which multicast group."""

    @property
    def listeners(self) -> dict[str, Any]:
        """Who takes connections, by the address they are asked for at."""

    def port_changed(self, up: bool) -> None:
        """A link went up or down."""


class Informed(Protocol):
    """Who opened a device."""

    def raise_event(self, event_type: int, element: Any) -> None:
        """Queue an asynchronous event."""


class ReceivingHalf(Protocol):
    """A responder, as seen by the peer's requester and by what it sends itself."""

    expected_psn: int
    mtu: int

    @property
    def qp(self) -> QueuePair:
        """Whose half it is."""

    @property
    def device(self) -> Adapter:
        """Where it is."""

    @property
    def direction(self) -> Any:
        """Where what it sends goes."""

    def receive(self, burst: RequestBurst) -> None:
        """Request packets have arrived."""

    def takes_streams(self, requester: Any) -> bool:
        """Whether whole writes of that requester need no closer look than at their memory and packet number."""

    def region_gone(self, burst: RequestBurst, psn: int) -> None:
        """The region a read is being answered from has been deregistered."""

    def all_said(self) -> None:
        """The last response has left."""


class Receives(Protocol):
    """A receive queue that queue pairs share."""

    retired: int

    @property
    def receives(self) -> deque[ReceiveWork]:
        """What is posted on it."""

    def taken(self) -> None:
        """A message has taken one."""


class Completions(Protocol):
    """A completion queue, as seen by queue pairs."""

    def push(self, completion: WC, solicited: bool) -> bool:
        """Add a completion; False when it was lost to an overrun."""

    def push_last(self, completion: WC) -> None:
        """Add one that nothing else of the event under way comes behind."""


class QueuePair(Protocol):
    """A queue pair, as seen by its halves, its device and its completion queues."""

    @property
    def device(self) -> Adapter:
        """Where it is."""

    @property
    def pd(self) -> object:
        """The domain whose regions it may use."""

    @property
    def srq(self) -> Receives | None:
        """Where it takes its receives from, if it has none of its own."""

    @property
    def send_cq(self) -> Completions:
        """Where its sends complete."""

    @property
    def recv_cq(self) -> Completions:
        """Where its receives complete."""

    @property
    def responder(self) -> ReceivingHalf:
        """The half that receives."""

    @property
    def qp_num(self) -> int:
        """Its number."""

    @property
    def qp_type(self) -> int:
        """Its transport."""

    @property
    def dest_qp_num(self) -> int:
        """Its peer's number."""

    @property
    def access_flags(self) -> int:
        """What its peer may do."""

    def enter_error(self) -> None:
        """Go to ERR."""

    def enter_send_error(self) -> None:
        """Go to SQE."""

    def abandon(self) -> None:
        """Send nothing, hear nothing any more."""

    def sq_drained(self) -> None:
        """The send queue has nothing under way any more."""

    def communication_established(self) -> None:
        """The first packet has come."""

    def raise_event(self, event_type: int) -> None:
        """Queue an asynchronous event about it."""

    def close(self) -> None:
        """Destroy it."""


__all__ = [
    "TAKEN",
    "Adapter",
    "Answer",
    "Completions",
    "Flow",
    "Informed",
    "QueuePair",
    "Receives",
    "ReceivingHalf",
    "Region",
    "Tenant",
    "Wire",
]
