"""Memory regions (module pyverbs.mr)."""

from __future__ import annotations

import errno
from typing import Any

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.base import NotModelled, PyverbsCM, not_modelled
from simmig.verbs.sim.memory import PAGE_BYTES, ByteSegment, Mapping, Segment
from simmig.verbs.sim.pd import PD
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError, PyverbsUserError

ALL_ACCESS = sum(e.ibv_access_flags)
ZERO_BASED = int(e.IBV_ACCESS_ZERO_BASED)
_REREG = sum(e.ibv_rereg_mr_flags)
_NEEDS_LOCAL_WRITE = e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_REMOTE_ATOMIC


class MR(PyverbsCM):
    """A registered stretch of memory. Without an address it brings its own buffer, all zero."""

    __slots__ = (
        "_closed",
        "_owns_buffer",
        "access",
        "buf",
        "end",
        "length",
        "lkey",
        "mapping",
        "pd",
        "remote_pd",
        "rkey",
        "segment",
        "segment_address",
        "start",
        "windows",
    )

    def __init__(
        self,
        creator: PD,
        length: int = 0,
        access: int = 0,
        address: int | None = None,
        implicit: bool = False,
        **kwargs: Any,
    ) -> None:
        if implicit or access & e.IBV_ACCESS_ON_DEMAND:
            not_modelled("on-demand paging")
        if kwargs.get("handle") is not None:
            not_modelled("importing an MR")
        message = f"Failed to register a MR. length: {length}, access flags: {int(access)}"
        if access & ~ALL_ACCESS or creator.closed:
            raise PyverbsRDMAError(message, errno.EINVAL)
        if access & _NEEDS_LOCAL_WRITE and not access & e.IBV_ACCESS_LOCAL_WRITE:  # R30
            raise PyverbsRDMAError(message, errno.EINVAL)
        device = creator.device
        if not 0 < length <= device.profile.max_mr_bytes:
            raise PyverbsRDMAError(message, errno.EINVAL)
        memory = device.host.memory
        self._owns_buffer = not address
        if not address:
            address = memory.map(ByteSegment(length), length)
        mapping = memory.find(address, length)
        if mapping is None:
            raise PyverbsRDMAError(message, errno.EFAULT)
        self._closed = False
        self.pd = creator
        self.access = int(access)
        self.remote_pd = creator if access & e.IBV_ACCESS_REMOTE_WRITE else None  # whose peers may write
        self.buf = address
        self.length = length
        self.start = address  # by which work requests address it, here and at the peer
        self.end = address + length
        self.mapping = mapping
        self.segment = mapping.segment
        self.segment_address = mapping.address
        if access & ZERO_BASED:
            self.place_at(0)
        self.windows = 0  # bound to it
        self.lkey = self.rkey = device.new_key()
        device.mrs[self.lkey] = self
        creator.add_ref(self)
        costs = device.host.costs
        device.host.charge(costs.register_ns + self._pages() * costs.register_page_ns)

    @classmethod
    def of_segment(cls, creator: PD, segment: Segment, offset: int, length: int, access: int) -> MR:
        """A zero-based region of device memory, which lies in nobody's address space."""
        mapping = Mapping(0, segment)
        region = cls(creator, max(length, 1), access, None)
        region.pd.device.host.memory.unmap(region.buf)
        region._owns_buffer = False
        region.buf, region.length, region.mapping, region.segment = offset, length, mapping, segment
        region.place_at(0)
        return region

    @property
    def closed(self) -> bool:
        """Whether it has been deregistered."""
        return self._closed

    def place_at(self, start: int) -> None:
        """Have work requests address it from there on: 0 of a zero-based one, any of one with an IOVA."""
        self.start = start
        self.end = start + self.length
        self.segment_address = start - (self.buf - self.mapping.address)

    def read(self, length: int, offset: int) -> bytes:
        """Bytes of the buffer."""
        if offset < 0:
            raise PyverbsUserError(f"Invalid offset {offset}")
        if self._closed or length < 0:
            raise self._unreadable(length)
        start = self.buf + offset - self.mapping.address
        payload = self.segment.dma_read(start, min(length, self.segment.length_bytes - start))
        return payload if isinstance(payload, bytes) else payload.to_bytes()

    def write(self, data: bytes | str, length: int, offset: int = 0) -> None:
        """Put the first `length` bytes of the data into the buffer."""
        if self._closed or length < 0:
            raise self._unreadable(length)
        if isinstance(data, str):
            data = data.encode()
        mapping = self.mapping
        if not 0 <= offset <= offset + length <= mapping.end - self.buf:
            raise PyverbsUserError(f"{length} bytes at {offset} do not lie in the memory the MR is in")
        self.segment.dma_write(self.buf + offset - mapping.address, bytes(data[:length]))

    def close(self) -> None:
        """Deregister. Work requests under way that use the keys fail when they get there."""
        if self._closed:
            return
        if self.windows:
            raise PyverbsRDMAError("Failed to dereg MR", errno.EBUSY)
        self._closed = True
        device = self.pd.device
        device.settle_turns()
        del device.mrs[self.lkey]
        self.pd.remove_ref(self)
        if self._owns_buffer:
            device.host.memory.unmap(self.buf)
        costs = device.host.costs
        device.host.charge(costs.deregister_ns + self._pages() * costs.deregister_page_ns)

    def rereg(self, flags: int, pd: PD | None = None, addr: int = 0, length: int = 0, access: int = 0) -> None:
        """Change the domain, the memory or the rights of it, and keep the keys; man ibv_rereg_mr(3).

        Raises PyverbsRDMAError (EINVAL, EFAULT, EOPNOTSUPP), and changes nothing then.
        """
        message = "Failed to rereg MR: IBV_REREG_MR_ERR_CMD"
        if not self.pd.device.profile.reregisters_regions:
            raise PyverbsRDMAError(message, errno.EOPNOTSUPP)
        self.pd.device.settle_turns()
        moved = flags & e.IBV_REREG_MR_CHANGE_TRANSLATION
        new_pd = pd if flags & e.IBV_REREG_MR_CHANGE_PD else self.pd
        new_access = int(access) if flags & e.IBV_REREG_MR_CHANGE_ACCESS else self.access
        bad = (
            not flags
            or flags & ~_REREG
            or new_access & ~ALL_ACCESS
            or self._closed
            or new_pd is None
            or self.windows
        )
        if bad or (new_access & _NEEDS_LOCAL_WRITE and not new_access & e.IBV_ACCESS_LOCAL_WRITE):
            raise PyverbsRDMAError(message, errno.EINVAL)
        assert new_pd is not None
        if new_pd.closed or new_pd.device is not self.pd.device:
            raise PyverbsRDMAError(message, errno.EINVAL)
        if moved:
            mapping = self.pd.device.host.memory.find(addr, length) if length > 0 else None
            if mapping is None:
                raise PyverbsRDMAError(message, errno.EFAULT if length > 0 else errno.EINVAL)
            if self._owns_buffer:
                self.pd.device.host.memory.unmap(self.buf)
                self._owns_buffer = False
            self.buf, self.length, self.mapping, self.segment = addr, length, mapping, mapping.segment
        self.pd.remove_ref(self)
        self.pd = new_pd
        new_pd.add_ref(self)
        self.access = new_access
        self.remote_pd = new_pd if new_access & e.IBV_ACCESS_REMOTE_WRITE else None
        self.place_at(0 if new_access & ZERO_BASED else self.buf)

    def _pages(self) -> int:
        return -(-(self.buf + self.length) // PAGE_BYTES) - self.buf // PAGE_BYTES

    def _unreadable(self, length: int) -> PyverbsUserError:
        return PyverbsUserError(f"The MR buffer isn't allocated or length {length} is invalid")


class DMMR(NotModelled):
    """Device memory."""


class DmaBufMR(NotModelled):
    """Regions of a dma-buf."""
