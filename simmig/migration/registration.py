"""Guest memory as registered on this host: whole blocks (pin-all) or chunk by chunk."""

from __future__ import annotations

from functools import partial

from simmig.guest.api import PAGE_BYTES, RamBlock
from simmig.migration.config import CHUNK_BYTES, MigrationError
from simmig.migration.lane import Lane, give_back
from simmig.trace.events import MemoryDeregistered, MemoryRegistered
from simmig.verbs.api import MR

WHOLE_BLOCK = -1


class Registry:
    """Memory regions by (block, chunk, further chunks covered); the region of a whole block has chunk -1."""

    def __init__(self, lane: Lane, blocks: list[RamBlock], remote: bool) -> None:
        enums = lane.verbs.enums
        self._lane = lane
        self._blocks = blocks
        self._access = enums.IBV_ACCESS_LOCAL_WRITE | (enums.IBV_ACCESS_REMOTE_WRITE if remote else 0)
        self._remote = remote
        self.regions: dict[tuple[int, int, int], MR] = {}

    def register_all(self) -> None:
        """Register every block as one region; raises MigrationError when the device refuses."""
        for index, block in enumerate(self._blocks):
            if (index, WHOLE_BLOCK, 0) in self.regions:  # a peer may ask twice
                continue
            self._register(index, WHOLE_BLOCK, 0, block.address, block.length_bytes)

    def register_chunk(self, block: int, chunk: int, extra_chunks: int = 0) -> MR:
        """The region of a chunk (and `extra_chunks` behind it), registered now unless it already is."""
        region = self.regions.get((block, chunk, extra_chunks))
        if region is not None:
            return region
        ram = self._blocks[block]
        offset = chunk * CHUNK_BYTES
        length = min((1 + extra_chunks) * CHUNK_BYTES, ram.length_bytes - offset)
        return self._register(block, chunk, extra_chunks, ram.address + offset, length)

    def deregister(self, block: int, chunk: int, extra_chunks: int = 0) -> None:
        """Give a region up; raises MigrationError for one that is not registered."""
        region = self.regions.pop((block, chunk, extra_chunks), None)
        if region is None:
            raise MigrationError(f"chunk {chunk} of block {block} is not registered")
        key = region.rkey if self._remote else region.lkey
        region.close()
        if self._lane.emit is not None:
            self._lane.emit(MemoryDeregistered(self._lane.runtime.now_ns(), self._lane.side, block, chunk, key))

    def close(self) -> None:
        """Deregister everything."""
        give_back(self._lane.verbs, *(partial(self.deregister, *key) for key in list(self.regions)))

    def _register(self, block: int, chunk: int, extra_chunks: int, address: int, length: int) -> MR:
        lane = self._lane
        verbs = lane.verbs
        try:
            region = verbs.MR(lane.pd, length, self._access, address)
        except verbs.PyverbsError as error:
            raise MigrationError(f"registering {length // PAGE_BYTES} pages failed: {error}") from error
        self.regions[block, chunk, extra_chunks] = region
        if lane.emit is not None:
            key = region.rkey if self._remote else region.lkey
            lane.emit(MemoryRegistered(lane.runtime.now_ns(), lane.side, block, chunk, length, key))
        return region
