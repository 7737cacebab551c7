"""What a queue pair may ask for: capacities (R9), states, and what it must and may be told on the way (R1 to R4).

Source: man ibv_modify_qp(3) for what is required, IBA volume 1, section 11.2.5.2 for what is optional.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.qp_attr import QPCap

if TYPE_CHECKING:
    from simmig.verbs.sim.addr import AHAttr
    from simmig.verbs.sim.nic import SimDevice
    from simmig.verbs.sim.profiles import Profile
    from simmig.verbs.sim.qp_attr import QPAttr

RESET = int(e.IBV_QPS_RESET)
INIT = int(e.IBV_QPS_INIT)
RTR = int(e.IBV_QPS_RTR)
RTS = int(e.IBV_QPS_RTS)
SQD = int(e.IBV_QPS_SQD)
ERR = int(e.IBV_QPS_ERR)
_SGE_BYTES = 16

INIT_ATTRIBUTES = e.IBV_QP_PKEY_INDEX | e.IBV_QP_PORT | e.IBV_QP_ACCESS_FLAGS
RTR_ATTRIBUTES = (
    e.IBV_QP_AV
    | e.IBV_QP_PATH_MTU
    | e.IBV_QP_DEST_QPN
    | e.IBV_QP_RQ_PSN
    | e.IBV_QP_MAX_DEST_RD_ATOMIC
    | e.IBV_QP_MIN_RNR_TIMER
)
RTS_ATTRIBUTES = (
    e.IBV_QP_TIMEOUT | e.IBV_QP_RETRY_CNT | e.IBV_QP_RNR_RETRY | e.IBV_QP_SQ_PSN | e.IBV_QP_MAX_QP_RD_ATOMIC
)
_RUNNING = e.IBV_QP_CUR_STATE | e.IBV_QP_ACCESS_FLAGS | e.IBV_QP_MIN_RNR_TIMER
_PAUSED = (
    e.IBV_QP_PORT
    | e.IBV_QP_PKEY_INDEX
    | e.IBV_QP_TIMEOUT
    | e.IBV_QP_RETRY_CNT
    | e.IBV_QP_RNR_RETRY
    | e.IBV_QP_MAX_QP_RD_ATOMIC
    | e.IBV_QP_MAX_DEST_RD_ATOMIC
    | e.IBV_QP_ACCESS_FLAGS
    | e.IBV_QP_MIN_RNR_TIMER
)

_TRANSITIONS: dict[tuple[int, int], tuple[int, int]] = {
    (RESET, INIT): (INIT_ATTRIBUTES, 0),
    (INIT, INIT): (0, INIT_ATTRIBUTES),
    (INIT, RTR): (RTR_ATTRIBUTES, e.IBV_QP_PKEY_INDEX | e.IBV_QP_ACCESS_FLAGS),
    (RTR, RTS): (RTS_ATTRIBUTES, _RUNNING),
    (RTS, RTS): (0, _RUNNING),
    (RTS, SQD): (0, e.IBV_QP_EN_SQD_ASYNC_NOTIFY),
    (SQD, RTS): (0, _RUNNING),
    (SQD, SQD): (0, _PAUSED),
}
"""From and to: what is required, what may come along."""


def check_modify(device: SimDevice, state: int, attr: QPAttr, mask: int) -> int:
    """0 when a queue pair of the device in that state may be so modified, else an errno."""
    target = int(attr.qp_state) if mask & e.IBV_QP_STATE else state
    given = mask & ~e.IBV_QP_STATE
    required, optional = (0, 0) if target in (RESET, ERR) else _TRANSITIONS.get((state, target), (-1, 0))
    if required < 0 or given & required != required or given & ~(required | optional):
        return errno.EINVAL
    if mask & e.IBV_QP_CUR_STATE and attr.cur_qp_state != state:
        return errno.EINVAL
    return 0 if all(good for bit, good in _values(device, attr) if mask & bit) else errno.EINVAL


def _values(device: SimDevice, attr: QPAttr) -> tuple[tuple[int, bool], ...]:
    reads = device.profile.max_outstanding_reads
    return (
        (e.IBV_QP_PORT, attr.port_num == 1),
        (e.IBV_QP_PKEY_INDEX, attr.pkey_index == 0),
        (e.IBV_QP_AV, _is_reachable(device, attr.ah_attr)),
        (e.IBV_QP_PATH_MTU, 1 <= attr.path_mtu <= device.mtu_code),
        (e.IBV_QP_MAX_DEST_RD_ATOMIC, 0 <= attr.max_dest_rd_atomic <= reads),
        (e.IBV_QP_MAX_QP_RD_ATOMIC, 0 <= attr.max_rd_atomic <= reads),
        (e.IBV_QP_MIN_RNR_TIMER, 0 <= attr.min_rnr_timer < 32),
        (e.IBV_QP_TIMEOUT, 0 <= attr.timeout < 32),
        (e.IBV_QP_RETRY_CNT, 0 <= attr.retry_cnt < 8),
        (e.IBV_QP_RNR_RETRY, 0 <= attr.rnr_retry < 8),
        (e.IBV_QP_SQ_PSN, 0 <= attr.sq_psn <= 0xFFFFFF),
        (e.IBV_QP_RQ_PSN, 0 <= attr.rq_psn <= 0xFFFFFF),
    )


def _is_reachable(device: SimDevice, address: AHAttr) -> bool:
    index = address.sgid_index
    return index is not None and 0 <= index < len(device.gids) and address.dgid in device.routes


ATTRIBUTES: tuple[tuple[int, str], ...] = (
    (e.IBV_QP_ACCESS_FLAGS, "qp_access_flags"),
    (e.IBV_QP_PKEY_INDEX, "pkey_index"),
    (e.IBV_QP_PORT, "port_num"),
    (e.IBV_QP_AV, "ah_attr"),
    (e.IBV_QP_PATH_MTU, "path_mtu"),
    (e.IBV_QP_TIMEOUT, "timeout"),
    (e.IBV_QP_RETRY_CNT, "retry_cnt"),
    (e.IBV_QP_RNR_RETRY, "rnr_retry"),
    (e.IBV_QP_RQ_PSN, "rq_psn"),
    (e.IBV_QP_MAX_QP_RD_ATOMIC, "max_rd_atomic"),
    (e.IBV_QP_MIN_RNR_TIMER, "min_rnr_timer"),
    (e.IBV_QP_SQ_PSN, "sq_psn"),
    (e.IBV_QP_MAX_DEST_RD_ATOMIC, "max_dest_rd_atomic"),
    (e.IBV_QP_DEST_QPN, "dest_qp_num"),
    (e.IBV_QP_EN_SQD_ASYNC_NOTIFY, "en_sqd_async_notify"),
)
"""What modify takes over by each bit of its mask."""


def granted(profile: Profile, asked: QPCap) -> QPCap | None:
    """The capacities a device gives when these are asked for (R9); None when it cannot."""
    good = (
        0 <= asked.max_send_wr <= profile.max_work_requests
        and 0 <= asked.max_recv_wr <= profile.max_work_requests
        and 0 <= asked.max_send_sge <= profile.max_sges
        and 0 <= asked.max_recv_sge <= profile.max_sges
        and 0 <= asked.max_inline_data <= profile.max_inline_bytes
    )
    if not good:
        return None
    send_sges, inline_bytes = max(asked.max_send_sge, 1), asked.max_inline_data
    if profile.inline_shares_sge_room:
        inline_bytes = max(asked.max_send_sge * _SGE_BYTES, inline_bytes)
        send_sges = inline_bytes // _SGE_BYTES
    return QPCap(
        profile.queue_slots(asked.max_send_wr),
        profile.queue_slots(asked.max_recv_wr),
        send_sges,
        max(asked.max_recv_sge, 1),
        inline_bytes,
    )
