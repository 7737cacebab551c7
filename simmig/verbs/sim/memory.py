"""A host's address space: where segments of memory are mapped, and what a device reads and writes there."""

from __future__ import annotations

from bisect import bisect_right
from typing import Protocol

PAGE_BYTES = 4096
_HUGE_BYTES = 2 * 1024 * 1024
_FIRST_ADDRESS = 0x7F00_0000_0000


class Content(Protocol):
    """Memory content that need not exist as bytes (pages known by version, for one)."""

    @property
    def length_bytes(self) -> int:
        """How many bytes it stands for."""

    def to_bytes(self) -> bytes:
        """The bytes it stands for."""

    def part(self, start: int, length: int) -> Payload:
        """`length` bytes of it from `start` on."""


Payload = bytes | Content
"""What a device carries from memory to memory: a snapshot, not changed by later writes to its source."""


def payload_length(payload: Payload) -> int:
    """Its length in bytes."""
    return len(payload) if isinstance(payload, bytes) else payload.length_bytes


def payload_bytes(payload: Payload) -> bytes:
    """Its bytes."""
    return payload if isinstance(payload, bytes) else payload.to_bytes()


def payload_part(payload: Payload, start: int, length: int) -> Payload:
    """`length` bytes of it from `start` on."""
    return payload[start : start + length] if isinstance(payload, bytes) else payload.part(start, length)


class Segment(Protocol):
    """Memory that can be mapped. Offsets and lengths are bytes and may be any: messages get cut into packets."""

    @property
    def length_bytes(self) -> int:
        """Its size."""

    def dma_read(self, offset: int, length: int) -> Payload:
        """A snapshot of that range."""

    def dma_write(self, offset: int, payload: Payload) -> None:
        """Put the payload there."""


class ByteSegment:
    """Plain bytes, all zero at first unless `data` is given."""

    __slots__ = ("data", "length_bytes")

    def __init__(self, length_bytes: int, data: bytearray | None = None) -> None:
        self.data = bytearray(length_bytes) if data is None else data
        self.length_bytes = length_bytes

    def dma_read(self, offset: int, length: int) -> Payload:
        """A copy of that range."""
        return bytes(self.data[offset : offset + length])

    def dma_write(self, offset: int, payload: Payload) -> None:
        """Copy the payload there."""
        data = payload if isinstance(payload, bytes) else payload.to_bytes()
        self.data[offset : offset + len(data)] = data


class Mapping:
    """A segment at its place in an address space."""

    __slots__ = ("address", "end", "segment")

    def __init__(self, address: int, segment: Segment) -> None:
        self.address = address
        self.end = address + segment.length_bytes
        self.segment = segment

    def read(self, address: int, length: int) -> Payload:
        """A snapshot of that range; the caller has checked that it lies inside."""
        return self.segment.dma_read(address - self.address, length)

    def write(self, address: int, payload: Payload) -> None:
        """Put the payload there; the caller has checked that it fits."""
        self.segment.dma_write(address - self.address, payload)


class AddressSpace:
    """Where a host's memory is. Addresses depend on the order of the calls alone."""

    __slots__ = ("_mappings", "_next_address", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._mappings: list[Mapping] = []
        self._next_address = _FIRST_ADDRESS

    def map(self, segment: Segment, length_bytes: int) -> int:
        """Map a segment of that length; returns its address: on a page, on 2 MiB if it is that large.

        Raises ValueError when the length is not positive or not the segment's.
        """
        if length_bytes <= 0 or length_bytes != segment.length_bytes:
            raise ValueError(f"cannot map {length_bytes} bytes of a segment of {segment.length_bytes}")
        alignment = _HUGE_BYTES if length_bytes >= _HUGE_BYTES else PAGE_BYTES
        address = -(-self._next_address // alignment) * alignment
        self._next_address = address + length_bytes + PAGE_BYTES  # an unmapped page between neighbours
        self._starts.append(address)
        self._mappings.append(Mapping(address, segment))
        return address

    def unmap(self, address: int) -> None:
        """Take the segment mapped at exactly that address out; raises ValueError when there is none."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or self._starts[index] != address:
            raise ValueError(f"nothing is mapped at {address:#x}")
        del self._starts[index]
        del self._mappings[index]

    def find(self, address: int, length: int) -> Mapping | None:
        """The mapping in which the whole range lies, None when there is none."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        mapping = self._mappings[index]
        return mapping if address + length <= mapping.end else None
