"""What travels over a link: bursts of packets, sent by flows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simmig.verbs.sim.parts import Flow


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


def bytes_begun(elapsed_ns: int, rest: int, num: int, den: int) -> int:
    """How many bytes have begun to leave in that time; one takes num / den ns, the first began at rest / den ns.

    While the end of the one before is rounded up to this very nanosecond, the next one has not begun.
    """
    gone = (elapsed_ns * den - rest) // num
    return gone + int(-(-(rest + gone * num) // den) < elapsed_ns)
