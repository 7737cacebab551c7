"""R30 to R34: memory regions and keys."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.memory import ByteSegment
from simmig.verbs.sim.mr import MR
from simmig.verbs.sim.pd import PD
from simmig.verbs.sim.profiles import Profile
from simmig.verbs.sim.wr import SGE, RecvWR
from tests.verbs.rig import ALL_ACCESS, Rig, as_rxe, attributes, refused, sge, write_pattern

LOCAL = e.IBV_ACCESS_LOCAL_WRITE
INVALID = e.IBV_WC_REM_INV_REQ_ERR
OPERATION = e.IBV_WC_LOC_QP_OP_ERR
ACCESS = e.IBV_WC_REM_ACCESS_ERR


@pytest.mark.parametrize("access", [e.IBV_ACCESS_REMOTE_WRITE, e.IBV_ACCESS_REMOTE_ATOMIC])
def test_r30_remote_write_needs_local_write(rig: Rig, access: int) -> None:
    refused(errno.EINVAL, MR, rig.left.pd, 4096, access)
    refused(errno.EINVAL, MR, rig.left.pd, 4096, access | e.IBV_ACCESS_REMOTE_READ)
    MR(rig.left.pd, 4096, access | LOCAL)


def _rkey(end: Rig, target: MR, operation: str) -> dict[str, int]:
    return {"rkey": target.rkey + 1}


def _deregistered(rig: Rig, target: MR, operation: str) -> dict[str, int]:
    target.close()
    return {"rkey": target.rkey}


def _before(rig: Rig, target: MR, operation: str) -> dict[str, int]:
    return {"remote_offset": -1}


def _beyond(rig: Rig, target: MR, operation: str) -> dict[str, int]:
    return {"remote_offset": target.length - 63}


@pytest.mark.parametrize("operation", ["write", "write_imm", "read"])
@pytest.mark.parametrize("fault", [_rkey, _deregistered, _before, _beyond])
def test_r31_bad_key_or_range_is_rem_access_err(
    rig: Rig, operation: str, fault: Callable[[Rig, MR, str], dict[str, int]]
) -> None:
    left, right = rig.left, rig.right
    target = right.buffer(4096)
    target_rkey = target.rkey
    right.recv(right.buffer(64))
    arguments = {"rkey": target_rkey, **fault(rig, target, operation)}

    class Remote:
        buf = target.buf
        rkey = target_rkey

    getattr(left, operation)(left.buffer(64), Remote, **arguments)
    assert left.wait_one().status == ACCESS
    assert left.state() == e.IBV_QPS_ERR
    assert right.next_event() == e.IBV_EVENT_QP_ACCESS_ERR
    assert right.state() == e.IBV_QPS_ERR


@pytest.mark.parametrize("operation", ["write", "read"])
def test_r31_the_queue_pairs_rights_count(profile: Profile, operation: str) -> None:
    rig = Rig(profile, connected=False)
    left, right = rig.left, rig.right
    forbidden = e.IBV_ACCESS_REMOTE_WRITE if operation == "write" else e.IBV_ACCESS_REMOTE_READ
    left.qp.to_rts(attributes(left, right))
    right.qp.to_rts(attributes(right, left, qp_access_flags=ALL_ACCESS & ~forbidden))
    getattr(left, operation)(left.buffer(64), right.buffer(64))
    assert left.wait_one().status == INVALID
    assert right.next_event() == e.IBV_EVENT_QP_REQ_ERR


def test_r31_a_key_is_never_good_again(rig: Rig) -> None:
    right = rig.right
    keys = set()
    for _ in range(50):
        mr = right.buffer(64)
        assert mr.rkey not in keys
        keys.add(mr.rkey)
        mr.close()


def test_r31_memory_before_the_bad_write_is_placed_and_nothing_after(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, target = left.buffer(64), right.buffer(256)
    mr.write(b"data", 4)
    left.write(mr, target, 4)
    left.write(mr, target, 4, remote_offset=300)
    left.write(mr, target, 4, remote_offset=100)
    left.wait(3)
    assert target.read(4, 0) == b"data"
    assert target.read(4, 100) == bytes(4)


@pytest.mark.parametrize("operation", ["write", "read", "send"])
def test_r32_locally_too(rig: Rig, operation: str) -> None:
    left, right = rig.left, rig.right
    foreign = left.buffer(64, pd=PD(left.context))
    arguments = [] if operation == "send" else [right.buffer(64)]
    getattr(left, operation)(foreign, *arguments)
    bad_key = e.IBV_WC_LOC_PROT_ERR if operation == "read" else as_rxe(rig, e.IBV_WC_LOC_PROT_ERR, OPERATION)
    assert left.wait_one().status == bad_key


@pytest.mark.parametrize("operation", ["write", "read", "send"])
@pytest.mark.parametrize("fault", ["key", "range", "deregistered"])
def test_r33_a_bad_lkey_is_loc_prot_err(rig: Rig, operation: str, fault: str) -> None:
    left, right = rig.left, rig.right
    mr = left.buffer(4096)
    good = left.buffer(4096)
    element = {
        "key": SGE(mr.buf, 64, mr.lkey + 1),
        "range": SGE(mr.buf + 4090, 64, mr.lkey),
        "deregistered": SGE(mr.buf, 64, mr.lkey),
    }[fault]
    if fault == "deregistered":
        mr.close()
    arguments = [] if operation == "send" else [right.buffer(64)]
    left.write(good, right.buffer(4096), wr_id=1)
    getattr(left, operation)(good, *arguments, wr_id=2, sg=[element])
    before, failed = left.wait(2)
    assert (before.wr_id, before.status) == (1, e.IBV_WC_SUCCESS)
    bad_key = operation != "read" and fault != "range"
    expected = as_rxe(rig, e.IBV_WC_LOC_PROT_ERR, OPERATION) if bad_key else e.IBV_WC_LOC_PROT_ERR
    assert (failed.wr_id, failed.status) == (2, expected)
    assert left.state() == e.IBV_QPS_ERR


def test_r33_sending_from_memory_not_open_for_writing_is_fine(rig: Rig) -> None:
    left, right = rig.left, rig.right
    left.write(left.buffer(64, 0), right.buffer(64))
    assert left.wait_one().status == e.IBV_WC_SUCCESS


@pytest.mark.parametrize("fault", ["key", "access"])
def test_r33_a_bad_receive_buffer_is_rem_op_err_at_the_sender(rig: Rig, fault: str) -> None:
    left, right = rig.left, rig.right
    mr = right.buffer(64, 0 if fault == "access" else ALL_ACCESS)
    lkey = mr.lkey + 1 if fault == "key" else mr.lkey
    right.qp.post_recv(RecvWR(5, 1, [SGE(mr.buf, 64, lkey)]))
    left.send(left.buffer(64))
    assert left.wait_one().status == e.IBV_WC_REM_OP_ERR
    received = right.wait_one()
    assert (received.wr_id, received.status) == (5, as_rxe(rig, e.IBV_WC_LOC_PROT_ERR, OPERATION))
    assert right.state() == e.IBV_QPS_ERR


def test_r33_a_message_longer_than_the_receive_is_an_error_on_both_ends(rig: Rig) -> None:
    left, right = rig.left, rig.right
    right.recv(right.buffer(64), 63)
    left.send(left.buffer(64))
    assert left.wait_one().status == as_rxe(rig, INVALID, e.IBV_WC_REM_OP_ERR)
    assert right.wait_one().status == as_rxe(rig, e.IBV_WC_LOC_LEN_ERR, OPERATION)


def test_a_region_over_memory_of_the_hosts(rig: Rig) -> None:
    memory = rig.devices[0].host.memory
    segment = ByteSegment(1 << 20)
    address = memory.map(segment, 1 << 20)
    mr = MR(rig.left.pd, 8192, ALL_ACCESS, address + 4096)
    assert mr.buf == address + 4096
    mr.write(b"there", 5, 10)
    assert segment.data[4096 + 10 : 4096 + 15] == b"there"
    refused(errno.EFAULT, MR, rig.left.pd, 8192, ALL_ACCESS, address + (1 << 20) - 8191)
    refused(errno.EFAULT, MR, rig.left.pd, 8192, ALL_ACCESS, 4096)
    refused(errno.EINVAL, MR, rig.left.pd, 0, ALL_ACCESS, address)
    mr.close()
    assert memory.find(address, 1) is not None  # it was not the region's own


def test_a_read_brings_the_peers_memory(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, source = left.buffer(70_000), right.buffer(70_000)
    data = write_pattern(source)
    left.read(mr, source, sg=[sge(mr, 33), sge(mr, 69_000, 1_000)])
    assert left.wait_one().byte_len == 69_033
    assert mr.read(33, 0) + mr.read(69_000, 1_000) == data[:69_033]
