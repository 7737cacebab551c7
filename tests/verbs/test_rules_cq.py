"""R23 to R29: completion queues, channels, notification."""

from __future__ import annotations

import errno

import pytest

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.cq import CQ, CompChannel
from simmig.verbs.sim.profiles import Profile
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError
from tests.verbs.rig import Rig, as_rxe, refused

SOLICITED = e.IBV_SEND_SIGNALED | e.IBV_SEND_SOLICITED


def events_waiting(rig: Rig) -> int:
    """Events in the left channel once everything has come to rest."""
    rig.sim.run()
    return len(rig.left.channel.events)


@pytest.mark.parametrize("asked", [1, 2, 7, 8, 100, 1536])
def test_r23_depth_is_at_least_as_asked(profile: Profile, asked: int) -> None:
    assert Rig(profile, depth=asked).left.cq.cqe >= asked


@pytest.mark.parametrize("asked", [0, -1, 1 << 23])
def test_r23_what_no_device_has_is_einval(profile: Profile, asked: int) -> None:
    with pytest.raises(PyverbsRDMAError) as caught:
        Rig(profile, depth=asked)
    assert caught.value.error_code == errno.EINVAL


def test_r24_overrun_by_sends(profile: Profile) -> None:
    """The CQ dies and takes its queue pair along; rxe loses the completion and says no more than that."""
    rig = Rig(profile, depth=3)
    left = rig.left
    mr, target = left.buffer(64), rig.right.buffer(64)
    for wr_id in range(5):
        left.write(mr, target, wr_id=wr_id)
    assert left.next_event() == e.IBV_EVENT_CQ_ERR
    rig.sim.run()
    if profile.name == "rxe":
        assert left.state() == e.IBV_QPS_RTS
        assert [wc.wr_id for wc in left.poll_all()] == [0, 1, 2]
        left.write(mr, target, wr_id=9)
        assert left.wait_one().wr_id == 9
    else:
        assert left.next_event() == e.IBV_EVENT_QP_FATAL
        assert left.state() == e.IBV_QPS_ERR
        left.poll_all()
        left.write(mr, target, wr_id=9)
        rig.sim.run()
        assert left.poll_all() == []  # dead: nothing comes any more


def test_r24_overrun_by_receives_is_an_error_everywhere(profile: Profile) -> None:
    rig = Rig(profile, depth=3)
    left, right = rig.left, rig.right
    inbox = left.buffer(64)
    for _ in range(5):
        left.recv(inbox)
    for _ in range(5):
        right.send(right.buffer(8), flags=0)
    assert left.next_event() == e.IBV_EVENT_CQ_ERR
    rig.sim.run()
    assert left.state() == e.IBV_QPS_ERR


def test_r25_destroying_a_cq_with_queue_pairs_is_ebusy(rig: Rig) -> None:
    cq = rig.left.cq
    refused(errno.EBUSY, cq.destroy)
    rig.left.qp.close()
    cq.destroy()


def test_r25_pyverbs_close_takes_the_queue_pairs_first(rig: Rig) -> None:
    left = rig.left
    left.cq.close()
    assert left.qp.qp_num not in rig.devices[0].qps
    left.cq.close()  # again is a no-op
    left.channel.close()


def test_r25_destruction_waits_for_events_not_acknowledged(rig: Rig) -> None:
    left, sim = rig.left, rig.sim
    left.cq.req_notify()
    left.write(left.buffer(64), rig.right.buffer(64))
    left.channel.get_cq_event(left.cq)
    left.qp.close()
    sim.at(sim.now + 5_000, lambda: left.cq.ack_events(1))
    begin = sim.now
    left.cq.destroy()
    assert sim.now == begin + 5_000


def test_r25_waiting_for_ever_is_an_error(rig: Rig) -> None:
    left = rig.left
    left.cq.req_notify()
    left.write(left.buffer(64), rig.right.buffer(64))
    left.channel.get_cq_event(left.cq)
    left.qp.close()
    refused(errno.EDEADLK, left.cq.destroy)
    left.cq.close()  # pyverbs acknowledges for its user


def test_r26_req_notify_is_one_shot(rig: Rig) -> None:
    left = rig.left
    mr, target = left.buffer(64), rig.right.buffer(64)
    left.cq.req_notify()
    for _ in range(3):
        left.write(mr, target)
    assert events_waiting(rig) == 1
    left.channel.get_cq_event(left.cq)
    left.write(mr, target)
    assert events_waiting(rig) == 0


def test_r26_it_covers_only_completions_added_after_it(rig: Rig) -> None:
    left = rig.left
    mr, target = left.buffer(64), rig.right.buffer(64)
    left.write(mr, target)
    rig.sim.run()
    left.cq.req_notify()  # too late for that one
    assert events_waiting(rig) == 0
    left.write(mr, target)
    assert events_waiting(rig) == 1


def test_r26_without_it_no_event(rig: Rig) -> None:
    rig.left.write(rig.left.buffer(64), rig.right.buffer(64))
    assert events_waiting(rig) == 0


def test_r27_the_correct_loop_loses_nothing(rig: Rig) -> None:
    """Get event, ack, re-arm, poll to empty: with completions at every possible moment in between."""
    left = rig.left
    mr, target = left.buffer(64), rig.right.buffer(64)
    left.cq.req_notify()
    posted = completed = empty = 0
    while completed < 40:
        while posted < min(completed + 7, 40):
            left.write(mr, target, 1 + posted % 50, wr_id=posted)
            posted += 1
        left.channel.get_cq_event(left.cq)
        left.cq.ack_events(1)
        left.cq.req_notify()
        got = len(left.poll_all())
        empty += got == 0
        completed += got
    assert completed == posted == 40


def test_r27_an_empty_wake_up_is_legal(rig: Rig) -> None:
    left = rig.left
    mr, target = left.buffer(64), rig.right.buffer(64)
    left.cq.req_notify()
    left.write(mr, target)
    rig.sim.run()
    left.cq.req_notify()
    left.write(mr, target)
    rig.sim.run()
    left.channel.get_cq_event(left.cq)
    assert len(left.poll_all()) == 2
    left.channel.get_cq_event(left.cq)  # its completion has been polled already
    assert left.poll_all() == []


def test_r28_solicited_only_fires_for_solicited_receives(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, inbox, target = right.buffer(64), left.buffer(64), left.buffer(64)
    for _ in range(6):
        left.recv(inbox)
    left.cq.req_notify(True)
    right.send(mr)
    right.write_imm(mr, target)
    right.write(mr, target, flags=SOLICITED)
    left.write(inbox, right.buffer(64), flags=SOLICITED)
    assert events_waiting(rig) == 0
    right.send(mr, flags=SOLICITED)
    assert events_waiting(rig) == 1
    left.cq.req_notify(True)
    right.write_imm(mr, target, flags=SOLICITED)
    assert events_waiting(rig) == 2


def test_r28_solicited_only_fires_for_errors(rig: Rig) -> None:
    left = rig.left
    left.cq.req_notify(True)
    left.write(left.buffer(64), rig.right.buffer(64), rkey=1)
    assert events_waiting(rig) == as_rxe(rig, 1, 0)


@pytest.mark.parametrize(("first", "then"), [(True, False), (False, True)])
def test_r29_rearming_upgrades_and_never_downgrades(rig: Rig, first: bool, then: bool) -> None:
    left = rig.left
    left.cq.req_notify(first)
    left.cq.req_notify(then)
    left.write(left.buffer(64), rig.right.buffer(64))
    assert events_waiting(rig) == 1


def test_events_of_several_cqs_come_in_order_and_name_theirs(rig: Rig) -> None:
    left = rig.left
    other = CQ(left.context, 10, None, left.channel, 0)
    for cq in (left.cq, other):
        left.channel.post(cq)
    left.channel.get_cq_event(left.cq)
    left.channel.post(left.cq)
    left.channel.get_cq_event(other)
    left.channel.post(other)
    with pytest.raises(PyverbsRDMAError, match="unexpected CQ"):
        left.channel.get_cq_event(other)


def test_an_empty_channel_with_nothing_to_come_is_an_error(rig: Rig) -> None:
    refused(errno.EDEADLK, rig.left.channel.get_cq_event, rig.left.cq)
    refused(errno.EDEADLK, CompChannel(rig.left.context).get_cq_event, rig.left.cq)
