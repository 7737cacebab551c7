"""What rdma_cm is told: of a connection, of addresses, of groups; users import it from `cmid`."""

from __future__ import annotations

import errno
import socket

from simmig.verbs.pyverbs import cm_enums as ce
from simmig.verbs.pyverbs.base import PyverbsObject, PyverbsRDMAError, lines, only
from simmig.verbs.pyverbs.rdmacm import Parameters


class ConnParam(PyverbsObject):
    """What a connection is to be like."""

    def __init__(
        self,
        resources: int = 1,
        depth: int = 1,
        flow_control: int = 0,
        retry: int = 5,
        rnr_retry: int = 5,
        srq: int = 0,
        qp_num: int = 0,
        data_len: int = 0,
    ) -> None:
        self.resources = resources
        self.depth = depth
        self.flow_control = flow_control
        self.retry = retry
        self.rnr_retry = rnr_retry
        self.srq = srq
        self.qpn = qp_num
        self.private_data = b""
        self._room = data_len

    def set_private_data(self, data: bytes) -> None:
        """What the peer is told, as much of it as there is room for."""
        self.private_data = bytes(data[: self._room])

    def parameters(self) -> Parameters:
        """The same for the connection."""
        return Parameters(self.qpn, self.resources, self.depth, self.retry, self.rnr_retry, self.private_data)

    def __str__(self) -> str:
        return "Connection parameters: \n" + lines(
            ("responder resources", self.resources),
            ("initiator depth", self.depth),
            ("flow control", self.flow_control),
            ("retry count", self.retry),
            ("rnr retry count", self.rnr_retry),
            ("srq", self.srq),
            ("qp number", self.qpn),
            width=4,
        )


class AddrInfo(PyverbsObject):
    """Addresses of an end and its peer: IPv4, and names of them."""

    def __init__(
        self,
        src: str | bytes | None = None,
        dst: str | bytes | None = None,
        src_service: str | None = None,
        dst_service: str | None = None,
        port_space: int = 0,
        flags: int = 0,
    ) -> None:
        self.src = _ip(src) if src not in _ANY else None
        self.dst = _ip(dst)
        self.src_port = int(src_service or 0)
        self.dst_port = int(dst_service or 0)
        self.port_space = int(port_space) or int(ce.RDMA_PS_TCP)
        self.flags = int(flags)

    def close(self) -> None:
        """Nothing to give back."""


_ANY = ("0.0.0.0", b"0.0.0.0")


def _ip(name: str | bytes | None) -> str | None:
    if name is None:
        return None
    try:
        return socket.gethostbyname(name.decode() if isinstance(name, bytes) else name)
    except OSError as error:
        raise PyverbsRDMAError("Failed to get Address Info", error.errno or errno.EINVAL) from None


class JoinMCAttrEx(PyverbsObject):
    """How to join a group."""

    def __init__(self, addr: AddrInfo, comp_mask: int = 0, join_flags: int = 0) -> None:
        self.addr = only(addr, AddrInfo, "addr")
        self.comp_mask = int(comp_mask)
        self.join_flags = int(join_flags)
