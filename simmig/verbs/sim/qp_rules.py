"""What a queue pair may ask for: capacities (R9), states, and what it must and may be told on the way (R1 to R4).

Source: man ibv_modify_qp(3) for what is required, Linux' qp_state_table (drivers/infiniband/core/verbs.c), that
is IBA volume 1, section 11.2.5.2, for what may come along.
"""

from __future__ import annotations

import errno

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.addr import AHAttr
from simmig.verbs.sim.nic import SimDevice
from simmig.verbs.sim.profiles import Profile
from simmig.verbs.sim.qp_attr import QPAttr, QPCap

RESET = int(e.IBV_QPS_RESET)
INIT = int(e.IBV_QPS_INIT)
RTR = int(e.IBV_QPS_RTR)
RTS = int(e.IBV_QPS_RTS)
SQD = int(e.IBV_QPS_SQD)
SQE = int(e.IBV_QPS_SQE)
ERR = int(e.IBV_QPS_ERR)
_SGE_BYTES = 16

RC, UC, UD = int(e.IBV_QPT_RC), int(e.IBV_QPT_UC), int(e.IBV_QPT_UD)

INIT_ATTRIBUTES = e.IBV_QP_PKEY_INDEX | e.IBV_QP_PORT | e.IBV_QP_ACCESS_FLAGS
_DATAGRAM_INIT = e.IBV_QP_PKEY_INDEX | e.IBV_QP_PORT | e.IBV_QP_QKEY
_CONNECTED_RTR = e.IBV_QP_AV | e.IBV_QP_PATH_MTU | e.IBV_QP_DEST_QPN | e.IBV_QP_RQ_PSN
RTR_ATTRIBUTES = _CONNECTED_RTR | e.IBV_QP_MAX_DEST_RD_ATOMIC | e.IBV_QP_MIN_RNR_TIMER
RTS_ATTRIBUTES = (
    e.IBV_QP_TIMEOUT | e.IBV_QP_RETRY_CNT | e.IBV_QP_RNR_RETRY | e.IBV_QP_SQ_PSN | e.IBV_QP_MAX_QP_RD_ATOMIC
)
STEPS: dict[int, tuple[int, int, int]] = {
    RC: (INIT_ATTRIBUTES, RTR_ATTRIBUTES, RTS_ATTRIBUTES),
    UC: (INIT_ATTRIBUTES, _CONNECTED_RTR, e.IBV_QP_SQ_PSN),
    UD: (_DATAGRAM_INIT, 0, e.IBV_QP_SQ_PSN),
}
"""By transport: what the steps to INIT, RTR and RTS require."""

_PATHS = e.IBV_QP_ALT_PATH | e.IBV_QP_PATH_MIG_STATE
_RUNNING: dict[int, int] = {
    RC: e.IBV_QP_CUR_STATE | e.IBV_QP_ACCESS_FLAGS | e.IBV_QP_MIN_RNR_TIMER | _PATHS,
    UC: e.IBV_QP_CUR_STATE | e.IBV_QP_ACCESS_FLAGS | _PATHS,
    UD: e.IBV_QP_CUR_STATE | e.IBV_QP_QKEY,
}
_PAUSED: dict[int, int] = {
    RC: e.IBV_QP_PORT
    | e.IBV_QP_AV
    | e.IBV_QP_PKEY_INDEX
    | e.IBV_QP_TIMEOUT
    | e.IBV_QP_RETRY_CNT
    | e.IBV_QP_RNR_RETRY
    | e.IBV_QP_MAX_QP_RD_ATOMIC
    | e.IBV_QP_MAX_DEST_RD_ATOMIC
    | e.IBV_QP_ACCESS_FLAGS
    | e.IBV_QP_MIN_RNR_TIMER
    | _PATHS,
    UC: e.IBV_QP_AV | e.IBV_QP_PKEY_INDEX | e.IBV_QP_ACCESS_FLAGS | _PATHS,
    UD: e.IBV_QP_PKEY_INDEX | e.IBV_QP_QKEY,
}
_TO_RTR: dict[int, int] = {
    RC: e.IBV_QP_PKEY_INDEX | e.IBV_QP_ACCESS_FLAGS | e.IBV_QP_ALT_PATH,
    UC: e.IBV_QP_PKEY_INDEX | e.IBV_QP_ACCESS_FLAGS | e.IBV_QP_ALT_PATH,
    UD: e.IBV_QP_PKEY_INDEX | e.IBV_QP_QKEY,
}


def _transitions(kind: int) -> dict[tuple[int, int], tuple[int, int]]:
    to_init, to_rtr, to_rts = STEPS[kind]
    running = _RUNNING[kind]
    return {
        (RESET, INIT): (to_init, 0),
        (INIT, INIT): (0, to_init),
        (INIT, RTR): (to_rtr, _TO_RTR[kind]),
        (RTR, RTS): (to_rts, running),
        (RTS, RTS): (0, running),
        (RTS, SQD): (0, e.IBV_QP_EN_SQD_ASYNC_NOTIFY),
        (SQD, RTS): (0, running),
        (SQD, SQD): (0, _PAUSED[kind]),
        (SQE, RTS): (0, running),
    }


_TRANSITIONS = {kind: _transitions(kind) for kind in STEPS}
"""By transport, from and to: what is required, what may come along."""


def check_modify(device: SimDevice, state: int, attr: QPAttr, mask: int, kind: int = RC) -> int:
    """0 when a queue pair of the device in that state may be so modified, else an errno."""
    target = int(attr.qp_state) if mask & e.IBV_QP_STATE else state
    given = mask & ~e.IBV_QP_STATE
    if target == ERR and state == RESET and not device.profile.error_from_reset:
        return errno.EINVAL
    required, optional = (0, 0) if target in (RESET, ERR) else _TRANSITIONS[kind].get((state, target), (-1, 0))
    if required < 0 or given & required != required or given & ~(required | optional):
        return errno.EINVAL
    if mask & e.IBV_QP_CUR_STATE and attr.cur_qp_state != state:
        return errno.EINVAL
    return 0 if all(good for bit, good in _values(device, attr) if mask & bit) else errno.EINVAL


_ALL_ACCESS = sum(e.ibv_access_flags)


def _values(device: SimDevice, attr: QPAttr) -> tuple[tuple[int, bool], ...]:
    reads = device.profile.max_outstanding_reads
    incoming = 255 if device.profile.takes_any_incoming_reads else reads
    return (
        (e.IBV_QP_PORT, attr.port_num == 1),
        (e.IBV_QP_PKEY_INDEX, attr.pkey_index == 0),
        (e.IBV_QP_ACCESS_FLAGS, not int(attr.qp_access_flags) & ~_ALL_ACCESS),
        (e.IBV_QP_AV, _is_reachable(device, attr.ah_attr)),
        (e.IBV_QP_DEST_QPN, 0 <= attr.dest_qp_num <= 0xFFFFFF),
        (e.IBV_QP_PATH_MTU, 1 <= attr.path_mtu <= device.mtu_code),
        (e.IBV_QP_MAX_DEST_RD_ATOMIC, 0 <= attr.max_dest_rd_atomic <= incoming),
        (e.IBV_QP_MAX_QP_RD_ATOMIC, 0 <= attr.max_rd_atomic <= reads),
        (e.IBV_QP_MIN_RNR_TIMER, 0 <= attr.min_rnr_timer < 32),
        (e.IBV_QP_TIMEOUT, 0 <= attr.timeout < 32),
        (e.IBV_QP_RETRY_CNT, 0 <= attr.retry_cnt < 8),
        (e.IBV_QP_RNR_RETRY, 0 <= attr.rnr_retry < 8),
        (e.IBV_QP_SQ_PSN, 0 <= attr.sq_psn <= 0xFFFFFF),
        (e.IBV_QP_RQ_PSN, 0 <= attr.rq_psn <= 0xFFFFFF),
        (e.IBV_QP_ALT_PATH, attr.alt_port_num <= 1 and attr.alt_pkey_index == 0 and 0 <= attr.alt_timeout < 32),
        (e.IBV_QP_PATH_MIG_STATE, 0 <= attr.path_mig_state <= int(e.IBV_MIG_ARMED)),
    )


def _is_reachable(device: SimDevice, address: AHAttr) -> bool:
    index = address.sgid_index
    known = index is not None and 0 <= index < len(device.gids)
    return known and address.dgid in device.routes and address.port_num in (0, 1)


ATTRIBUTES: tuple[tuple[int, str], ...] = (
    (e.IBV_QP_ACCESS_FLAGS, "qp_access_flags"),
    (e.IBV_QP_PKEY_INDEX, "pkey_index"),
    (e.IBV_QP_PORT, "port_num"),
    (e.IBV_QP_QKEY, "qkey"),
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
    (e.IBV_QP_PATH_MIG_STATE, "path_mig_state"),
    (e.IBV_QP_ALT_PATH, "alt_ah_attr"),
    (e.IBV_QP_ALT_PATH, "alt_port_num"),
    (e.IBV_QP_ALT_PATH, "alt_pkey_index"),
    (e.IBV_QP_ALT_PATH, "alt_timeout"),
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


def told(profile: Profile, asked: QPCap, given: QPCap) -> QPCap:
    """What the caller is told of it: soft-RoCE repeats the slots asked for."""
    if profile.tells_true_capacities:
        return given
    said = given.copy()
    said.max_send_wr, said.max_recv_wr = asked.max_send_wr, asked.max_recv_wr
    return said
