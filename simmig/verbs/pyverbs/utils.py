"""Words for numbers (module pyverbs.utils)."""

from __future__ import annotations

import struct

from simmig.verbs.pyverbs import enums as e
from simmig.verbs.sim.pyverbs_error import PyverbsUserError

_QP_TYPES = {2: "RC", 3: "UC", 4: "UD", 8: "Raw Packet", 9: "XRCD_SEND", 10: "XRCD_RECV", 0xFF: "Driver QP"}
_QP_STATES = {0: "Reset", 1: "Init", 2: "RTR", 3: "RTS", 4: "SQD", 5: "SQE", 6: "Error", 7: "Unknown"}
_MTUS = {1: 256, 2: 512, 3: 1024, 4: 2048, 5: 4096}
_ACCESS = {
    1: "Local write",
    2: "Remote write",
    4: "Remote read",
    8: "Remote atomic",
    16: "MW bind",
    32: "Zero based",
    64: "On demand",
}
_MIGRATION = {0: "Migrated", 1: "Re-arm", 2: "Armed"}


def be64toh(num: int) -> int:
    """A number of 64 bits with its bytes turned round."""
    return int(struct.unpack("Q", struct.pack("!Q", num))[0])


def gid_str(subnet_prefix: int, interface_id: int) -> str:
    """A GID of two numbers in network order, as eight words."""
    digits = f"{be64toh(subnet_prefix):016x}{be64toh(interface_id):016x}"
    return ":".join(digits[at : at + 4] for at in range(0, 32, 4))


def gid_str_to_array(val: str) -> list[str]:
    """The sixteen bytes of a GID, two digits each; raises PyverbsUserError when it is none."""
    words = val.split(":")
    if len(words) != 8 or any(len(word) != 4 for word in words):
        raise PyverbsUserError(f"Invalid GID value ({val})")
    int("".join(words), 16)
    return [word[at : at + 2] for word in words for at in (0, 2)]


def qp_type_to_str(qp_type: int) -> str:
    """A transport."""
    return _QP_TYPES.get(qp_type, f"Unknown ({qp_type})")


def qp_state_to_str(qp_state: int) -> str:
    """A queue pair's state."""
    return _QP_STATES.get(qp_state, f"Unknown ({qp_state})")


def mtu_to_str(mtu: int) -> int:
    """A path MTU in bytes, 0 for none."""
    return _MTUS.get(mtu, 0)


def access_flags_to_str(flags: int) -> str:
    """Access flags."""
    return "".join(f"{name} " for bit, name in _ACCESS.items() if flags & bit)


def mig_state_to_str(mig: int) -> str:
    """A state of path migration."""
    return _MIGRATION.get(mig, f"Unknown ({mig})")


def rereg_error_to_str(error: int) -> str:
    """Why a re-registration failed."""
    for name, value in e.ibv_rereg_mr_err_code.__members__.items():
        if value == error:
            return str(name)
    return f"Unknown error ({error})"


def flags_to_str(flags: int, words: dict[int, str]) -> str:
    """The words of the bits that are set."""
    return "".join(f"{word} " for bit, word in words.items() if flags & bit)


def wc_status_to_str(status: int) -> str:
    """A completion's status, as newer versions word it."""
    words = {
        0: "Success",
        1: "Local length error",
        2: "local QP operation error",
        3: "Local EEC operation error",
        4: "Local protection error",
        5: "WR flush error",
        6: "Memory window bind error",
        7: "Bad response error",
        8: "Local access error",
        9: "Remote invalidate request error",
        10: "Remote access error",
        11: "Remote operation error",
        12: "Retry exceeded",
        13: "RNR retry exceeded",
        14: "Local RDD violation error",
        15: "Remote invalidate RD request error",
        16: "Remote aort error",
        17: "Invalidate EECN error",
        18: "Invalidate EEC state error",
        19: "Fatal error",
        20: "Response timeout error",
        21: "General error",
    }
    return words.get(status, f"Unknown WC status ({status})")
