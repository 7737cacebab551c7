"""Addresses: GID, global route, address vector (module pyverbs.addr)."""

from __future__ import annotations

from simmig.verbs.sim.base import NotModelled
from simmig.verbs.sim.pyverbs_error import PyverbsUserError


def _checked(value: str) -> str:
    words = value.split(":")
    if len(words) != 8 or any(len(word) != 4 for word in words):
        raise PyverbsUserError(f"Invalid GID value ({value})")
    try:
        int("".join(words), 16)
    except ValueError:
        raise PyverbsUserError(f"Invalid GID value ({value})") from None
    return value.lower()


class GID:
    """A port's global identifier, as eight words of four hexadecimal digits."""

    __slots__ = ("_value",)

    def __init__(self, val: str | None = None) -> None:
        self._value = "0000:0000:0000:0000:0000:0000:0000:0000" if val is None else _checked(val)

    @property
    def gid(self) -> str:
        """The identifier as 'xxxx:xxxx:xxxx:xxxx:xxxx:xxxx:xxxx:xxxx'."""
        return self._value

    @gid.setter
    def gid(self, val: str) -> None:
        self._value = _checked(val)

    def __str__(self) -> str:
        return self._value


class GlobalRoute:
    """The part of an address vector that holds the destination's GID."""

    __slots__ = ("_dgid", "flow_label", "hop_limit", "sgid_index", "traffic_class")

    def __init__(
        self,
        dgid: GID | None = None,
        flow_label: int = 0,
        sgid_index: int = 0,
        hop_limit: int = 1,
        traffic_class: int = 0,
    ) -> None:
        self._dgid = GID() if dgid is None else GID(dgid.gid)
        self.flow_label = flow_label
        self.sgid_index = sgid_index
        self.hop_limit = hop_limit
        self.traffic_class = traffic_class

    def copy(self) -> GlobalRoute:
        """Another one with the same values."""
        return GlobalRoute(self._dgid, self.flow_label, self.sgid_index, self.hop_limit, self.traffic_class)

    @property
    def dgid(self) -> str:
        """Destination GID."""
        return self._dgid.gid

    @dgid.setter
    def dgid(self, val: str) -> None:
        self._dgid.gid = val


class AHAttr:
    """An address vector: where a queue pair's packets go. RoCE needs `is_global` and a `gr`."""

    __slots__ = ("_gr", "dlid", "is_global", "port_num", "sl", "src_path_bits", "static_rate")

    def __init__(
        self,
        dlid: int = 0,
        sl: int = 0,
        src_path_bits: int = 0,
        static_rate: int = 0,
        is_global: int = 0,
        port_num: int = 1,
        gr: GlobalRoute | None = None,
    ) -> None:
        if is_global and gr is None:
            raise PyverbsUserError("Global AH Attr is created but gr parameter is None")
        self.dlid = dlid
        self.sl = sl
        self.src_path_bits = src_path_bits
        self.static_rate = static_rate
        self.is_global = is_global
        self.port_num = port_num
        self._gr = gr.copy() if is_global and gr is not None else GlobalRoute()

    def copy(self) -> AHAttr:
        """Another one with the same values."""
        return AHAttr(
            self.dlid, self.sl, self.src_path_bits, self.static_rate, self.is_global, self.port_num, self._gr
        )

    @property
    def dgid(self) -> str | None:
        """Destination GID; None when the address is not global."""
        return self._gr.dgid if self.is_global else None

    @dgid.setter
    def dgid(self, val: str) -> None:
        if self.is_global:
            self._gr.dgid = val

    @property
    def flow_label(self) -> int | None:
        """Flow label; None when the address is not global."""
        return self._gr.flow_label if self.is_global else None

    @property
    def sgid_index(self) -> int | None:
        """Index of the own GID; None when the address is not global."""
        return self._gr.sgid_index if self.is_global else None

    @property
    def hop_limit(self) -> int | None:
        """Hop limit; None when the address is not global."""
        return self._gr.hop_limit if self.is_global else None

    @property
    def traffic_class(self) -> int | None:
        """Traffic class; None when the address is not global."""
        return self._gr.traffic_class if self.is_global else None


class AH(NotModelled):
    """Address handles serve unreliable datagrams."""
