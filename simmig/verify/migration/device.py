"""The verbs that a migration under check is handed: messages may be altered, pages written meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from simmig.verbs import sim
from simmig.verbs.sim import enums as e
from simmig.verbs.sim.memory import Payload, payload_bytes
from simmig.verify.device import Asker, CheckedMR, CheckedQP, CheckedVerbs

if TYPE_CHECKING:
    from simmig.verify.migration.watch import MigrationWatch

_SEND = int(e.IBV_WR_SEND)
_WRITE = int(e.IBV_WR_RDMA_WRITE)


class _Touched:
    """Guest memory as a device reads it while the guest may be writing there."""

    def __init__(self, ask: Asker, segment: Any) -> None:
        self._ask = ask
        self._segment = segment

    def dma_read(self, offset: int, length: int) -> Payload:
        option = self._ask.choose("dma", 5)
        if option in (1, 3):
            cast("MigrationWatch", self._ask.watch).touch(self._segment, offset, option == 3)
        payload: Payload = self._segment.dma_read(offset, length)
        if option in (2, 4):
            cast("MigrationWatch", self._ask.watch).touch(self._segment, offset, option == 4)
        return payload

    def dma_write(self, offset: int, payload: Payload) -> None:
        self._segment.dma_write(offset, payload)


class _MR(CheckedMR):
    __slots__ = ()

    def __init__(
        self, ask: Asker, creator: Any, length: int = 0, access: int = 0, address: int | None = None
    ) -> None:
        super().__init__(ask, creator, length, access, address)
        if address and ask.side == "source":
            self.segment = cast(Any, _Touched(ask, self.segment))


class _QP(CheckedQP):
    def call_post(self, wr: sim.SendWR) -> None:
        super().call_post(wr)
        if wr.opcode == _WRITE and wr.sg[0][1]:
            self._ask.call("post_write")
        if wr.opcode == _SEND:
            address, length, key = wr.sg[0]
            ask, watch = self._ask, cast("MigrationWatch", self._ask.watch)
            meant = self._message(address, length)
            hostile = watch.hostile(ask.side, int.from_bytes(meant[4:8], "big"))
            if hostile is not None:
                if hostile.offset >= 0:
                    mapping = self._host.memory.find(address, hostile.offset + 4)
                    if mapping is not None:
                        mapping.write(address + hostile.offset, hostile.value.to_bytes(4, "big"))
                if hostile.length_bytes is not None:
                    length = hostile.length_bytes
                wr.sg = ((address, length, key),)
                watch.said(ask.side, meant, self._message(address, length))

    def _message(self, address: int, length: int) -> bytes:
        """What goes out; zeros stand for what lies behind the buffer."""
        mapping = self._host.memory.find(address, 1)
        assert mapping is not None
        there = payload_bytes(mapping.read(address, min(length, mapping.end - address)))
        return there + bytes(length - len(there))


class MigrationVerbs(CheckedVerbs):
    """The namespace that one side of a migration is handed."""

    qp, mr = _QP, _MR
