"""Reading and writing the local buffers of work requests, as their scatter-gather lists say."""

from __future__ import annotations

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.memory import AddressSpace, Payload, payload_bytes, payload_length, payload_part
from simmig.verbs.sim.parts import QueuePair
from simmig.verbs.sim.wr import SgList

_LOCAL_WRITE = int(e.IBV_ACCESS_LOCAL_WRITE)


def gather(qp: QueuePair, sg: SgList, start: int, length: int) -> bytes | None:
    """That part of the whole list's bytes; None when an element lies in no region of the queue pair's PD (R33)."""
    mrs = qp.device.mrs
    pieces = []
    position = 0
    for address, size, lkey in sg:
        if size:
            mr = mrs.get(lkey)
            if mr is None or mr.pd is not qp.pd or address < mr.start or address + size > mr.end:
                return None
            low = max(start, position)
            high = min(start + length, position + size)
            if low < high:
                at = address + low - position - mr.segment_address
                pieces.append(payload_bytes(mr.segment.dma_read(at, high - low)))
        position += size
    return b"".join(pieces)


def may_scatter(qp: QueuePair, sg: SgList) -> bool:
    """Whether every element lies in a region of the queue pair's PD that may be written to (R32, R33)."""
    mrs = qp.device.mrs
    for address, size, lkey in sg:
        if size:
            mr = mrs.get(lkey)
            if mr is None or mr.pd is not qp.pd or not mr.access & _LOCAL_WRITE:
                return False
            if address < mr.start or address + size > mr.end:
                return False
    return True


def scatter(qp: QueuePair, sg: SgList, offset: int, payload: Payload) -> bool:
    """Put the payload at that offset of the whole list; False when an element is not good (any more)."""
    length = payload_length(payload)
    mrs = qp.device.mrs
    if len(sg) == 1 and 0 < length <= sg[0][1] - offset:
        address, size, lkey = sg[0]
        mr = mrs.get(lkey)
        if mr is None or mr.pd is not qp.pd or not mr.access & _LOCAL_WRITE:
            return False
        if address < mr.start or address + size > mr.end:
            return False
        mr.segment.dma_write(address + offset - mr.segment_address, payload)
        return True
    if not may_scatter(qp, sg):
        return False
    position = 0
    for address, size, lkey in sg:
        low = max(offset, position)
        high = min(offset + length, position + size)
        if low < high:
            mr = mrs[lkey]
            at = address + low - position - mr.segment_address
            mr.segment.dma_write(at, payload_part(payload, low - offset, high - low))
        position += size
    return True


def copy_inline(memory: AddressSpace, sg: SgList) -> bytes | None:
    """The whole list's bytes, whatever the keys say (R11); None when something of it is not mapped."""
    pieces = []
    for address, length, _ in sg:
        if length:
            mapping = memory.find(address, length)
            if mapping is None:
                return None
            pieces.append(payload_bytes(mapping.read(address, length)))
    return b"".join(pieces)
