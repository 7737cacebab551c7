"""R38 to R44 on simulated and real devices: retries and packet numbers, as far as they show without a clock."""

import pytest

from simmig.verbs.sim import enums as e
from tests.verbs.ends import World, write_pattern

OK = e.IBV_WC_SUCCESS


def test_r38_a_peer_whose_queue_pair_is_gone_does_not_answer(world: World) -> None:
    left, right = world.pair(timeout=12, retry_cnt=2)
    target = right.buffer(500)
    right.qp.close()
    left.write(left.buffer(500), target)
    assert left.wait_one().status == e.IBV_WC_RETRY_EXC_ERR
    left.wait_for_state(e.IBV_QPS_ERR)


def test_r38_retry_cnt_seven_is_finite(world: World) -> None:
    left, right = world.pair(connected=False)
    left.qp.to_rts(world.attributes(left, right, timeout=10, retry_cnt=7))
    mr, target = left.buffer(500), right.buffer(500)
    if world.deviates("retry-seven-is-infinite"):
        left.write(mr, target)
        for _ in range(12):  # of 4.2 ms each
            left.world.pause(world.deadline(), "the time-outs")
        right.qp.to_rts(world.attributes(right, left))
        assert left.wait_one().status == OK
    else:
        left.write(mr, target)
        assert left.wait_one().status == e.IBV_WC_RETRY_EXC_ERR


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_r39_rnr_retries_used_up(world: World, retries: int) -> None:
    left, right = world.pair(rnr_retry=retries)
    left.send(left.buffer(500))
    assert left.wait_one().status == e.IBV_WC_RNR_RETRY_EXC_ERR
    left.wait_for_state(e.IBV_QPS_ERR)
    assert right.state() == e.IBV_QPS_RTS


@pytest.mark.parametrize("operation", ["send", "write_imm"])
def test_r39_rnr_retry_seven_waits_for_a_receive(world: World, operation: str) -> None:
    left, right = world.pair(rnr_retry=7)
    mr, target = left.buffer(500), right.buffer(500)
    getattr(left, operation)(mr, *([] if operation == "send" else [target]), wr_id=2)
    left.write(mr, target, wr_id=3)
    for _ in range(50):
        world.pause(world.deadline(), "an answer")
    assert left.cq.poll(1)[0] == 0
    right.recv(right.buffer(500))
    assert [(wc.wr_id, wc.status) for wc in left.wait(2)] == [(2, OK), (3, OK)]


def test_r43_packet_numbers_wrap(world: World) -> None:
    first = 0xFFFFFF - 20
    left, right = world.pair(sq_psn=first, rq_psn=first)
    mr, target = left.buffer(10_000), right.buffer(10_000)
    data = write_pattern(mr)
    for wr_id in range(6):
        left.write(mr, target, wr_id=wr_id)
    assert [(wc.wr_id, wc.status) for wc in left.wait(6)] == [(wr_id, OK) for wr_id in range(6)]
    assert target.read(10_000, 0) == data


@pytest.mark.parametrize("difference", [-1000, 1000])
def test_r43_ends_that_disagree_do_not_hear_each_other(world: World, difference: int) -> None:
    left, right = world.pair(connected=False)
    left.qp.to_rts(world.attributes(left, right, sq_psn=5000, timeout=12, retry_cnt=2))
    right.qp.to_rts(world.attributes(right, left, rq_psn=5000 + difference))
    left.write(left.buffer(500), right.buffer(500))
    assert left.wait_one().status == e.IBV_WC_RETRY_EXC_ERR


def test_r44_more_reads_than_may_be_outstanding_wait_their_turn(world: World) -> None:
    left, right = world.pair(max_rd_atomic=1, max_dest_rd_atomic=1)
    mr, source = left.buffer(4096), right.buffer(4096)
    data = write_pattern(source)
    for wr_id in range(8):
        left.read(mr, source, wr_id=wr_id)
    assert [(wc.wr_id, wc.status) for wc in left.wait(8)] == [(wr_id, OK) for wr_id in range(8)]
    assert mr.read(4096, 0) == data
