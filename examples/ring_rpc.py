"""Calls through a ring of slots: requests by RDMA write into the server's memory, credits with the answers.

The client may write request k into slot k % slots when request k - slots has been served. How many were served
comes with every answer, as a credit. `EagerCredit` gives credit for what has arrived instead, one word away:

    simmig verify examples/ring_rpc.py --seeds 500
    simmig verify examples/ring_rpc.py:EagerCredit --seeds 500
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar

from simmig.verify.protocol import End, Invariant, Protocol, Told

REQUEST_BYTES = 1024
HELLO = struct.Struct(">IQ")  # key and address of the server's ring
CALL = struct.Struct(">I")  # a message of the client's: request k is in its slot
ANSWER = struct.Struct(">III")  # a message of the server's: k, what was read for it, credit


class Called(Told):
    """The client writes a request into a slot."""

    number: int
    slot: int
    over: ClassVar[bool] = True


class Served(Told):
    """The server has read the request out of the slot, and found that one there."""

    number: int
    found: int


class Answered(Told):
    """The server answers, with credit for that many requests in all."""

    number: int
    credit: int
    over: ClassVar[bool] = True


class RightRequest(Invariant):
    """A slot must not be written again before it has been read."""

    name = "right_request"
    words = "the server finds the request in its slot that it was called for"

    def check(self, event: Any) -> str:
        """Hold what was found against what was called."""
        if isinstance(event, Served) and event.found != event.number:
            return f"for request {event.number} the server found request {event.found} in the slot"
        return ""


class RingRpc(Protocol):
    """The client makes `calls` calls, as many at a time as there are slots."""

    sides = ("client", "server")
    scenario: ClassVar[dict[str, Any]] = {
        "slots": (2, 1, 4),
        "calls": (4, 1, 2, 12),
        "work_ns": (1_000, 0, 50_000),
    }
    invariants = (RightRequest,)

    async def first(self, end: End) -> None:
        """The client."""
        slots, calls = end.given.slots, end.given.calls
        await end.open()
        requests = end.region(slots * REQUEST_BYTES)
        key, address = HELLO.unpack_from(await end.connect())
        written = credit = answers = 0
        writing: dict[int, int] = {}  # the write by its slot: until it ends, the slot's own buffer is the device's
        while answers < calls:
            slot = written % slots
            if written < calls and written - credit < slots and slot not in writing:
                request = CALL.pack(written) * (REQUEST_BYTES // CALL.size)
                requests.write(request, REQUEST_BYTES, slot * REQUEST_BYTES)
                place = address + slot * REQUEST_BYTES
                writing[slot] = end.write(requests, slot * REQUEST_BYTES, REQUEST_BYTES, key, place)
                end.tell(Called, number=written, slot=slot)
                end.send(CALL.pack(written))  # comes behind the write (R14)
                written += 1
                continue
            arrival = await end.next()
            if arrival.message is None:
                writing = {at: work for at, work in writing.items() if work != arrival.work}
            else:
                _, _, credit = ANSWER.unpack(arrival.message)
                answers += 1

    async def second(self, end: End) -> None:
        """The server."""
        slots, calls = end.given.slots, end.given.calls
        await end.open()
        ring = end.region(slots * REQUEST_BYTES)
        await end.connect(HELLO.pack(ring.rkey, ring.buf))
        arrived: list[int] = []
        served = 0
        while served < calls:
            while len(arrived) <= served or end.waiting:
                arrival = await end.next()
                if arrival.message is not None:
                    arrived += CALL.unpack(arrival.message)
            await end.runtime.sleep(end.given.work_ns)
            number = arrived[served]
            (found,) = CALL.unpack(ring.read(CALL.size, number % slots * REQUEST_BYTES))
            end.tell(Served, number=number, found=found)
            served += 1
            credit = self.credit(len(arrived), served)
            end.tell(Answered, number=number, credit=credit)
            end.send(ANSWER.pack(number, found, credit))

    def credit(self, arrived: int, served: int) -> int:
        """How many slots the client may take for free again, counted from the beginning."""
        return served


class EagerCredit(RingRpc):
    """The bug: what has arrived is not yet read, and its slot not free."""

    def credit(self, arrived: int, served: int) -> int:
        """One word is wrong."""
        return arrived
