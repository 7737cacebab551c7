"""One direction of a TCP connection: trains of payloads, their acknowledgement, window and retransmission."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from simmig.verbs.sim.link import Direction, LinkSpec
from simmig.verbs.sim.memory import Payload, payload_length, payload_part
from simmig.verbs.sim.messages import LinkMessage, MessageBurst, MessageFlow
from simmig.verbs.sim.timeline import Timeline
from simmig.verbs.sim.waiting import LightEvent, Waitable

SEND_BUFFER_BYTES = 4 << 20
"""What a socket takes from its task before the peer has acknowledged it: Linux' largest tcp_wmem (ip-sysctl)."""
RECEIVE_WINDOW_BYTES = 3 << 20
"""What may be sent before the peer's task has read it: half of Linux' largest tcp_rmem (tcp_adv_win_scale 1)."""
PIECE_BYTES = 1 << 20
"""The most that is copied at once, and about what travels together: the grain of the model."""
RETRANSMISSION_NS = 200_000_000
"""After which what is missing is sent again where nothing tells sooner; doubles each time: Linux' TCP_RTO_MIN."""

_ETHERNET_PAYLOADS = (1500, 9000)  # the usual one, and jumbo frames
_ROCE_BYTES = 60  # IPv4, UDP, BTH, RETH, ICRC: what a packet of an RDMA path MTU needs of such a payload
_TCP_IP_BYTES = 52  # IPv4, TCP, timestamps
_FRAME_BYTES = 38  # preamble, Ethernet header, FCS, gap
_MAX_DOUBLINGS = 9  # Linux' TCP_RTO_MAX, 120 s


def segment_payload_bytes(spec: LinkSpec) -> int:
    """Data bytes of a full segment: the link's RDMA path MTU tells its Ethernet MTU."""
    return next(size for size in _ETHERNET_PAYLOADS if size >= spec.mtu + _ROCE_BYTES) - _TCP_IP_BYTES


def wire_bytes(spec: LinkSpec, length_bytes: int) -> int:
    """What that many bytes of a stream, sent at once, take on the wire; a segment without data for none."""
    segments = max(-(-length_bytes // segment_payload_bytes(spec)), 1)
    return length_bytes + segments * (_TCP_IP_BYTES + _FRAME_BYTES)


def later(env: Timeline, delay_ns: int, action: Callable[[], None]) -> None:
    """Call `action` that much later."""
    env.at(env._now + delay_ns, LightEvent(lambda event: action()))


class Train:
    """Payloads that travel together, and maybe the end of the stream."""

    __slots__ = ("ends", "index", "length_bytes", "payloads", "resent", "timeouts")

    def __init__(self, index: int) -> None:
        self.index = index
        self.payloads: list[Payload] = []
        self.length_bytes = 0
        self.ends = False
        self.resent = False
        self.timeouts = 0


class _TrainFlow(MessageFlow):
    """Asks for the next message when the link is free for it: what waits meanwhile can go together."""

    __slots__ = ("_next_message",)

    def __init__(self, direction: Direction, next_message: Callable[[], LinkMessage | None]) -> None:
        super().__init__(direction)
        self._next_message = next_message

    def turn(self) -> None:
        """What it sends goes packet by packet where others send, too."""

    def next_burst(self, whole: bool) -> MessageBurst | None:
        """All that is left of the message under way, or a packet of it."""
        if not self._messages:
            message = self._next_message()
            if message is None:
                return None
            self._messages.append(message)
        return super().next_burst(whole)


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
        "_queue",
        "_read_bytes",
        "_received_bytes",
        "_receiver",
        "_refuses",
        "_sent_bytes",
        "_trains",
        "_unread",
        "_window_end_bytes",
        "at_end",
        "needed_bytes",
        "stopped",
    )

    def __init__(self, direction: Direction, receiver: Waitable, refuses: Callable[[int], bool]) -> None:
        super().__init__()
        self._direction = direction
        self._env = direction.env
        self._receiver = receiver
        self._refuses = refuses  # data of that length, by resetting the connection
        self._flow = _TrainFlow(direction, self._next_train)
        self._again = MessageFlow(direction)  # retransmissions do not queue behind what is new
        self.stopped = False
        self.needed_bytes = 0
        # What the sender knows
        self._queue: deque[Payload | None] = deque()  # waiting for the link or the window
        self._trains = 0
        self._accepted_bytes = 0
        self._sent_bytes = 0
        self._acked_bytes = 0
        self._window_end_bytes = RECEIVE_WINDOW_BYTES
        self._acks: deque[tuple[int, int, int]] = deque()  # on their way: due, acked bytes, end of the window
        self._alarmed = False
        # What the receiver knows
        self.at_end = False
        self._expected = 0
        self._early: dict[int, Train] = {}  # behind a gap
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
        """Take a payload (of at most `PIECE_BYTES`) into the send buffer, or the end of the stream."""
        if not self.stopped:
            if payload is not None:
                self._accepted_bytes += payload_length(payload)
            self._queue.append(payload)
            self._direction.activate(self._flow)

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
        if not self._alarmed and (self._queue or any(waiter.waiting for waiter in self.waiters)):
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
        if self._queue:
            self._direction.activate(self._flow)
        if self.ready:
            self.wake_waiters()

    def _next_train(self) -> LinkMessage | None:
        """What the window lets go: one payload, and more while that makes no full piece."""
        self._take_acks()
        train = Train(self._trains)
        queue = self._queue
        while queue and train.length_bytes < PIECE_BYTES:
            payload = queue[0]
            if payload is None:
                train.ends = True
            else:
                length_bytes = payload_length(payload)
                if self._sent_bytes + length_bytes > self._window_end_bytes:
                    self._set_alarm()
                    break
                train.payloads.append(payload)
                train.length_bytes += length_bytes
                self._sent_bytes += length_bytes
            queue.popleft()
        if not train.payloads and not train.ends:
            return None
        self._trains += 1
        return self._message(train, train.length_bytes)

    def _message(self, train: Train, length_bytes: int) -> LinkMessage:
        return LinkMessage(wire_bytes(self._direction.spec, length_bytes), self._arrived, (train,), self._missing)

    def _arrived(self, train: Train) -> None:
        """At the receiver: all of the train is there."""
        if self._refuses(train.length_bytes):
            return
        self._early[train.index] = train
        while self._expected in self._early:
            train = self._early.pop(self._expected)
            self._expected += 1
            self._unread.extend(train.payloads)
            self._received_bytes += train.length_bytes
            self.at_end = train.ends
        self.acknowledge()
        self._receiver.wake_waiters()

    def _missing(self, train: Train) -> None:
        """At the sender: part of the train has not arrived."""
        direction = self._direction
        if self.stopped or not direction.source.host.alive:
            return
        broken = not direction.link.up or not direction.target.host.alive
        if train.resent or broken:
            delay_ns = RETRANSMISSION_NS << min(train.timeouts, _MAX_DOUBLINGS)
            train.timeouts += 1
        else:
            delay_ns = direction.reverse.latency_ns  # the duplicate acknowledgement's way
        train.resent = True
        # One segment mends a train of which some got through; of one cut off all is sent again.
        length_bytes = (
            train.length_bytes if broken else min(train.length_bytes, segment_payload_bytes(direction.spec))
        )
        message = self._message(train, length_bytes)
        later(self._env, delay_ns, lambda: self._send_again(message))

    def _send_again(self, message: LinkMessage) -> None:
        if not self.stopped:
            self._again.send(message)
