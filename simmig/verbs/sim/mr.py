"""Memory regions (module pyverbs.mr)."""

from __future__ import annotations

import errno
from typing import Any

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.base import NotModelled, PyverbsCM, not_modelled
from simmig.verbs.sim.memory import PAGE_BYTES, ByteSegment, payload_bytes
from simmig.verbs.sim.pd import PD
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError, PyverbsUserError

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
        self.end = address + length
        self.mapping = mapping
        self.segment = mapping.segment
        self.segment_address = mapping.address
        self.lkey = self.rkey = device.new_key()
        device.mrs[self.lkey] = self
        creator.add_ref(self)
        costs = device.host.costs
        device.host.charge(costs.register_ns + self._pages() * costs.register_page_ns)

    def read(self, length: int, offset: int) -> bytes:
        """Bytes of the buffer."""
        if offset < 0:
            raise PyverbsUserError(f"Invalid offset {offset}")
        self._check(length)
        mapping = self.mapping
        length = min(length, mapping.end - self.buf - offset)
        return payload_bytes(mapping.read(self.buf + offset, length))

    def write(self, data: bytes | str, length: int, offset: int = 0) -> None:
        """Put the first `length` bytes of the data into the buffer."""
        self._check(length)
        if isinstance(data, str):
            data = data.encode()
        if not 0 <= offset <= offset + length <= self.mapping.end - self.buf:
            raise PyverbsUserError(f"{length} bytes at {offset} do not lie in the memory the MR is in")
        self.mapping.write(self.buf + offset, bytes(data[:length]))

    def close(self) -> None:
        """Deregister. Work requests under way that use the keys fail when they get there."""
        if self._closed:
            return
        self._closed = True
        device = self.pd.device
        del device.mrs[self.lkey]
        self.pd.remove_ref(self)
        if self._owns_buffer:
            device.host.memory.unmap(self.buf)
        costs = device.host.costs
        device.host.charge(costs.deregister_ns + self._pages() * costs.deregister_page_ns)

    def rereg(self, flags: int, pd: PD | None = None, addr: int = 0, length: int = 0, access: int = 0) -> None:
        """Not modelled: raises PyverbsRDMAError (EOPNOTSUPP)."""
        not_modelled("re-registering an MR")

    def _pages(self) -> int:
        return -(-self.end // PAGE_BYTES) - self.buf // PAGE_BYTES

    def _check(self, length: int) -> None:
        if self._closed or length < 0:
            raise PyverbsUserError(f"The MR buffer isn't allocated or length {length} is invalid")


class MW(NotModelled):
    """Memory windows."""


class MWBindInfo(NotModelled):
    """Memory windows."""


class MWBind(NotModelled):
    """Memory windows."""


class DMMR(NotModelled):
    """Device memory."""


class DmaBufMR(NotModelled):
    """Regions of a dma-buf."""
