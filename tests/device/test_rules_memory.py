"""R30 to R34 on simulated and real devices: memory regions and keys."""

import errno

import pytest

from simmig.verbs.sim import enums as e
from tests.verbs.ends import ALL_ACCESS, World, refused

LOCAL = e.IBV_ACCESS_LOCAL_WRITE
ACCESS = e.IBV_WC_REM_ACCESS_ERR
INVALID = e.IBV_WC_REM_INV_REQ_ERR
PROTECTION = e.IBV_WC_LOC_PROT_ERR


def _unknown_key(world: World) -> int:
    """What sending from memory whose key is not good for it comes to."""
    if world.deviates("local-errors-are-flushes"):
        return e.IBV_WC_WR_FLUSH_ERR
    return e.IBV_WC_LOC_QP_OP_ERR if world.deviates("bad-lkey-is-loc-qp-op-err") else PROTECTION


@pytest.mark.parametrize("access", [e.IBV_ACCESS_REMOTE_WRITE, e.IBV_ACCESS_REMOTE_ATOMIC])
def test_r30_remote_write_needs_local_write(world: World, access: int) -> None:
    left, _ = world.pair(connected=False)
    refused(world, errno.EINVAL, world.v.MR, left.pd, 4096, access)
    world.v.MR(left.pd, 4096, access | LOCAL)


@pytest.mark.parametrize("operation", ["write", "read"])
@pytest.mark.parametrize("fault", ["key", "deregistered", "before", "beyond"])
def test_r31_bad_key_or_range_is_rem_access_err(world: World, operation: str, fault: str) -> None:
    left, right = world.pair()
    target = right.buffer(4096)
    address, key = target.buf, target.rkey
    if fault == "deregistered":
        target.close()
    shift = {"before": -1, "beyond": 4096 - 63}.get(fault, 0)

    class Remote:
        buf = address + shift
        rkey = key ^ 0xFF if fault == "key" else key

    getattr(left, operation)(left.buffer(64), Remote)
    assert left.wait_one().status == ACCESS
    left.wait_for_state(e.IBV_QPS_ERR)
    right.wait_for_state(e.IBV_QPS_ERR)


@pytest.mark.parametrize(
    ("operation", "access"),
    [("write", LOCAL | e.IBV_ACCESS_REMOTE_READ), ("read", LOCAL | e.IBV_ACCESS_REMOTE_WRITE)],
)
def test_r31_the_regions_rights_count(world: World, operation: str, access: int) -> None:
    left, right = world.pair()
    getattr(left, operation)(left.buffer(64), right.buffer(64, access))
    assert left.wait_one().status == ACCESS


@pytest.mark.parametrize("operation", ["write", "read"])
def test_r31_the_queue_pairs_rights_count(world: World, operation: str) -> None:
    left, right = world.pair(connected=False)
    forbidden = e.IBV_ACCESS_REMOTE_WRITE if operation == "write" else e.IBV_ACCESS_REMOTE_READ
    left.qp.to_rts(world.attributes(left, right))
    right.qp.to_rts(world.attributes(right, left, qp_access_flags=ALL_ACCESS & ~forbidden))
    getattr(left, operation)(left.buffer(64), right.buffer(64))
    assert left.wait_one().status == INVALID


def test_r31_a_key_is_not_good_again_soon(world: World) -> None:
    _, right = world.pair(connected=False)
    keys = set()
    for _ in range(50):
        mr = right.buffer(64)
        assert mr.rkey not in keys
        keys.add(mr.rkey)
        mr.close()


@pytest.mark.parametrize("operation", ["write", "read"])
def test_r32_the_regions_pd_must_be_the_queue_pairs(world: World, operation: str) -> None:
    left, right = world.pair()
    foreign = right.buffer(64, pd=world.v.PD(right.context))
    getattr(left, operation)(left.buffer(64), foreign)
    assert left.wait_one().status == ACCESS


@pytest.mark.parametrize("operation", ["write", "send"])
def test_r32_locally_too(world: World, operation: str) -> None:
    left, right = world.pair()
    foreign = left.buffer(64, pd=world.v.PD(left.context))
    getattr(left, operation)(foreign, *([] if operation == "send" else [right.buffer(64)]))
    assert left.wait_one().status == _unknown_key(world)


@pytest.mark.parametrize("operation", ["write", "read", "send"])
@pytest.mark.parametrize("fault", ["key", "range", "deregistered"])
def test_r33_a_bad_lkey_is_loc_prot_err(world: World, operation: str, fault: str) -> None:
    left, right = world.pair()
    mr, good, target = left.buffer(4096), left.buffer(4096), right.buffer(4096)
    v = world.v
    element = {
        "key": v.SGE(mr.buf, 64, mr.lkey ^ 0xFF),
        "range": v.SGE(mr.buf + 4090, 64, mr.lkey),
        "deregistered": v.SGE(mr.buf, 64, mr.lkey),
    }[fault]
    if fault == "deregistered":
        mr.close()
    left.write(good, target, wr_id=1)
    getattr(left, operation)(good, *([] if operation == "send" else [target]), wr_id=2, sg=[element])
    before, failed = left.wait(2)
    flushed = world.deviates("local-errors-are-flushes") and operation != "read"
    assert before.wr_id == 1
    assert before.status in (e.IBV_WC_SUCCESS, *([e.IBV_WC_WR_FLUSH_ERR] if flushed else []))
    unlike = operation != "read" and (flushed or fault != "range")
    assert (failed.wr_id, failed.status) == (2, _unknown_key(world) if unlike else PROTECTION)
    left.wait_for_state(e.IBV_QPS_ERR)


def test_r33_reading_into_memory_not_open_for_writing_is_loc_prot_err(world: World) -> None:
    left, right = world.pair()
    left.read(left.buffer(64, 0), right.buffer(64))
    assert left.wait_one().status == e.IBV_WC_LOC_PROT_ERR


def test_r33_writing_from_memory_not_open_for_writing_is_fine(world: World) -> None:
    left, right = world.pair()
    left.write(left.buffer(64, 0), right.buffer(64))
    assert left.wait_one().status == e.IBV_WC_SUCCESS


@pytest.mark.parametrize("fault", ["key", "access"])
def test_r33_a_bad_receive_buffer_is_rem_op_err_at_the_sender(world: World, fault: str) -> None:
    left, right = world.pair()
    mr = right.buffer(64, 0 if fault == "access" else ALL_ACCESS)
    lkey = mr.lkey ^ 0xFF if fault == "key" else mr.lkey
    right.qp.post_recv(right.recv_wr(mr, wr_id=5, sg=[world.v.SGE(mr.buf, 64, lkey)]))
    left.send(left.buffer(64))
    assert left.wait_one().status == e.IBV_WC_REM_OP_ERR
    received = right.wait_one()
    status = e.IBV_WC_LOC_QP_OP_ERR if world.deviates("bad-receive-buffer-is-loc-qp-op-err") else PROTECTION
    assert (received.wr_id, received.status) == (5, status)
    right.wait_for_state(e.IBV_QPS_ERR)


def test_r33_a_message_longer_than_the_receive_is_an_error_on_both_ends(world: World) -> None:
    left, right = world.pair()
    right.recv(right.buffer(64), 63)
    left.send(left.buffer(64))
    expected = INVALID, e.IBV_WC_LOC_LEN_ERR
    if world.deviates("long-message-is-an-operation-error"):
        expected = e.IBV_WC_REM_OP_ERR, e.IBV_WC_LOC_QP_OP_ERR
    assert (left.wait_one().status, right.wait_one().status) == expected


@pytest.mark.parametrize("operation", ["write", "write_imm", "read"])
def test_r34_zero_length_ignores_the_rkey(world: World, operation: str) -> None:
    left, right = world.pair()
    mr, target = left.buffer(64), right.buffer(64)
    right.recv(right.buffer(64))
    getattr(left, operation)(mr, target, rkey=0xBAD00, sg=[left.sge(mr, 0)])
    assert left.wait_one().status == e.IBV_WC_SUCCESS
    if operation == "write_imm":
        assert right.wait_one().byte_len == 0
