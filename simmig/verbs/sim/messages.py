"""Messages of other traffic than verbs, as a flow of a direction."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from simmig.verbs.sim.burst import Burst
from simmig.verbs.sim.parts import Flow, Wire


class LinkMessage:
    """A message of other traffic than verbs."""

    __slots__ = ("args", "damaged", "left_bytes", "on_arrival", "on_loss")

    def __init__(
        self,
        wire_bytes: int,
        on_arrival: Callable[..., None],
        args: tuple[Any, ...],
        on_loss: Callable[..., None] | None,
    ) -> None:
        if wire_bytes <= 0:
            raise ValueError(f"a message needs bytes on the wire, not {wire_bytes}")
        self.left_bytes = wire_bytes
        self.on_arrival = on_arrival
        self.args = args
        self.on_loss = on_loss
        self.damaged = False


class MessageBurst(Burst):
    """Packets of such a message."""

    __slots__ = ("final", "message")

    def __init__(self, flow: Flow, count: int, packet_bytes: int, last_bytes: int, message: LinkMessage) -> None:
        super().__init__(flow, count, packet_bytes, last_bytes)
        self.message = message
        self.final = False

    def split(self, count: int) -> MessageBurst:
        """The first packets, fewer than there are, as a burst of their own; this one keeps the rest."""
        self.count -= count
        return MessageBurst(self.flow, count, self.packet_bytes, self.packet_bytes, self.message)


class MessageFlow:
    """The messages of `Direction.transmit`, in order."""

    __slots__ = ("_direction", "_messages", "_packet_bytes", "queued")

    def __init__(self, direction: Wire) -> None:
        self._direction = direction
        self._packet_bytes = direction.packet_bytes
        self._messages: deque[LinkMessage] = deque()
        self.queued = False

    def send(self, message: LinkMessage) -> None:
        """Queue a message."""
        self._messages.append(message)
        self._direction.activate(self)

    def next_burst(self, whole: bool) -> MessageBurst | None:
        """All that is left of the oldest message, or a packet of it."""
        if not self._messages:
            return None
        message = self._messages[0]
        size = self._packet_bytes
        count = -(-message.left_bytes // size)
        burst = MessageBurst(self, count, size, message.left_bytes - (count - 1) * size, message)
        if count > 1 and not whole:
            burst.cut(1)
        return burst

    def turn(self) -> MessageBurst | None:
        """All that is left of the oldest message."""
        return self.next_burst(True)

    def departed(self, burst: MessageBurst) -> bool:
        """Go on behind it."""
        message = burst.message
        message.left_bytes -= burst.wire_bytes
        if message.left_bytes == 0:
            burst.final = True
            self._messages.popleft()
        return True

    def arrived(self, burst: MessageBurst) -> None:
        """Hand the message over with its last packet."""
        message = burst.message
        if burst.final:
            if not message.damaged:
                message.on_arrival(*message.args)
            elif message.on_loss is not None:
                message.on_loss(*message.args)

    def lost(self, burst: MessageBurst) -> None:
        """Remember it until the last packet; if that is the lost one, say so now."""
        message = burst.message
        message.damaged = True
        if burst.final and message.on_loss is not None:
            message.on_loss(*message.args)
