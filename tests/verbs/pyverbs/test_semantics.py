"""What a device refuses, and what it does beyond the reliable connection's writes: each with its source."""

from __future__ import annotations

import errno

import pytest

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.addr import AHAttr, GlobalRoute
from simmig.verbs.sim.cq import CQ, CompChannel
from simmig.verbs.sim.mr import MR
from simmig.verbs.sim.pd import PD
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError
from simmig.verbs.sim.qp import QP, QPAttr, QPCap, QPInitAttr
from simmig.verbs.sim.srq import SRQ, SrqAttr, SrqInitAttr
from simmig.verbs.sim.wr import SGE, Destination, SendWR
from tests.verbs.rig import ALL_ACCESS, End, Rig, attributes, recv_wr, refused, sge

ATOMIC = ALL_ACCESS | e.IBV_ACCESS_REMOTE_ATOMIC


@pytest.mark.parametrize(
    ("name", "value"), [("dest_qp_num", 1 << 24), ("qp_access_flags", 1 << 31), ("sgid_index", 99), ("port", 2)]
)
def test_modify_takes_no_value_that_no_device_has(rig: Rig, name: str, value: int) -> None:
    left, right = rig.end(0), rig.right
    attr = attributes(left, right)
    if name in ("sgid_index", "port"):
        route = GlobalRoute(right.context.query_gid(1, 1), sgid_index=value if name == "sgid_index" else 1)
        attr.ah_attr = AHAttr(is_global=1, gr=route, port_num=value if name == "port" else 1)
    else:
        setattr(attr, name, value)
    refused(errno.EINVAL, left.qp.to_rts, attr)


@pytest.mark.parametrize("bit", [e.IBV_QP_AV, e.IBV_QP_ALT_PATH, e.IBV_QP_PATH_MIG_STATE])
def test_sqd_takes_what_linux_table_lists(rig: Rig, bit: int) -> None:
    """drivers/infiniband/core/verbs.c, qp_state_table: SQD to SQD of a reliable connection."""
    left = rig.left
    left.qp.modify(QPAttr(qp_state=e.IBV_QPS_SQD), e.IBV_QP_STATE)
    attr = attributes(left, rig.right)
    attr.alt_ah_attr = attr.ah_attr
    left.qp.modify(attr, bit)
    left.qp.modify(QPAttr(qp_state=e.IBV_QPS_RTS), e.IBV_QP_STATE)
    left.write(left.buffer(64), rig.right.buffer(64))
    assert left.wait_one().status == e.IBV_WC_SUCCESS


def test_what_belongs_to_another_context_is_refused(rig: Rig) -> None:
    """The kernel looks handles up in the file they were made by (uverbs: EINVAL)."""
    left, other = rig.left, rig.end(0)
    init = QPInitAttr(qp_type=e.IBV_QPT_RC, scq=other.cq, rcq=left.cq, cap=QPCap(1, 1, 1, 1))
    refused(errno.EINVAL, QP, left.pd, init)
    refused(errno.EINVAL, CQ, left.context, 10, None, CompChannel(other.context), 0)
    domain = PD(left.context)
    domain.close()
    refused(errno.EINVAL, MR, domain, 64, ALL_ACCESS)


def test_access_bits_that_are_none_are_refused(rig: Rig) -> None:
    refused(errno.EINVAL, MR, rig.left.pd, 64, 1 << 30)


def test_a_zero_based_region_is_addressed_from_zero(rig: Rig) -> None:
    """man ibv_reg_mr(3): IBV_ACCESS_ZERO_BASED."""
    left, right = rig.left, rig.right
    source = left.buffer(64)
    source.write(b"zero", 4)
    target = right.buffer(64, ALL_ACCESS | e.IBV_ACCESS_ZERO_BASED)
    for address, status in ((16, e.IBV_WC_SUCCESS), (target.buf, e.IBV_WC_REM_ACCESS_ERR)):
        wr = SendWR(1, e.IBV_WR_RDMA_WRITE, 1, 0, [sge(source, 4)], e.IBV_SEND_SIGNALED)
        wr.set_wr_rdma(target.rkey, address)
        left.qp.post_send(wr)
        assert left.wait_one().status == status
    assert target.read(20, 0) == bytes(16) + b"zero"


def test_acknowledging_too_many_events_waits_for_ever(rig: Rig) -> None:
    """libibverbs compares with !=: destroying the queue never ends."""
    cq = CQ(rig.left.context, 10, None, CompChannel(rig.left.context), 0)
    cq.ack_events(1)
    refused(errno.EDEADLK, cq.destroy)


def test_a_destroyed_queue_pairs_completions(rig: Rig) -> None:
    """rdma-core providers/mlx5 cleans the queue (mlx5_destroy_qp); soft-RoCE leaves them."""
    left = rig.left
    left.write(left.buffer(64), rig.right.buffer(64))
    rig.sim.run()
    left.qp.close()
    assert len(left.poll_all()) == (0 if rig.profile.name == "mlx5" else 1)


def atomic(end: End, opcode: int, target: MR, add: int, swap: int = 0, offset: int = 0) -> int:
    mr = end.buffer(8)
    wr = SendWR(1, opcode, 1, 0, [sge(mr)], e.IBV_SEND_SIGNALED)
    wr.set_wr_atomic(target.rkey, target.buf + offset, add, swap)
    end.qp.post_send(wr)
    status = end.wait_one().status
    return int.from_bytes(mr.read(8, 0), "little") if status == e.IBV_WC_SUCCESS else -status


def test_atomics_find_and_change(rig: Rig) -> None:
    """IBA volume 1, 9.4.5; man ibv_post_send(3)."""
    for end in (rig.left, rig.right):
        end.qp.modify(attributes(end, end, qp_access_flags=ATOMIC), e.IBV_QP_ACCESS_FLAGS)
    target = rig.right.buffer(16, ATOMIC)
    assert atomic(rig.left, e.IBV_WR_ATOMIC_FETCH_AND_ADD, target, 5) == 0
    assert atomic(rig.left, e.IBV_WR_ATOMIC_FETCH_AND_ADD, target, (1 << 64) - 1) == 5
    assert atomic(rig.left, e.IBV_WR_ATOMIC_CMP_AND_SWP, target, 3, 9) == 4
    assert atomic(rig.left, e.IBV_WR_ATOMIC_CMP_AND_SWP, target, 4, 9) == 4
    assert int.from_bytes(target.read(8, 0), "little") == 9
    assert atomic(rig.left, e.IBV_WR_ATOMIC_FETCH_AND_ADD, target, 1, offset=4) == -e.IBV_WC_REM_INV_REQ_ERR


def test_r45_the_limit_of_a_shared_queue_is_told_once(rig: Rig) -> None:
    right = rig.right
    srq = SRQ(right.pd, SrqInitAttr(SrqAttr(8, 1)))
    cap = QPCap(8, 0, 1, 0)
    qp = QP(right.pd, QPInitAttr(qp_type=e.IBV_QPT_RC, scq=right.cq, rcq=right.cq, srq=srq, cap=cap))
    left = rig.end(0)
    right.qp = qp
    rig.connect(left, right)
    inbox = right.buffer(64)
    for wr_id in range(4):
        srq.post_recv(recv_wr(inbox, wr_id=wr_id))
    srq.modify(SrqAttr(srq_limit=3), e.IBV_SRQ_LIMIT)
    for _ in range(3):
        left.send(left.buffer(64))
    left.wait(3)
    kinds = [int(event.event_type) for event in right.context.events]
    assert kinds.count(e.IBV_EVENT_SRQ_LIMIT_REACHED) == 1
    assert srq.query().srq_limit == 0
    assert [wc.wr_id for wc in right.poll_all()] == [0, 1, 2]
    qp.modify(QPAttr(qp_state=e.IBV_QPS_ERR), e.IBV_QP_STATE)
    assert right.poll_all() == []  # R20: what is shared is not flushed
    with pytest.raises(PyverbsRDMAError):
        qp.post_recv(recv_wr(inbox))


def test_a_datagram_comes_behind_its_header_and_only_with_the_key(rig: Rig) -> None:
    """man ibv_post_recv(3): the first 40 bytes; IBA volume 1, 9.8.3: another Q_Key is dropped."""
    ends = [rig.left, rig.right]
    for end in ends:
        init = QPInitAttr(qp_type=e.IBV_QPT_UD, scq=end.cq, rcq=end.cq, cap=QPCap(4, 4, 1, 1), sq_sig_all=0)
        attr = QPAttr()
        attr.qkey = 7
        end.qp = QP(end.pd, init, attr)
    left, right = ends
    inbox, outbox = right.buffer(256), left.buffer(64)
    outbox.write(b"datagram", 8)
    right.recv(inbox, wr_id=5)
    gid = right.context.query_gid(1, 1)

    class Handle:
        attr = AHAttr(is_global=1, gr=GlobalRoute(gid, sgid_index=1))

    for key in (8, 7):
        wr = SendWR(key, e.IBV_WR_SEND, 1, 0, [SGE(outbox.buf, 8, outbox.lkey)], e.IBV_SEND_SIGNALED)
        wr.set_wr_ud(Handle, right.qp.qp_num, key)
        left.qp.post_send(wr)
    assert [(wc.wr_id, wc.status) for wc in left.wait(2)] == [(8, 0), (7, 0)]
    rig.sim.run()
    (got,) = right.poll_all()
    assert (got.wr_id, got.byte_len, got.src_qp, got.wc_flags) == (5, 48, left.qp.qp_num, e.IBV_WC_GRH)
    assert inbox.read(8, 40) == b"datagram"


def test_an_atomic_write_puts_eight_bytes_there_with_a_writes_rights(rig: Rig) -> None:
    """IBA volume 1, annex A19; man ibv_wr_post(3). Neither ConnectX nor soft-RoCE before Linux 6.2 has it."""
    left, right = rig.left, rig.right
    target = right.buffer(16)

    def write(offset: int, value: bytes, rkey: int = target.rkey) -> int:
        wr = SendWR(1, e.IBV_WR_ATOMIC_WRITE, 0, 0, [], e.IBV_SEND_SIGNALED)
        wr.set_wr_atomic_write(rkey, target.buf + offset, value)
        left.qp.post_send(wr)
        wc = left.wait_one()
        assert wc.status or (wc.opcode, wc.byte_len) == (e.IBV_WC_ATOMIC_WRITE, 8)
        return int(wc.status)

    if not rig.profile.has_atomic_writes:
        refused(errno.EOPNOTSUPP, write, 8, b"overthere"[:8])
        return
    refused(errno.EINVAL, write, 8, b"short")
    assert write(8, b"overther") == e.IBV_WC_SUCCESS
    assert target.read(16, 0) == bytes(8) + b"overther"
    assert write(4, bytes(8)) == e.IBV_WC_REM_INV_REQ_ERR


def test_an_atomic_write_needs_a_region_that_may_be_written_to(rig: Rig) -> None:
    if not rig.profile.has_atomic_writes:
        pytest.skip("this device has none")
    left = rig.left
    target = rig.right.buffer(8, e.IBV_ACCESS_LOCAL_WRITE | e.IBV_ACCESS_REMOTE_READ)
    wr = SendWR(1, e.IBV_WR_ATOMIC_WRITE, 0, 0, [], e.IBV_SEND_SIGNALED)
    wr.set_wr_atomic_write(target.rkey, target.buf, bytes(8))
    left.qp.post_send(wr)
    assert left.wait_one().status == e.IBV_WC_REM_ACCESS_ERR


def test_a_datagrams_error_stops_the_send_queue_alone(rig: Rig) -> None:
    """IBA volume 1, 10.3.1: SQE, out of which RTS leads; soft-RoCE calls rxe_qp_error, as for any."""
    left, right = rig.left, rig.right
    for end in (left, right):
        init = QPInitAttr(qp_type=e.IBV_QPT_UD, scq=end.cq, rcq=end.cq, cap=QPCap(4, 4, 1, 1), sq_sig_all=0)
        attr = QPAttr()
        attr.qkey = 7
        end.qp = QP(end.pd, init, attr)

    def post(end: End, other: End, lkey: int, wr_id: int) -> None:
        outbox = end.buffer(64)
        wr = SendWR(wr_id, e.IBV_WR_SEND, 1, 0, [SGE(outbox.buf, 8, lkey or outbox.lkey)], e.IBV_SEND_SIGNALED)
        gid = other.context.query_gid(1, 1)
        wr.extra = Destination(AHAttr(is_global=1, gr=GlobalRoute(gid, sgid_index=1)), other.qp.qp_num, 7)
        end.qp.post_send(wr)

    left.qp.post_recv(recv_wr(left.buffer(104), wr_id=9))
    post(left, right, 0xBAD00, 1)
    post(left, right, 0, 2)
    rig.sim.run()
    post(left, right, 0, 3)
    stops_all = not rig.profile.stops_only_sending
    got = [(wc.wr_id, int(wc.status)) for wc in left.poll_all()]
    flushed = int(e.IBV_WC_WR_FLUSH_ERR)
    assert [pair for pair in got if pair[0] != 9] == [(1, got[0][1]), (2, flushed), (3, flushed)]
    assert got[0][1] in (e.IBV_WC_LOC_PROT_ERR, rig.profile.bad_key_status)
    assert left.state() == (e.IBV_QPS_ERR if stops_all else e.IBV_QPS_SQE)
    if stops_all:
        assert (9, flushed) in got
        return
    post(right, left, 0, 4)
    left.qp.modify(QPAttr(qp_state=e.IBV_QPS_RTS), e.IBV_QP_STATE)
    post(left, right, 0, 5)
    rig.sim.run()
    assert sorted((wc.wr_id, int(wc.status)) for wc in left.poll_all()) == [(5, 0), (9, 0)]
