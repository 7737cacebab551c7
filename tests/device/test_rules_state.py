"""R1 to R6 on simulated and real devices: the states of a queue pair."""

import errno
import importlib

import pytest

from simmig.verbs.rdma.binding import Binding
from simmig.verbs.sim import enums as e
from tests.verbs.ends import End, World, refused

STATE = e.IBV_QP_STATE
INIT = STATE | e.IBV_QP_PKEY_INDEX | e.IBV_QP_PORT | e.IBV_QP_ACCESS_FLAGS
RTR = (
    STATE
    | e.IBV_QP_AV
    | e.IBV_QP_PATH_MTU
    | e.IBV_QP_DEST_QPN
    | e.IBV_QP_RQ_PSN
    | e.IBV_QP_MAX_DEST_RD_ATOMIC
    | e.IBV_QP_MIN_RNR_TIMER
)
RTS = (
    STATE
    | e.IBV_QP_SQ_PSN
    | e.IBV_QP_MAX_QP_RD_ATOMIC
    | e.IBV_QP_RETRY_CNT
    | e.IBV_QP_RNR_RETRY
    | e.IBV_QP_TIMEOUT
)
STEPS = ((e.IBV_QPS_INIT, INIT), (e.IBV_QPS_RTR, RTR), (e.IBV_QPS_RTS, RTS))


def step(world: World, ends: tuple[End, End], state: int, mask: int) -> None:
    attr = world.attributes(*ends)
    attr.qp_state = state
    ends[0].qp.modify(attr, mask)


def test_constants_are_the_same_numbers(verbs: Binding) -> None:
    """What lets one test speak to both worlds."""
    real = vars(importlib.import_module(verbs.enums.__name__))
    compared = 0
    for name, value in vars(e).items():
        if name.startswith("IBV_") and name in real:
            assert int(value) == int(real[name]), name
            compared += 1
    assert compared > 100


def test_r1_states_are_passed_in_order(world: World) -> None:
    ends = world.pair(connected=False)
    assert ends[0].state() == e.IBV_QPS_RESET
    for state, mask in STEPS:
        step(world, ends, state, mask)
        assert ends[0].state() == state


@pytest.mark.parametrize(("done", "target"), [(0, 1), (0, 2), (1, 2)])
def test_r1_skipping_a_state_is_einval(world: World, done: int, target: int) -> None:
    ends = world.pair(connected=False)
    for state, mask in STEPS[:done]:
        step(world, ends, state, mask)
    before = ends[0].state()
    refused(world, errno.EINVAL, step, world, ends, *STEPS[target])
    assert ends[0].state() == before


@pytest.mark.parametrize("index", [0, 1, 2])
def test_r2_every_required_attribute_is_required(world: World, index: int) -> None:
    ends = world.pair(connected=False)
    for state, mask in STEPS[:index]:
        step(world, ends, state, mask)
    state, mask = STEPS[index]
    before = ends[0].state()
    for bit in range(21):
        if mask & 1 << bit and 1 << bit != STATE:
            refused(world, errno.EINVAL, step, world, ends, state, mask & ~(1 << bit))
            assert ends[0].state() == before
    step(world, ends, state, mask)


def test_r3_a_failed_modify_changes_nothing(world: World) -> None:
    ends = world.pair(connected=False)
    step(world, ends, *STEPS[0])
    attr = world.attributes(*ends, dest_qp_num=99, path_mtu=6)
    attr.qp_state = e.IBV_QPS_RTR
    refused(world, errno.EINVAL, ends[0].qp.modify, attr, RTR)
    after = ends[0].qp.query(STATE)[0]
    assert after.qp_state == e.IBV_QPS_INIT
    assert after.dest_qp_num == 0


def test_r3_more_reads_than_the_device_has_are_refused(world: World) -> None:
    ends = world.pair(connected=False)
    step(world, ends, *STEPS[0])
    attr = world.attributes(*ends, max_dest_rd_atomic=255)
    attr.qp_state = e.IBV_QPS_RTR
    if world.deviates("any-number-of-incoming-reads"):
        ends[0].qp.modify(attr, RTR)
    else:
        refused(world, errno.EINVAL, ends[0].qp.modify, attr, RTR)


def test_r3_an_attribute_that_has_no_place_there_is_refused(world: World) -> None:
    ends = world.pair(connected=False)
    refused(world, errno.EINVAL, step, world, ends, e.IBV_QPS_INIT, INIT | e.IBV_QP_TIMEOUT)
    assert ends[0].state() == e.IBV_QPS_RESET


def test_r4_err_can_be_entered_from_reset(world: World) -> None:
    left = world.end(0)
    if world.deviates("no-way-from-reset-to-err"):
        refused(world, errno.EINVAL, left.modify_to, e.IBV_QPS_ERR)
    else:
        left.modify_to(e.IBV_QPS_ERR)
        assert left.state() == e.IBV_QPS_ERR


@pytest.mark.parametrize(
    ("done", "state"),
    [(0, e.IBV_QPS_RESET), *((done, state) for done in (1, 2, 3) for state in (e.IBV_QPS_RESET, e.IBV_QPS_ERR))],
)
def test_r4_reset_and_err_can_be_entered_from_any_state(world: World, done: int, state: int) -> None:
    ends = world.pair(connected=False)
    for target, mask in STEPS[:done]:
        step(world, ends, target, mask)
    ends[0].modify_to(state)
    assert ends[0].state() == state
    ends[0].modify_to(e.IBV_QPS_RESET)
    assert ends[0].state() == e.IBV_QPS_RESET


def test_r4_a_queue_pair_works_again_after_reset(world: World) -> None:
    left, right = world.pair()
    mr, target = left.buffer(3000), right.buffer(3000)
    left.write(mr, target)
    left.wait_one()
    for end in (left, right):
        end.modify_to(e.IBV_QPS_RESET)
    world.connect(left, right, sq_psn=77, rq_psn=77)
    mr.write(b"again", 5)
    left.write(mr, target, wr_id=5)
    assert left.wait_one().wr_id == 5
    assert target.read(5, 0) == b"again"


def test_r5_receives_are_posted_from_init_on(world: World) -> None:
    ends = world.pair(connected=False)
    wr = ends[0].recv_wr(ends[0].buffer(64))
    refused(world, errno.EINVAL, ends[0].qp.post_recv, wr)
    for state, mask in STEPS:
        step(world, ends, state, mask)
        ends[0].qp.post_recv(wr)


def test_r5_a_receive_posted_in_init_takes_the_first_message(world: World) -> None:
    left, right = world.pair(connected=False)
    right.qp.to_init(world.attributes(right, left))
    inbox = right.buffer(64)
    right.recv(inbox, wr_id=3)
    world.connect(left, right)
    mr = left.buffer(64)
    mr.write(b"first", 5)
    left.send(mr)
    assert right.wait_one().wr_id == 3
    assert inbox.read(5, 0) == b"first"


def test_r6_sends_are_refused_before_rts(world: World) -> None:
    ends = world.pair(connected=False)
    wr = ends[0].wr(e.IBV_WR_SEND, ends[0].buffer(64))
    for state, mask in STEPS:
        refused(world, errno.EINVAL, ends[0].qp.post_send, wr)
        step(world, ends, state, mask)
    ends[0].qp.post_send(wr)
