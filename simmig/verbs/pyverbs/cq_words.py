"""Words for completions, as pyverbs has them; users import them from `cq`."""

from __future__ import annotations

from simmig.verbs.pyverbs import enums as e
from simmig.verbs.pyverbs.utils import flags_to_str

_STATUS = {
    0: "success",
    1: "local length error",
    2: "local QP op error",
    3: "local EEC op error",
    4: "local protection error",
    5: "WR flush error",
    6: "memory window bind error",
    7: "bad response error",
    8: "local access error",
    9: "remote invalidate request error",
    10: "remote access error",
    11: "remote op error",
    12: "retry exceeded error",
    13: "RNR retry exceeded",
    14: "local RDD violation error",
    15: "remote invalidate RD request error",
    16: "remote abort error",
    17: "invalidate EECN error",
    18: "invalidate EEC state error",
    19: "WC fatal error",
    20: "response timeout error",
    21: "general error",
}
_OPCODES = {
    0: "Send",
    1: "RDMA write",
    2: "RDMA read",
    3: "Compare and swap",
    4: "Fetch and add",
    5: "Bind Memory window",
    6: "Local invalidate",
    7: "TSO",
    0x80: "Receive",
    0x81: "Receive RDMA with immediate",
    0x82: "Tag matching - add",
    0x83: "Tag matching - delete",
    0x84: "Tag matching - sync",
    0x85: "Tag matching - receive",
    0x86: "Tag matching - no tag",
    0x87: "Driver WR",
}
_FLAGS = {
    1: "GRH",
    2: "With immediate",
    4: "IP csum OK",
    8: "With invalidate",
    16: "TM sync request",
    32: "TM match",
    64: "TM data valid",
}


def cqe_status_to_str(status: int) -> str:
    """A completion's status."""
    return _STATUS.get(status, "Unknown CQE status")


def cqe_opcode_to_str(opcode: int) -> str:
    """What completed."""
    return _OPCODES.get(opcode, f"Unknown CQE opcode {opcode}")


def cqe_flags_to_str(flags: int) -> str:
    """A completion's flags."""
    return flags_to_str(flags, _FLAGS)


def create_wc_flags_to_str(flags: int) -> str:
    """What an extended CQ is to tell."""
    return flags_to_str(flags, {int(value): name for name, value in e.ibv_create_cq_wc_flags.__members__.items()})


__all__ = ["cqe_flags_to_str", "cqe_opcode_to_str", "cqe_status_to_str", "create_wc_flags_to_str", "flags_to_str"]
