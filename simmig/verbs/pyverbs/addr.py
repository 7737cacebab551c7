"""Addresses (module pyverbs.addr)."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any

from simmig.verbs.pyverbs.base import PyverbsObject, PyverbsRDMAError, PyverbsUserError, Resource, lines, only
from simmig.verbs.pyverbs.utils import gid_str_to_array
from simmig.verbs.sim import addr as sim
from simmig.verbs.sim.memory import payload_bytes

if TYPE_CHECKING:
    from simmig.verbs.pyverbs.cmid import UDParam
    from simmig.verbs.pyverbs.pd import PD

GRH_BYTES = 40


class GID(sim.GID, PyverbsObject):
    """A port's global identifier."""

    def __init__(self, val: str | None = None) -> None:
        if val is not None:
            gid_str_to_array(val)
        super().__init__(val)


class GRH(PyverbsObject):
    """A global routing header, of which an address handle can be made."""

    def __init__(
        self,
        sgid: GID | None = None,
        dgid: GID | None = None,
        version_tclass_flow: int = 0,
        paylen: int = 0,
        next_hdr: int = 0,
        hop_limit: int = 1,
    ) -> None:
        self.sgid = only(sgid, GID, "sgid").gid
        self.dgid = only(dgid, GID, "dgid").gid
        self.version_tclass_flow = version_tclass_flow
        self.paylen = paylen
        self.next_hdr = next_hdr
        self.hop_limit = hop_limit

    def __str__(self) -> str:
        return lines(
            ("DGID", self.dgid),
            ("SGID", self.sgid),
            ("version tclass flow", self.version_tclass_flow),
            ("paylen", self.paylen),
            ("next header", self.next_hdr),
            ("hop limit", self.hop_limit),
        )


class GlobalRoute(sim.GlobalRoute, PyverbsObject):
    """The part of an address that holds the destination's GID."""

    def __init__(
        self,
        dgid: GID | None = None,
        flow_label: int = 0,
        sgid_index: int = 0,
        hop_limit: int = 1,
        traffic_class: int = 0,
    ) -> None:
        super().__init__(only(dgid, sim.GID, "dgid"), flow_label, sgid_index, hop_limit, traffic_class)

    def __str__(self) -> str:
        return lines(
            ("DGID", self.dgid),
            ("flow label", self.flow_label),
            ("sgid index", self.sgid_index),
            ("hop limit", self.hop_limit),
            ("traffic class", self.traffic_class),
        )


class AHAttr(sim.AHAttr, PyverbsObject):
    """An address vector."""

    def __str__(self) -> str:
        fields: list[tuple[str, Any]] = [
            ("port num", self.port_num),
            ("sl", self.sl),
            ("source path bits", self.src_path_bits),
            ("dlid", self.dlid),
            ("static rate", self.static_rate),
            ("is global", self.is_global),
        ]
        if self.is_global:
            fields += [
                ("dgid", self.dgid),
                ("flow label", self.flow_label),
                ("sgid index", self.sgid_index),
                ("hop limit", self.hop_limit),
                ("traffic_class", self.traffic_class),
            ]
        return lines(*fields, indent="  ")

    def init_from_ud_param(self, udparam: UDParam) -> None:
        """Take the address that came with an event of rdma_cm."""
        self.__init__(  # type: ignore[misc]
            is_global=1, port_num=1, gr=sim.GlobalRoute(sim.GID(udparam.dgid), sgid_index=udparam.sgid_index)
        )


class AH(Resource):
    """An address handle: of `attr`, or of `wc`, `grh` (its address) and `port_num` of what was received."""

    def __init__(self, pd: PD, **kwargs: Any) -> None:
        attr = only(kwargs["attr"], sim.AHAttr, "attr") if len(kwargs) == 1 else self._of_received(pd, **kwargs)
        device = pd.sim.device
        index = attr.sgid_index
        known = attr.is_global and attr.port_num == 1 and index is not None and 0 <= index < len(device.gids)
        if not known or attr.dgid is None:
            raise PyverbsRDMAError("Failed to create AH", errno.EINVAL)
        self.attr = attr.copy()
        self.pd: PD | None = pd
        pd.add_ref(self)
        self._closed = False

    @staticmethod
    def _of_received(pd: PD, wc: Any, grh: int, port_num: int) -> sim.AHAttr:
        memory = pd.sim.device.host.memory
        mapping = memory.find(grh, GRH_BYTES)
        if mapping is None:
            raise PyverbsUserError(f"no memory of {GRH_BYTES} bytes at {grh:#x}")
        header = payload_bytes(mapping.read(grh, GRH_BYTES))
        if header[0] >> 4 == 6:
            source, own = (_words(header[at : at + 16]) for at in (8, 24))
        else:  # 20 bytes of nothing, and an IPv4 header
            source, own = (_words(bytes(10) + b"\xff\xff" + header[at : at + 4]) for at in (32, 36))
        gids = pd.sim.device.gids
        index = gids.index(own) if own in gids else 0
        return sim.AHAttr(is_global=1, port_num=port_num, gr=sim.GlobalRoute(sim.GID(source), sgid_index=index))

    def close(self) -> None:
        """Destroy the handle."""
        self._closed = True
        self.pd = None


def _words(gid: bytes) -> str:
    return ":".join(f"{word:04x}" for word in struct.unpack("!8H", gid))
