"""R16 to R29 on simulated and real devices: completions, completion queues, notification."""

import pytest

from simmig.verbs.sim import enums as e
from tests.verbs.ends import World, write_pattern

OK = e.IBV_WC_SUCCESS
FLUSHED = e.IBV_WC_WR_FLUSH_ERR
SOLICITED = e.IBV_SEND_SIGNALED | e.IBV_SEND_SOLICITED


def test_r16_send_completions_come_in_posting_order(world: World) -> None:
    left, right = world.pair()
    mr, target, inbox = left.buffer(1 << 16), right.buffer(1 << 16), right.buffer(64)
    for wr_id in range(12):
        right.recv(inbox)
        kind = wr_id % 4
        if kind == 0:
            left.write(mr, target, wr_id=wr_id)
        elif kind == 1:
            left.send(mr, 8, wr_id=wr_id)
        elif kind == 2:
            left.read(mr, target, 30_000, wr_id=wr_id)
        else:
            left.write_imm(mr, target, 5, wr_id=wr_id)
    completions = left.wait(12)
    assert [wc.wr_id for wc in completions] == list(range(12))
    assert {wc.status for wc in completions} == {OK}
    kinds = [e.IBV_WC_RDMA_WRITE, e.IBV_WC_SEND, e.IBV_WC_RDMA_READ, e.IBV_WC_RDMA_WRITE]
    assert [wc.opcode for wc in completions] == kinds * 3


def test_r17_on_failure_id_status_and_queue_pair_count(world: World) -> None:
    left, right = world.pair()
    target = right.buffer(64)
    left.write(left.buffer(64), target, wr_id=0xABCD, rkey=target.rkey ^ 0xFF)
    failed = left.wait_one()
    assert (failed.wr_id, failed.status, failed.qp_num) == (0xABCD, e.IBV_WC_REM_ACCESS_ERR, left.qp.qp_num)


def test_r18_the_first_error_gives_its_status_and_flushes_the_rest(world: World) -> None:
    left, right = world.pair()
    mr, target, inbox = left.buffer(64), right.buffer(64), left.buffer(64)
    left.recv(inbox, wr_id=100)
    left.recv(inbox, wr_id=101)
    left.write(mr, target, wr_id=1)
    left.write(mr, target, wr_id=2, rkey=target.rkey ^ 0xFF)
    for wr_id in range(3, 6):
        left.write(mr, target, wr_id=wr_id)
    completions = left.wait(7)
    sends = [(wc.wr_id, wc.status) for wc in completions if wc.wr_id < 100]
    receives = [(wc.wr_id, wc.status) for wc in completions if wc.wr_id >= 100]
    assert sends == [(1, OK), (2, e.IBV_WC_REM_ACCESS_ERR), (3, FLUSHED), (4, FLUSHED), (5, FLUSHED)]
    assert receives == [(100, FLUSHED), (101, FLUSHED)]
    left.wait_for_state(e.IBV_QPS_ERR)
    assert left.poll_all() == []


def test_r18_moving_to_err_flushes_all_that_is_outstanding(world: World) -> None:
    left, right = world.pair(connected=False)
    left.qp.to_rts(world.attributes(left, right, timeout=0))  # nobody answers at the right
    mr, target = left.buffer(64), right.buffer(64)
    left.recv(mr, wr_id=50)
    for wr_id in range(5):
        left.write(mr, target, wr_id=wr_id, flags=e.IBV_SEND_SIGNALED if wr_id % 2 else 0)
    left.modify_to(e.IBV_QPS_ERR)
    completions = left.wait(6)
    assert sorted(wc.wr_id for wc in completions) == [0, 1, 2, 3, 4, 50]
    assert [wc.wr_id for wc in completions if wc.wr_id != 50] == [0, 1, 2, 3, 4]
    assert {wc.status for wc in completions} == {FLUSHED}
    assert left.poll_all() == []


def test_r19_sends_posted_in_err_are_flushed(world: World) -> None:
    left, right = world.pair()
    mr, target = left.buffer(64), right.buffer(64)
    left.modify_to(e.IBV_QPS_ERR)
    left.write(mr, target, wr_id=1)
    left.send(mr, wr_id=2, flags=0)
    assert [(wc.wr_id, wc.status) for wc in left.wait(2)] == [(1, FLUSHED), (2, FLUSHED)]


def test_r19_receives_posted_in_err_are_flushed(world: World) -> None:
    left, _ = world.pair()
    mr = left.buffer(64)
    left.modify_to(e.IBV_QPS_ERR)
    world.rest()  # what is posted while the device still flushes may be flushed with the rest
    left.recv(mr, wr_id=3)
    if world.deviates("receives-posted-in-err-stay"):
        world.rest()
        assert left.poll_all() == []
    else:
        assert [(wc.wr_id, wc.status) for wc in left.wait(1)] == [(3, FLUSHED)]


def test_r21_reset_drops_the_queue_pairs_completions(world: World) -> None:
    left, right = world.pair()
    mr, target, inbox = left.buffer(64), right.buffer(64), right.buffer(64)
    right.recv(inbox)
    left.write(mr, target, wr_id=1)
    left.send(mr, wr_id=2)
    right.wait_one()  # both have arrived
    world.rest()
    left.modify_to(e.IBV_QPS_RESET)
    kept = [1, 2] if world.deviates("reset-keeps-completions") else []
    assert [wc.wr_id for wc in left.poll_all()] == kept


def test_r22_a_write_completes_when_placed_and_nobody_is_told(world: World) -> None:
    left, right = world.pair()
    mr, target, inbox = left.buffer(5000), right.buffer(5000), right.buffer(64)
    data = write_pattern(mr)
    right.recv(inbox)
    left.write(mr, target)
    left.wait_one()
    assert target.read(5000, 0) == data
    assert right.poll_all() == []  # the receive is still there
    left.send(mr, 8)
    right.wait_one()


def test_r22_write_with_immediate_takes_a_receive(world: World) -> None:
    left, right = world.pair()
    mr, target, inbox = left.buffer(5000), right.buffer(5000), right.buffer(64)
    data = write_pattern(mr)
    right.recv(inbox, wr_id=4)
    left.write_imm(mr, target, imm=0xCAFE)
    received = right.wait_one()
    assert (received.wr_id, received.opcode) == (4, e.IBV_WC_RECV_RDMA_WITH_IMM)
    assert (received.imm_data, received.byte_len) == (0xCAFE, 5000)
    assert received.wc_flags & e.IBV_WC_WITH_IMM
    assert target.read(5000, 0) == data
    assert inbox.read(64, 0) == bytes(64)
    assert left.wait_one().status == OK


def test_r22_send_with_immediate(world: World) -> None:
    left, right = world.pair()
    mr = left.buffer(64)
    right.recv(right.buffer(64))
    left.qp.post_send(left.wr(e.IBV_WR_SEND_WITH_IMM, mr, None, 10, imm=77))
    received = right.wait_one()
    assert (received.opcode, received.imm_data, received.byte_len) == (e.IBV_WC_RECV, 77, 10)
    assert received.wc_flags & e.IBV_WC_WITH_IMM


@pytest.mark.parametrize("asked", [1, 2, 7, 8, 100, 1536])
def test_r23_depth_is_at_least_as_asked(world: World, asked: int) -> None:
    assert world.end(0, depth=asked).cq.cqe >= asked


def test_r24_a_full_queue_is_an_error(world: World) -> None:
    """rxe loses the completion and goes on."""
    left, right = world.pair(depth=3)
    mr, target, inbox = left.buffer(64), right.buffer(64), right.buffer(64)
    for wr_id in range(5):
        left.write(mr, target, wr_id=wr_id)
    right.recv(inbox)
    if world.deviates("overrun-loses-completions"):
        left.send(mr, wr_id=5)
        right.wait_one()  # all five writes have been carried out
        assert [wc.wr_id for wc in left.poll_all()] == [0, 1, 2]
        left.write(mr, target, wr_id=9)
        assert left.wait_one().wr_id == 9
        assert left.state() == e.IBV_QPS_RTS
    else:
        left.wait_for_state(e.IBV_QPS_ERR)


def test_r26_req_notify_is_one_shot(world: World) -> None:
    left, right = world.pair()
    mr, target = left.buffer(64), right.buffer(64)
    left.cq.req_notify()
    for _ in range(3):
        left.write(mr, target)
    left.wait(3)
    assert left.world.event(left)
    assert not world.event(left)
    left.write(mr, target)
    left.wait_one()
    assert not world.event(left)


def test_r26_it_covers_only_completions_added_after_it(world: World) -> None:
    left, right = world.pair()
    mr, target = left.buffer(64), right.buffer(64)
    left.write(mr, target)
    world.rest()
    left.cq.req_notify()  # too late for that one
    assert not world.event(left)
    left.write(mr, target)
    left.wait(2)
    assert world.event(left)


def test_r28_solicited_only_fires_for_solicited_receives(world: World) -> None:
    left, right = world.pair()
    mr, inbox, target = right.buffer(64), left.buffer(64), left.buffer(64)
    for _ in range(3):
        left.recv(inbox)
    left.cq.req_notify(True)
    right.send(mr)
    right.write(mr, target, flags=SOLICITED)
    left.write(inbox, right.buffer(64), flags=SOLICITED)
    left.wait(2)
    assert not world.event(left)
    right.send(mr, flags=SOLICITED)
    left.wait_one()
    assert world.event(left)


def test_r28_solicited_only_fires_for_errors(world: World) -> None:
    left, right = world.pair()
    target = right.buffer(64)
    left.cq.req_notify(True)
    left.write(left.buffer(64), target, rkey=target.rkey ^ 0xFF)
    assert left.wait_one().status == e.IBV_WC_REM_ACCESS_ERR
    assert world.event(left) is not world.deviates("solicited-only-misses-errors")


@pytest.mark.parametrize(("first", "then"), [(True, False), (False, True)])
def test_r29_rearming_upgrades_and_never_downgrades(world: World, first: bool, then: bool) -> None:
    left, right = world.pair()
    left.cq.req_notify(first)
    left.cq.req_notify(then)
    left.write(left.buffer(64), right.buffer(64))
    left.wait_one()
    assert world.event(left)
