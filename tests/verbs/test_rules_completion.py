"""R16 to R22: completions."""

from __future__ import annotations

import pytest

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.link import LinkSpec
from simmig.verbs.sim.profiles import Profile
from simmig.verbs.sim.qp import QPAttr, QPCap
from tests.verbs.rig import SPEC, Rig, as_rxe, write_pattern

OK = e.IBV_WC_SUCCESS
FLUSHED = e.IBV_WC_WR_FLUSH_ERR
SIGNALED = e.IBV_SEND_SIGNALED


def test_r16_a_write_behind_a_read_completes_behind_it(rig: Rig) -> None:
    """Its acknowledgement is short, the read's data long: they must not overtake one another."""
    left, right = rig.left, rig.right
    mr, target = left.buffer(1 << 20), right.buffer(1 << 20)
    data = write_pattern(target)
    left.read(mr, target, wr_id=1)
    for wr_id in range(2, 6):
        left.write(mr, target, 1, wr_id=wr_id, flags=SIGNALED)
    assert [wc.wr_id for wc in left.wait(5)] == [1, 2, 3, 4, 5]
    assert mr.read(1 << 20, 0) == data


def test_r16_sends_and_receives_of_one_cq_come_as_they_complete(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, inbox, target = left.buffer(1 << 20), left.buffer(64), right.buffer(1 << 20)
    left.recv(inbox, wr_id=1)
    left.write(mr, target, wr_id=2)
    right.send(right.buffer(64), 8)
    assert [wc.wr_id for wc in left.wait(2)] == [1, 2]


def test_r17_on_failure_only_four_fields_count(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, target = left.buffer(64), right.buffer(64)
    left.write(mr, target, wr_id=0xABCD, rkey=target.rkey + 1)
    failed = left.wait_one()
    assert (failed.wr_id, failed.status, failed.qp_num) == (0xABCD, e.IBV_WC_REM_ACCESS_ERR, left.qp.qp_num)
    assert failed.vendor_err == 0


def test_r18_moving_to_err_flushes_all_that_is_outstanding(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, target = left.buffer(1 << 20), right.buffer(1 << 20)
    left.recv(mr, wr_id=50)
    for wr_id in range(5):
        left.write(mr, target, wr_id=wr_id, flags=SIGNALED if wr_id % 2 else 0)
    rig.sim.run_to(rig.sim.now + 500_000)  # the first is on its way
    left.qp.modify(QPAttr(qp_state=e.IBV_QPS_ERR), e.IBV_QP_STATE)
    completions = left.poll_all()
    assert [wc.wr_id for wc in completions] == [0, 1, 2, 3, 4, 50]
    assert {wc.status for wc in completions} == {FLUSHED}
    rig.sim.run()
    assert left.poll_all() == []


def test_r18_the_state_that_the_process_knows_is_the_one_it_asked_for(rig: Rig) -> None:
    left, right = rig.left, rig.right
    left.write(left.buffer(64), right.buffer(64), rkey=1)
    left.wait_one()
    assert left.qp.qp_state == e.IBV_QPS_RTS  # nobody told it; libibverbs caches
    assert left.state() == e.IBV_QPS_ERR
    assert left.qp.qp_state == e.IBV_QPS_ERR


def test_r19_posting_in_err_succeeds_and_flushes(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, target = left.buffer(64), right.buffer(64)
    left.qp.modify(QPAttr(qp_state=e.IBV_QPS_ERR), e.IBV_QP_STATE)
    left.write(mr, target, wr_id=1)
    left.send(mr, wr_id=2, flags=0)
    left.recv(mr, wr_id=3)
    flushed = [(1, FLUSHED), (2, FLUSHED), (3, FLUSHED)]
    assert [(wc.wr_id, wc.status) for wc in left.poll_all()] == flushed[: as_rxe(rig, 3, 2)]


def test_r21_reset_drops_the_queue_pairs_completions_except_on_rxe(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, target = left.buffer(64), right.buffer(64)
    left.write(mr, target, wr_id=1)
    left.write(mr, target, wr_id=2)
    rig.sim.run()
    left.qp.modify(QPAttr(qp_state=e.IBV_QPS_RESET), e.IBV_QP_STATE)
    kept = [1, 2] if rig.profile.name == "rxe" else []
    assert [wc.wr_id for wc in left.poll_all()] == kept


def test_r21_reset_leaves_other_queue_pairs_completions(rig: Rig) -> None:
    left, right = rig.left, rig.right
    one, other = rig.end(0), rig.end(1)
    rig.connect(one, other)
    left.write(left.buffer(64), right.buffer(64), wr_id=1)
    one.write(one.buffer(64), other.buffer(64), wr_id=2)
    rig.sim.run()
    left.qp.modify(QPAttr(qp_state=e.IBV_QPS_RESET), e.IBV_QP_STATE)
    assert [wc.wr_id for wc in one.poll_all()] == [2]


def test_r22_each_write_with_immediate_takes_a_receive_of_its_own(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, target, inbox = left.buffer(64), right.buffer(64), right.buffer(64)
    for wr_id in (4, 5):
        right.recv(inbox, wr_id=wr_id)
        left.write_imm(mr, target)
    assert [wc.wr_id for wc in right.wait(2)] == [4, 5]


def test_r22_send_with_immediate_and_without(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, inbox = left.buffer(64), right.buffer(64)
    for _ in range(2):
        right.recv(inbox)
    left.send(mr, 10, imm=77)
    left.send(mr, 11)
    one, other = right.wait(2)
    assert (one.opcode, one.imm_data, one.byte_len) == (e.IBV_WC_RECV, 77, 10)
    assert one.wc_flags & e.IBV_WC_WITH_IMM
    assert (other.imm_data, other.wc_flags, other.byte_len) == (0, 0, 11)


@pytest.mark.parametrize("depth", [1, 2, 40])
def test_r22_at_no_moment_is_a_write_complete_and_not_placed(profile: Profile, depth: int) -> None:
    """Looked at after every single event, for a single write and for a deep queue."""
    rig = Rig(profile, spec=LinkSpec(8_000_000_000, 3_000, 1024, 0), cap=QPCap(64, 1, 1, 1, 0))
    left, right, env = rig.left, rig.right, rig.sim.env
    size = 8192
    mr, target = left.buffer(size * depth), right.buffer(size * depth)
    data = write_pattern(mr)
    for index in range(depth):
        wr_mr = left.buffer(size)
        wr_mr.write(data[index * size :], size)
        left.write(wr_mr, target, wr_id=index, remote_offset=index * size)
    done = placed_early = 0
    while env.peek() < float("inf"):
        env.step()
        done += len(left.poll_all())
        placed = target.read(size * depth, 0)
        assert placed[: done * size] == data[: done * size]
        placed_early += placed[done * size : (done + 1) * size] == data[done * size : (done + 1) * size]
    assert done == depth
    assert placed_early  # placement comes before the completion, by the latency of the way back


def test_r22_timing_of_one_write(profile: Profile) -> None:
    rig = Rig(profile, spec=SPEC)
    mr, target = rig.left.buffer(10_000), rig.right.buffer(10_000)
    mr.write(b"x", 1)
    rig.left.write(mr, target)
    rig.sim.run_to(10_000 + 1_000)  # a byte a nanosecond, and the latency; what happens then has not happened yet
    assert target.read(1, 0) == b"\0"
    rig.sim.run_to(10_000 + 1_000 + 1)
    assert target.read(1, 0) == b"x"
    assert rig.left.poll_all() == []
    rig.left.wait_one()
    assert rig.sim.now == 10_000 + 2 * 1_000
