"""One direction of a TCP connection: pieces of a byte stream, their acknowledgement, window and retransmission."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import simpy
from simpy.events import NORMAL

from simmig.verbs.sim.link import Direction, LinkSpec, Message, MessageFlow
from simmig.verbs.sim.memory import Payload, payload_length, payload_part
from simmig.verbs.sim.waiting import LightEvent, Waitable

if TYPE_CHECKING:
    from simmig.verbs.sim.tcp import SimSocket

SEND_BUFFER_BYTES = 4 << 20
"""What a socket takes from its task before the peer has acknowledged it: Linux' largest tcp_wmem (ip-sysctl)."""
RECEIVE_WINDOW_BYTES = 3 << 20
"""What may be sent before the peer's task has read it: half of Linux' largest tcp_rmem (tcp_adv_win_scale 1)."""
PIECE_BYTES = 512 << 10
"""The most that is copied and sent at once: the grain of the model, a sixth of the window."""

_ETHERNET_PAYLOADS = (1500, 9000)  # the usual one, and jumbo frames
_ROCE_BYTES = 60  # IPv4, UDP, BTH, RETH, ICRC: what a packet of an RDMA path MTU needs of such a payload
_TCP_IP_BYTES = 52  # IPv4, TCP, timestamps
_FRAME_BYTES = 38  # preamble, Ethernet header, FCS, gap
_RETRANSMISSION_NS = 200_000_000  # Linux' TCP_RTO_MIN; doubles each time
_MAX_DOUBLINGS = 9  # Linux' TCP_RTO_MAX, 120 s


def segment_payload_bytes(spec: LinkSpec) -> int:
    """Data bytes of a full segment: the link's RDMA path MTU tells its Ethernet MTU."""
    return next(size for size in _ETHERNET_PAYLOADS if size >= spec.mtu + _ROCE_BYTES) - _TCP_IP_BYTES


def wire_bytes(spec: LinkSpec, length_bytes: int) -> int:
    """What that many bytes of a stream, sent at once, take on the wire; a segment without data for none."""
    segments = max(-(-length_bytes // segment_payload_bytes(spec)), 1)
    return length_bytes + segments * (_TCP_IP_BYTES + _FRAME_BYTES)


def later(env: simpy.Environment, delay_ns: int, action: Callable[[], None]) -> None:
    """Call `action` that much later."""
    env.schedule(cast(Any, LightEvent(lambda event: action())), NORMAL, delay_ns)


class Piece:
    """A part of the stream on its way; without payload, its end."""

    __slots__ = ("end_bytes", "index", "length_bytes", "payload", "resent", "timeouts")

    def __init__(self, index: int, payload: Payload | None, end_bytes: int) -> None:
        self.index = index
        self.payload = payload
        self.length_bytes = 0 if payload is None else payload_length(payload)
        self.end_bytes = end_bytes  # the stream's position behind it
        self.resent = False
        self.timeouts = 0


class Pipe(Waitable):
    """Carries a byte stream from one socket to another, in order and whole.

    As a source of a wait it is the room in the send buffer: ready when `needed_bytes` fit, or nothing ever will.
    Acknowledgements cost no event: they are put down with the time at which the sender gets to know of them, and
    only a sender that cannot go on without one has itself woken then.
    """

    __slots__ = (
        "_accepted_bytes",
        "_acked_bytes",
        "_acks",
        "_again",
        "_alarmed",
        "_direction",
        "_early",
        "_env",
        "_expected",
        "_flow",
        "_head_bytes",
        "_offered_bytes",
        "_pieces",
        "_queue",
        "_read_bytes",
        "_received_bytes",
        "_receiver",
        "_unread",
        "_window_end_bytes",
        "at_end",
        "needed_bytes",
        "stopped",
    )

    def __init__(self, direction: Direction, receiver: SimSocket) -> None:
        super().__init__()
        self._direction = direction
        self._env = direction.env
        self._receiver = receiver
        self._flow = MessageFlow(direction)
        self._again = MessageFlow(direction)  # retransmissions do not queue behind what is new
        self.stopped = False
        self.needed_bytes = 0
        # What the sender knows
        self._queue: deque[Piece] = deque()  # waiting for the window
        self._pieces = 0
        self._accepted_bytes = 0
        self._acked_bytes = 0
        self._window_end_bytes = RECEIVE_WINDOW_BYTES
        self._acks: deque[tuple[int, int, int]] = deque()  # on their way: due, acked bytes, end of the window
        self._alarmed = False
        # What the receiver knows
        self.at_end = False
        self._expected = 0
        self._early: dict[int, Piece] = {}  # behind a gap
        self._unread: deque[Payload] = deque()
        self._head_bytes = 0  # of the first unread payload, read already
        self._received_bytes = 0
        self._read_bytes = 0
        self._offered_bytes = 0  # of those read, what the sender was told

    @property
    def ready(self) -> bool:
        """Whether the send buffer has the room needed."""
        if self.stopped:
            return True
        self._take_acks()
        if SEND_BUFFER_BYTES - (self._accepted_bytes - self._acked_bytes) >= self.needed_bytes:
            return True
        self._set_alarm()
        return False

    @property
    def unread(self) -> bool:
        """Whether there is something to read."""
        return bool(self._unread)

    def send(self, payload: Payload | None) -> None:
        """Take a payload into the send buffer, or the end of the stream."""
        if self.stopped:
            return
        piece = Piece(self._pieces, payload, self._accepted_bytes)
        piece.end_bytes += piece.length_bytes
        self._pieces += 1
        self._accepted_bytes = piece.end_bytes
        self._queue.append(piece)
        self._take_acks()
        self._send_queued()

    def read(self, limit_bytes: int) -> Payload:
        """What there is to read, but no more than that and no more than one piece; there must be something."""
        head = self._unread[0]
        left_bytes = payload_length(head) - self._head_bytes
        count = min(left_bytes, limit_bytes)
        part = payload_part(head, self._head_bytes, count)
        if count < left_bytes:
            self._head_bytes += count
        else:
            self._unread.popleft()
            self._head_bytes = 0
        self._read_bytes += count
        if self._read_bytes - self._offered_bytes >= PIECE_BYTES:  # no silly windows
            self.acknowledge()
        return part

    def acknowledge(self) -> None:
        """Have the sender know, when it can, what has arrived and what it may send."""
        if not self._direction.link.up:
            return
        self._offered_bytes = self._read_bytes
        due_ns = int(self._env._now) + self._direction.reverse.latency_ns
        self._acks.append((due_ns, self._received_bytes, self._read_bytes + RECEIVE_WINDOW_BYTES))
        if self._queue or any(waiter.waiting for waiter in self.waiters):
            self._set_alarm()

    def stop(self) -> None:
        """Nothing is sent any more: the connection is lost."""
        self.stopped = True
        self._queue.clear()
        self._acks.clear()
        self.wake_waiters()

    def _take_acks(self) -> None:
        acks = self._acks
        now = self._env._now
        while acks and acks[0][0] <= now:
            _, self._acked_bytes, self._window_end_bytes = acks.popleft()

    def _set_alarm(self) -> None:
        """Look again when the next acknowledgement is here."""
        if self._acks and not self._alarmed:
            self._alarmed = True
            later(self._env, self._acks[0][0] - int(self._env._now), self._alarm)

    def _alarm(self) -> None:
        self._alarmed = False
        self._take_acks()
        self._send_queued()
        if self.ready:
            self.wake_waiters()

    def _send_queued(self) -> None:
        """Send as far as the window goes."""
        queue = self._queue
        while queue and queue[0].end_bytes <= self._window_end_bytes:
            piece = queue.popleft()
            size = wire_bytes(self._direction.spec, piece.length_bytes)
            self._flow.send(Message(size, self._arrived, (piece,), self._missing))
        if queue:
            self._set_alarm()

    def _arrived(self, piece: Piece) -> None:
        """At the receiver: all of the piece is there."""
        if self._receiver.refuses(piece.length_bytes):
            return
        self._early[piece.index] = piece
        while self._expected in self._early:
            piece = self._early.pop(self._expected)
            self._expected += 1
            if piece.payload is None:
                self.at_end = True
            else:
                self._unread.append(piece.payload)
                self._received_bytes += piece.length_bytes
        self.acknowledge()
        self._receiver.wake_waiters()

    def _missing(self, piece: Piece) -> None:
        """At the sender: part of the piece has not arrived."""
        direction = self._direction
        if self.stopped or not direction.source.host.alive:
            return
        broken = not direction.link.up or not direction.target.host.alive
        if piece.resent or broken:
            delay_ns = _RETRANSMISSION_NS << min(piece.timeouts, _MAX_DOUBLINGS)
            piece.timeouts += 1
        else:
            delay_ns = direction.reverse.latency_ns  # the duplicate acknowledgement's way
        piece.resent = True
        # One segment mends a piece of which some got through; of a piece cut off all is sent again.
        length_bytes = (
            piece.length_bytes if broken else min(piece.length_bytes, segment_payload_bytes(direction.spec))
        )
        message = Message(wire_bytes(direction.spec, length_bytes), self._arrived, (piece,), self._missing)
        later(self._env, delay_ns, lambda: self._send_again(message))

    def _send_again(self, message: Message) -> None:
        if not self.stopped:
            self._again.send(message)
