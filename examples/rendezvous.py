"""A rendezvous: the sender announces a buffer, the receiver reads it and says so, the buffer is used again.

The receiver says FIN when its READ has ended. `EagerFin` says so when the READ has been posted. That looks safe,
for the sender's device takes the READ before the FIN, and as a rule it works. But a long READ is answered packet
by packet, and an answer that gets lost is asked for again: either way with what is in the buffer by then.

    simmig verify examples/rendezvous.py --seeds 500
    simmig verify examples/rendezvous.py:EagerFin --seeds 500
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar

from simmig.verify.protocol import End, Invariant, Protocol, Told

BLOCK = struct.Struct(">I")  # a transfer is its number, over and over
READY = struct.Struct(">IIQ")  # a message of the sender's: number, key and address
FIN = struct.Struct(">I")  # a message of the receiver's: number


class Announced(Told):
    """The sender has filled a buffer and says where it is."""

    number: int
    buffer: int
    over: ClassVar[bool] = True


class Reading(Told):
    """The receiver reads it."""

    number: int
    over: ClassVar[bool] = True


class Finished(Told):
    """The receiver says that the buffer may be used again."""

    number: int
    over: ClassVar[bool] = True


class Received(Told):
    """The receiver looks at what it has read: the numbers at its two ends."""

    number: int
    head: int
    tail: int


class Intact(Invariant):
    """A buffer must not be used again while it may still be read."""

    name = "intact"
    words = "what was received is what was announced"

    def check(self, event: Any) -> str:
        """Look at both ends of each."""
        if isinstance(event, Received) and (event.head, event.tail) != (event.number, event.number):
            return f"transfer {event.number} begins with {event.head} and ends with {event.tail}"
        return ""


class Rendezvous(Protocol):
    """`transfers` blocks go over in turn through `buffers` buffers."""

    sides = ("sender", "receiver")
    scenario: ClassVar[dict[str, Any]] = {
        "buffers": (1, 2, 3),
        "transfers": (2, 1, 4, 6),
        "size_bytes": (512, 8_192, 16_384),
    }
    invariants = (Intact,)

    async def first(self, end: End) -> None:
        """The sender."""
        given, size_bytes = end.given, end.given.size_bytes
        await end.open()
        memory = end.region(given.buffers * size_bytes)
        await end.connect()
        announced = finished = 0
        while finished < given.transfers:
            if announced < given.transfers and announced - finished < given.buffers:
                buffer = announced % given.buffers
                memory.write(BLOCK.pack(announced) * (size_bytes // BLOCK.size), size_bytes, buffer * size_bytes)
                end.tell(Announced, number=announced, buffer=buffer)
                end.send(READY.pack(announced, memory.rkey, memory.buf + buffer * size_bytes))
                announced += 1
                continue
            arrival = await end.next()
            if arrival.message is not None:
                finished += 1

    async def second(self, end: End) -> None:
        """The receiver; one READ at a time."""
        size_bytes = end.given.size_bytes
        await end.open()
        memory = end.region(size_bytes)
        await end.connect()
        for _ in range(end.given.transfers):
            arrival = await end.next()
            assert arrival.message is not None
            number, key, address = READY.unpack(arrival.message)
            work = end.read(memory, 0, size_bytes, key, address)
            end.tell(Reading, number=number)
            await self.finish(end, number, work)
            (head,) = BLOCK.unpack(memory.read(BLOCK.size, 0))
            (tail,) = BLOCK.unpack(memory.read(BLOCK.size, size_bytes - BLOCK.size))
            end.tell(Received, number=number, head=head, tail=tail)

    async def finish(self, end: End, number: int, work: int) -> None:
        """Give the buffer back when it has been read."""
        await end.until(work)
        self.say(end, number)

    def say(self, end: End, number: int) -> None:
        """FIN."""
        end.tell(Finished, number=number)
        end.send(FIN.pack(number))


class EagerFin(Rendezvous):
    """The bug: the order on the wire is no order in time."""

    async def finish(self, end: End, number: int, work: int) -> None:
        """The two lines the other way round."""
        self.say(end, number)
        await end.until(work)
