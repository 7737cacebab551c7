"""Memory regions and windows (module pyverbs.mr)."""

from __future__ import annotations

import errno
from typing import Any

from simmig.verbs.pyverbs import session
from simmig.verbs.pyverbs.absent import Absent
from simmig.verbs.pyverbs.base import (
    PyverbsCM,
    PyverbsObject,
    PyverbsRDMAError,
    PyverbsUserError,
    Resource,
    c_number,
    lines,
    only,
)
from simmig.verbs.pyverbs.device import DM
from simmig.verbs.pyverbs.pd import PD
from simmig.verbs.sim import enums as e
from simmig.verbs.sim import mr as sim
from simmig.verbs.sim import windows


class MR(Resource):
    """A registered stretch of memory, its own (all zero) without an address; of a PD, or of a CMID."""

    def __init__(
        self,
        creator: Any,
        length: int = 0,
        access: int = 0,
        address: int | None = None,
        implicit: bool = False,
        **kwargs: Any,
    ) -> None:
        self._imported = kwargs.get("handle") is not None
        self._pd: PD | None = creator if isinstance(creator, PD) else creator.pd
        assert self._pd is not None
        if self._imported:
            found = session.world().handles.get(kwargs["handle"])
            if not isinstance(found, sim.MR):
                raise PyverbsRDMAError("Failed to import MR", errno.ENOENT)
            self.sim: sim.MR = found
        else:
            length = c_number(length, 64)
            if not isinstance(creator, PD):  # as rdma_reg_read and rdma_reg_write do
                access = int(access) | e.IBV_ACCESS_LOCAL_WRITE
            self.sim = sim.MR(self._pd.sim, length, int(access), address, implicit)
        self._address = address if self._imported else None
        self.handle: int = kwargs["handle"] if self._imported else session.world().register(self.sim)
        self._pd.add_ref(self)
        if hasattr(creator, "add_mr"):
            creator.add_mr(self)
        self._closed = False

    @property
    def buf(self) -> int:
        """The memory's address."""
        return self._address or self.sim.buf

    @property
    def lkey(self) -> int:
        """The key for work requests."""
        return self.sim.lkey

    @property
    def rkey(self) -> int:
        """The key for the peer."""
        return self.sim.rkey

    @property
    def length(self) -> int:
        """Bytes."""
        return self.sim.length

    def write(self, data: bytes | str, length: int, offset: int = 0) -> None:
        """Put the first `length` bytes of the data into the memory."""
        self._check(length)
        if isinstance(data, str):
            data = data.encode()
        self.sim.write(bytes(data), length, offset)

    def read(self, length: int, offset: int) -> bytes:
        """Bytes of the memory."""
        session.world().look()
        if offset < 0:
            raise PyverbsUserError(f"Invalid offset {offset}")
        self._check(length)
        return self.sim.read(length, offset)

    def _check(self, length: int) -> None:
        if self._closed or length < 0:
            raise PyverbsUserError(f"The MR buffer isn't allocated or length {length} is invalid")

    def rereg(self, flags: int, pd: PD | None = None, addr: int = 0, length: int = 0, access: int = 0) -> None:
        """Change the domain, the memory or the rights, and keep the keys."""
        self.sim.rereg(int(flags), None if pd is None else pd.sim, addr, length, int(access))
        if pd is not None and flags & e.IBV_REREG_MR_CHANGE_PD:
            self._pd = pd
            pd.add_ref(self)

    def unimport(self) -> None:
        """Forget it without deregistering it."""
        self._closed = True

    def close(self) -> None:
        """Deregister it."""
        if self._closed:
            return
        if not self._imported:
            self.sim.close()
            session.world().handles.pop(self.handle, None)
        self._closed = True
        self._pd = None

    def __str__(self) -> str:
        return "MR\n" + lines(
            ("lkey", self.lkey),
            ("rkey", self.rkey),
            ("length", self.length),
            ("buf", self.buf),
            ("handle", self.handle),
        )


class MREx(MR):
    """A region registered by all that newer versions can name; of those, memory by its address, and an IOVA."""

    def __init__(self, pd: PD, length: int = 0, access: int = 0, **kwargs: Any) -> None:
        known = {"address", "addr", "iova", "implicit"}
        if any(value is not None for key, value in kwargs.items() if key not in known):
            raise PyverbsRDMAError("Failed to register a MR", errno.EOPNOTSUPP)
        address = kwargs.get("address") or kwargs.get("addr")
        super().__init__(pd, length, access, address, bool(kwargs.get("implicit")))
        if kwargs.get("iova") is not None:
            self.sim.place_at(c_number(kwargs["iova"], 64))


class MWBindInfo(PyverbsCM):
    """What a window is bound to."""

    def __init__(self, mr: MR, addr: int, length: int, mw_access_flags: int) -> None:
        self.mr = only(mr, MR, "mr")
        self.addr = c_number(addr, 64)
        self.length = c_number(length, 64)
        self.mw_access_flags = int(mw_access_flags)

    def of_device(self) -> windows.MWBindInfo:
        """The same for the device."""
        return windows.MWBindInfo(self.mr.sim, self.addr, self.length, self.mw_access_flags)

    def __str__(self) -> str:
        return "MWBindInfo:\n" + lines(
            ("Addr", self.addr), ("Length", self.length), ("MW access flags", self.mw_access_flags)
        )


class MWBind(PyverbsCM):
    """Binding a window of type 1."""

    def __init__(self, info: MWBindInfo, send_flags: int, wr_id: int = 0) -> None:
        self.info = only(info, MWBindInfo, "info")
        self.send_flags = int(send_flags)
        self.wr_id = c_number(wr_id, 64)

    def __str__(self) -> str:
        return "MWBind:\n" + lines(("WR id", self.wr_id), ("Send flags", self.send_flags))


class MW(Resource):
    """A memory window."""

    def __init__(self, pd: PD, mw_type: int) -> None:
        self._pd: PD | None = only(pd, PD, "pd")
        self.sim = windows.MW(pd.sim, int(mw_type))
        self.handle = session.world().register(self.sim)
        pd.add_ref(self)
        self._closed = False

    @property
    def rkey(self) -> int:
        """Its key, another one after each binding."""
        return self.sim.rkey

    @property
    def type(self) -> int:
        """IBV_MW_TYPE_1 or _2."""
        return self.sim.type

    def close(self) -> None:
        """Give it back: its key leads nowhere any more."""
        if self._closed:
            return
        self._closed = True
        self.sim.close()
        session.world().handles.pop(self.handle, None)
        self._pd = None

    def __str__(self) -> str:
        return "MW:\n" + lines(("Rkey", self.rkey), ("Handle", self.handle), ("MW Type", mwtype2str(self.type)))


class DMMR(MR):
    """A region of device memory, addressed from 0."""

    def __init__(self, pd: PD, length: int, access: int, dm: DM, offset: int) -> None:
        self._imported = False
        self._pd = only(pd, PD, "pd")
        length = int(length)
        segment = only(dm, DM, "dm").segment
        inside = offset >= 0 and length >= 0 and offset + length <= segment.length_bytes
        if not inside or not access & e.IBV_ACCESS_ZERO_BASED:
            raise PyverbsRDMAError(
                f"Failed to register a device MR. length: {length}, access flags: {int(access)}", errno.EINVAL
            )
        self._dm = dm
        self._offset = offset
        self.sim = sim.MR.of_segment(pd.sim, segment, offset, length, int(access))
        self._address = None
        self.handle = session.world().register(self.sim)
        pd.add_ref(self)
        dm.add_ref(self)
        self._closed = False

    @property
    def buf(self) -> int:
        """0: where its addresses begin."""
        return 0

    def write(self, data: bytes | str, length: int, offset: int = 0) -> None:
        """Write into the device memory."""
        self._dm.copy_to_dm(self._offset + offset, data.encode() if isinstance(data, str) else data, length)

    def read(self, length: int, offset: int) -> bytes:
        """Read from it."""
        session.world().look()
        return self._dm.copy_from_dm(self._offset + offset, length)


class DmaBufMR(Absent):
    """Regions of a buffer shared by devices."""


class Buf(Absent):
    """Buffers of newer versions."""


class BufMR(Absent):
    """Regions of such buffers."""


class DMAHandle(Absent):
    """Hints for the bus."""


class DmaHandleInitAttr(PyverbsObject):
    """What such a hint would be made of."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


def mwtype2str(mw_type: int) -> str:
    """A kind of window."""
    return {1: "IBV_MW_TYPE_1", 2: "IBV_MW_TYPE_2"}.get(mw_type, "Unknown MW type")
