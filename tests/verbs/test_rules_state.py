"""R1 to R7: the states of a queue pair."""

from __future__ import annotations

import errno

import pytest

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.profiles import Profile
from simmig.verbs.sim.qp import QPAttr
from tests.verbs.rig import Rig, attributes, drain_with_notice, recv_wr, refused, send_wr

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


def step(rig: Rig, state: int, mask: int) -> None:
    attr = attributes(rig.left, rig.right)
    attr.qp_state = state
    rig.left.qp.modify(attr, mask)


@pytest.fixture
def fresh(profile: Profile) -> Rig:
    return Rig(profile, connected=False)


def test_r1_states_are_passed_in_order(fresh: Rig) -> None:
    assert fresh.left.state() == e.IBV_QPS_RESET
    for state, mask in STEPS:
        step(fresh, state, mask)
        assert fresh.left.state() == state


@pytest.mark.parametrize("done", [0, 1, 2])
@pytest.mark.parametrize("target", [0, 1, 2])
def test_r1_skipping_a_state_is_einval(fresh: Rig, done: int, target: int) -> None:
    for state, mask in STEPS[:done]:
        step(fresh, state, mask)
    before = fresh.left.state()
    if target > done:
        refused(errno.EINVAL, step, fresh, *STEPS[target])
        assert fresh.left.state() == before
    elif target == done:
        step(fresh, *STEPS[target])
    elif STEPS[target][0] != e.IBV_QPS_INIT or done > 1:  # INIT to INIT is allowed
        refused(errno.EINVAL, step, fresh, *STEPS[target])


@pytest.mark.parametrize("index", [0, 1, 2])
def test_r2_every_required_attribute_is_required(fresh: Rig, index: int) -> None:
    for state, mask in STEPS[:index]:
        step(fresh, state, mask)
    state, mask = STEPS[index]
    before = fresh.left.state()
    for bit in range(21):
        if mask & 1 << bit and 1 << bit != STATE:
            refused(errno.EINVAL, step, fresh, state, mask & ~(1 << bit))
            assert fresh.left.state() == before
    step(fresh, state, mask)


@pytest.mark.parametrize(
    ("name", "value"),
    [("path_mtu", e.IBV_MTU_2048), ("path_mtu", 6), ("max_dest_rd_atomic", 255), ("min_rnr_timer", 32)],
)
def test_r3_a_failed_modify_changes_nothing(fresh: Rig, name: str, value: int) -> None:
    step(fresh, *STEPS[0])
    before = fresh.left.qp.query(STATE)[0]
    attr = attributes(fresh.left, fresh.right, **{name: value}, dest_qp_num=99)
    attr.qp_state = e.IBV_QPS_RTR
    if name == "max_dest_rd_atomic" and fresh.profile.name == "rxe":  # which takes any number
        fresh.left.qp.modify(attr, RTR)
        return
    refused(errno.EINVAL, fresh.left.qp.modify, attr, RTR)
    after = fresh.left.qp.query(STATE)[0]
    assert after.qp_state == e.IBV_QPS_INIT
    assert after.dest_qp_num == before.dest_qp_num == 0
    assert getattr(after, name) == getattr(before, name)
    assert fresh.left.qp.qp_state == e.IBV_QPS_INIT


def test_r3_an_attribute_that_has_no_place_there_is_refused(fresh: Rig) -> None:
    refused(errno.EINVAL, step, fresh, e.IBV_QPS_INIT, INIT | e.IBV_QP_TIMEOUT)
    assert fresh.left.state() == e.IBV_QPS_RESET


@pytest.mark.parametrize("done", [0, 1, 2, 3])
@pytest.mark.parametrize("state", [e.IBV_QPS_RESET, e.IBV_QPS_ERR])
def test_r4_reset_and_err_can_be_entered_from_any_state(fresh: Rig, done: int, state: int) -> None:
    for target, mask in STEPS[:done]:
        step(fresh, target, mask)
    if (done, state, fresh.profile.name) == (0, e.IBV_QPS_ERR, "rxe"):  # Linux' table has no such way
        refused(errno.EINVAL, fresh.left.qp.modify, QPAttr(qp_state=state), STATE)
        return
    fresh.left.qp.modify(QPAttr(qp_state=state), STATE)
    assert fresh.left.state() == state
    fresh.left.qp.modify(QPAttr(qp_state=e.IBV_QPS_RESET), STATE)
    assert fresh.left.state() == e.IBV_QPS_RESET


def test_r5_receives_are_posted_from_init_on(fresh: Rig) -> None:
    wr = recv_wr(fresh.left.buffer(64))
    refused(errno.EINVAL, fresh.left.qp.post_recv, wr)
    for state, mask in STEPS:
        step(fresh, state, mask)
        fresh.left.qp.post_recv(wr)


def test_r6_sends_are_refused_before_rts(fresh: Rig) -> None:
    wr = send_wr(fresh.left.buffer(64))
    for state, mask in STEPS:
        refused(errno.EINVAL, fresh.left.qp.post_send, wr)
        step(fresh, state, mask)
    fresh.left.qp.post_send(wr)


def test_r7_sqd_finishes_what_has_begun_and_holds_the_rest(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, target = left.buffer(1 << 20), right.buffer(1 << 20)
    left.write(mr, target, wr_id=1)
    rig.sim.run_to(rig.sim.now + 10_000)  # the first is on the wire
    left.write(mr, target, wr_id=2)
    drain_with_notice(left)
    assert left.next_event() == e.IBV_EVENT_SQ_DRAINED
    left.write(mr, target, wr_id=3)  # may be posted, but does not start
    assert [wc.wr_id for wc in left.poll_all()] == [1]
    rig.sim.run()
    assert left.poll_all() == []
    assert left.qp.query(STATE)[0].sq_draining == 0
    left.qp.modify(QPAttr(qp_state=e.IBV_QPS_RTS), STATE)
    assert [wc.wr_id for wc in left.wait(2)] == [2, 3]


def test_r7_what_has_left_is_not_finished_before_it_is_acknowledged(rig: Rig) -> None:
    left = rig.left
    left.write(left.buffer(500), rig.right.buffer(500), wr_id=1)
    rig.sim.run_to(rig.sim.now + 700)  # all of it has left, nothing has come back
    drain_with_notice(left)
    assert left.next_event() == e.IBV_EVENT_SQ_DRAINED
    assert [wc.wr_id for wc in left.poll_all()] == [1]


def test_r7_an_idle_queue_is_drained_at_once(rig: Rig) -> None:
    drain_with_notice(rig.left)
    assert rig.left.next_event() == e.IBV_EVENT_SQ_DRAINED


def test_r7_sqd_in_the_middle_of_a_deep_queue(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, target = left.buffer(1 << 18), right.buffer(1 << 18)
    for wr_id in range(8):
        left.write(mr, target, wr_id=wr_id)
    packets = 3 * 256 + 100
    rig.sim.run_to(rig.sim.now + packets * 1024)
    drain_with_notice(left)
    assert left.next_event() == e.IBV_EVENT_SQ_DRAINED
    assert [wc.wr_id for wc in left.poll_all()] == [0, 1, 2, 3]
    left.qp.modify(QPAttr(qp_state=e.IBV_QPS_RTS), STATE)
    assert [wc.wr_id for wc in left.wait(4)] == [4, 5, 6, 7]


def test_r7_nobody_is_told_of_a_drain_who_did_not_ask(rig: Rig) -> None:
    """man ibv_modify_qp(3): SQ_DRAINED is raised for EN_SQD_ASYNC_NOTIFY."""
    left = rig.left
    left.qp.modify(QPAttr(qp_state=e.IBV_QPS_SQD), STATE)
    rig.sim.run()
    assert not left.context.events
    assert left.qp.query(STATE)[0].sq_draining == 0
    left.qp.modify(QPAttr(qp_state=e.IBV_QPS_RTS), STATE)
    drain_with_notice(left)
    assert left.next_event() == e.IBV_EVENT_SQ_DRAINED
