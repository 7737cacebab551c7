"""A completion. Users import it from `cq`, as in pyverbs."""

from __future__ import annotations

from typing import Any

import msgspec


class WC(msgspec.Struct, eq=False):
    """A completion. On failure only wr_id, status, qp_num and vendor_err count (R17)."""

    wr_id: int = 0
    status: int = 0
    opcode: int = 0
    vendor_err: int = 0
    byte_len: int = 0
    qp_num: int = 0
    src_qp: int = 0
    imm_data: int = 0
    wc_flags: int = 0
    pkey_index: int = 0
    slid: int = 0
    sl: int = 0
    dlid_path_bits: int = 0
    queue: Any = None
    """The work queue to which polling it gives slots back; None when they have come free before."""
    retires: int = 0
    """How many of that queue's work requests it retires."""

    def __str__(self) -> str:
        fields = (
            ("WR ID", self.wr_id),
            ("status", self.status),
            ("opcode", self.opcode),
            ("vendor error", self.vendor_err),
            ("byte length", self.byte_len),
            ("QP num", self.qp_num),
            ("source QP", self.src_qp),
            ("WC flags", self.wc_flags),
            ("imm_data", self.imm_data),
        )
        return "".join(f"{name:22}: {int(value):<20}\n" for name, value in fields)
