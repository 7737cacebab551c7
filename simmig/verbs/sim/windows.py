"""Memory windows: keys to a part of a region, bound and taken back by work requests (man ibv_bind_mw(3))."""

from __future__ import annotations

import errno
from typing import Any

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.base import PyverbsCM
from simmig.verbs.sim.parts import QueuePair
from simmig.verbs.sim.pd import PD
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError
from simmig.verbs.sim.work import SendWork

_BIND = int(e.IBV_WR_BIND_MW)
LOCAL_OPERATIONS = (_BIND, int(e.IBV_WR_LOCAL_INV))
"""Work requests that no packet is sent for."""
_REMOTE = int(e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_REMOTE_READ | e.IBV_ACCESS_REMOTE_ATOMIC)
_CHANGES = int(e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_REMOTE_ATOMIC)


class MWBindInfo:
    """What a window is bound to: a region, a range in it, rights."""

    def __init__(self, mr: Any, addr: int, length: int, mw_access_flags: int) -> None:
        self.mr = mr
        self.addr = addr
        self.length = length
        self.mw_access_flags = int(mw_access_flags)


class MW(PyverbsCM):
    """A memory window; while it is bound, also what its key leads to, in the terms of a region.

    Type 1 belongs to its domain (`QP.bind_mw`); type 2 (2B) to the queue pair that bound it, which is then what
    `pd` names.
    """

    remote_pd = None  # no stream goes through a window
    start = end = access = segment_address = 0
    segment: Any = None

    def __init__(self, creator: PD, mw_type: int) -> None:
        if mw_type not in (e.IBV_MW_TYPE_1, e.IBV_MW_TYPE_2) or creator.closed:
            raise PyverbsRDMAError("Failed to allocate MW", errno.EINVAL)
        self.owner = creator
        self.pd: Any = creator
        self.type = int(mw_type)
        self.rkey = creator.device.new_key()
        self.region: Any = None
        self._closed = False
        creator.add_ref(self)

    def bind(self, qp: QueuePair, info: MWBindInfo, rkey: int) -> bool:
        """Bind it under that key, a length of 0 to nothing; False when it must not be."""
        mr: Any = info.mr
        flags = info.mw_access_flags
        device = qp.device
        if self._closed or self.owner is not qp.pd or (self.type == e.IBV_MW_TYPE_2 and self.region is not None):
            return False
        if info.length:
            inside = mr.start <= info.addr and info.addr + info.length <= mr.end
            if not inside or mr.closed or mr.pd is not qp.pd:
                return False
            if not mr.access & e.IBV_ACCESS_MW_BIND or (
                flags & _CHANGES and not mr.access & e.IBV_ACCESS_LOCAL_WRITE
            ):
                return False
        self.unbind()
        self.rkey = rkey
        if info.length:
            self.start, self.end = info.addr, info.addr + info.length
            self.access = flags & _REMOTE
            self.segment, self.segment_address = mr.segment, mr.segment_address
            self.pd = qp if self.type == e.IBV_MW_TYPE_2 else self.owner
            self.region = mr
            mr.windows += 1
            device.mrs[rkey] = self
        return True

    def unbind(self) -> None:
        """Its key leads nowhere any more."""
        if self.region is not None:
            self.region.windows -= 1
            self.region = None
            self.owner.device.mrs.pop(self.rkey, None)

    def close(self) -> None:
        """Give it back."""
        if self._closed:
            return
        self._closed = True
        self.unbind()
        self.owner.remove_ref(self)


def execute(qp: QueuePair, work: SendWork) -> int:
    """Bind or invalidate, as the work request says; returns the status to fail with, or 0."""
    if work.opcode == _BIND:
        window, info, rkey = work.extra
        return 0 if window.bind(qp, info, rkey) else int(e.IBV_WC_MW_BIND_ERR)
    return 0 if invalidate(qp, work.imm_data) else int(e.IBV_WC_MW_BIND_ERR)


def invalidate(qp: QueuePair, rkey: int) -> bool:
    """Take back a window of type 2 by its key; False when it is none, or another queue pair's."""
    window = qp.device.mrs.get(rkey)
    if not isinstance(window, MW) or window.type != e.IBV_MW_TYPE_2 or window.pd is not qp:
        return False
    window.unbind()
    return True
