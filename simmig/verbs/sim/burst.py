"""What travels over a link: bursts of packets, sent by flows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Burst:
    """Packets of one message, back to back on the wire; on the way it is an event of the environment itself.

    The first `count - 1` packets take `packet_bytes` each, the last one `last_bytes`.
    """

    __slots__ = ("callbacks", "count", "doomed", "flow", "last_bytes", "packet_bytes")

    _ok = True

    def __init__(self, flow: Flow, count: int, packet_bytes: int, last_bytes: int) -> None:
        self.callbacks: tuple[Callable[[Any], None], ...] | None = None
        self.flow = flow
        self.count = count
        self.packet_bytes = packet_bytes
        self.last_bytes = last_bytes
        self.doomed = False  # to be lost on the way

    @property
    def wire_bytes(self) -> int:
        """Its size on the wire."""
        return (self.count - 1) * self.packet_bytes + self.last_bytes

    def cut(self, count: int) -> None:
        """Keep the first packets only, fewer than there are."""
        self.count = count
        self.last_bytes = self.packet_bytes


class Flow(Protocol):
    """Something that sends over a direction, one burst at a time."""

    queued: bool
    """Whether it is in a direction's round; the direction's own mark."""

    def next_burst(self, whole: bool) -> Any:
        """What to send now: up to a whole message, or one packet if not `whole`; None when there is nothing.

        After None the flow calls `Direction.activate` when it has something again.
        """

    def turn(self) -> Any:
        """All that is left of what `next_burst` would send, if nobody has to look at its packets; else None."""

    def departed(self, burst: Any) -> None:
        """The burst, as long as it is now, has left."""

    def arrived(self, burst: Any) -> None:
        """It has reached the other end."""

    def lost(self, burst: Any) -> None:
        """It never will."""
