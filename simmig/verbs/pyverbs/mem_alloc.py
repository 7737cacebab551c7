"""Memory of a host, by its address (module pyverbs.mem_alloc)."""

from __future__ import annotations

import struct

from simmig.verbs.pyverbs import session
from simmig.verbs.sim.memory import AddressSpace, ByteSegment, payload_bytes

PROT_EXEC_, PROT_READ_, PROT_WRITE_, PROT_NONE_ = 4, 1, 2, 0
MAP_PRIVATE_, MAP_SHARED_, MAP_FIXED_, MAP_ANONYMOUS_ = 2, 1, 16, 32
MAP_STACK_, MAP_LOCKED_, MAP_HUGETLB_, MAP_POPULATE_ = 0x20000, 0x2000, 0x40000, 0x8000
MAP_NORESERVE_, MAP_GROWSDOWN_ = 0x4000, 0x100
MADV_DONTNEED_, MADV_NORMAL_ = 4, 0


def _memory() -> AddressSpace:
    """All programs' memory is one address space, whatever the devices' hosts."""
    return session.world().memory


@session.in_world
def malloc(size: int) -> int:
    """That many bytes, all zero; raises MemoryError when it is none."""
    if size <= 0:
        raise MemoryError("Failed to allocate memory")
    return _memory().map(ByteSegment(size), size)


@session.in_world
def posix_memalign(size: int, alignment: int = 8) -> int:
    """The same; every allocation lies on a page."""
    return _memory().map(ByteSegment(size), size)


@session.in_world
def free(ptr: int) -> None:
    """Give it back."""
    if ptr:
        _memory().unmap(ptr)


@session.in_world
def mmap(addr: int = 0, length: int = 100, prot: int = 3, flags: int = 34, fd: int = 0, offset: int = 0) -> int:
    """Anonymous memory."""
    return _memory().map(ByteSegment(length), length)


@session.in_world
def munmap(addr: int, length: int) -> None:
    """Give it back."""
    _memory().unmap(addr)


def madvise(addr: int, length: int, advice: int = MADV_DONTNEED_) -> None:
    """Nothing."""


@session.in_world
def write(addr: int, data: bytes | str, length: int, offset: int = 0) -> None:
    """Put the first `length` bytes of the data there; raises MemoryError where nothing is."""
    if isinstance(data, str):
        data = data.encode()
    mapping = _memory().find(addr + offset, length)
    if mapping is None:
        raise MemoryError(f"no {length} bytes of memory at {addr + offset:#x}")
    mapping.write(addr + offset, bytes(data[:length]))


@session.in_world
def read(addr: int, length: int, offset: int = 0) -> bytes:
    """Bytes from there; raises MemoryError where nothing is."""
    session.world().look()
    mapping = _memory().find(addr + offset, length)
    if mapping is None:
        raise MemoryError(f"no {length} bytes of memory at {addr + offset:#x}")
    return payload_bytes(mapping.read(addr + offset, length))


def read32(addr: int, offset: int = 0) -> int:
    """A number of 32 bits, `offset` of them on."""
    return int(struct.unpack("<I", read(addr, 4, 4 * offset))[0])


def read64(addr: int, offset: int = 0) -> int:
    """A number of 64 bits."""
    return int(struct.unpack("<Q", read(addr, 8, 8 * offset))[0])


def writebe32(addr: int, val: int, offset: int = 0) -> None:
    """Put a number of 32 bits there, big end first."""
    write(addr, struct.pack(">I", val), 4, 4 * offset)


def writebe64(addr: int, val: int, offset: int = 0) -> None:
    """Put a number of 64 bits there, big end first."""
    write(addr, struct.pack(">Q", val), 8, 8 * offset)
