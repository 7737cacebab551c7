"""R37 to R44: acknowledgements, timeouts, retries, packet numbers.

Packets are lost by pulling the cable just when they leave or fly. A message that has the link to itself leaves all
at once when its last byte does, so a cut of one nanosecond loses one message and nothing else.
"""

from __future__ import annotations

import pytest

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.link import LinkSpec
from simmig.verbs.sim.profiles import Profile
from tests.verbs.rig import SPEC, Rig, attributes, rdma_wr, write_pattern

OK = e.IBV_WC_SUCCESS
LATENCY = SPEC.latency_ns
TIMEOUT = 10
MS = 1_000_000


def cut(rig: Rig, begin_ns: int, length_ns: int = 1) -> None:
    """Pull the cable, so that what leaves or flies then is lost."""
    link = rig.sim.fabric.links[0]
    rig.sim.at(begin_ns, lambda: link.set_up(False))
    rig.sim.at(begin_ns + length_ns, lambda: link.set_up(True))


def ticks(profile: Profile, duration_ns: int) -> int:
    """That long by the device's timers."""
    return -(-duration_ns // profile.timer_tick_ns) * profile.timer_tick_ns


def wait_one(rig: Rig) -> tuple[int, int]:
    """Status and time of the next completion on the left."""
    status = rig.left.wait_one().status
    return status, rig.sim.now


@pytest.mark.parametrize("timeout", [1, 8, 10, 14])
def test_r37_ack_timeout(profile: Profile, timeout: int) -> None:
    rig = Rig(profile, timeout=timeout, retry_cnt=1)
    rig.sim.fabric.links[0].set_up(False)
    rig.left.write(rig.left.buffer(500), rig.right.buffer(500))
    status, at_ns = wait_one(rig)
    assert status == e.IBV_WC_RETRY_EXC_ERR
    assert at_ns == 2 * (500 + ticks(profile, 4096 << timeout))


def test_r37_timeout_zero_waits_for_ever(profile: Profile) -> None:
    rig = Rig(profile, timeout=0)
    rig.left.write(rig.left.buffer(500), rig.right.buffer(500))
    cut(rig, 500)
    rig.sim.run()
    assert rig.left.poll_all() == []
    assert rig.left.state() == e.IBV_QPS_RTS


def test_r37_a_timeout_shorter_than_the_round_trip_only_repeats(profile: Profile) -> None:
    spec = LinkSpec(8_000_000_000, 30_000_000, 1024)
    rig = Rig(profile, spec=spec, timeout=12, retry_cnt=7)  # 16.8 ms; the answer takes 60
    target = rig.right.buffer(500)
    mr = rig.left.buffer(500)
    write_pattern(mr)
    rig.left.write(mr, target)
    status, at_ns = wait_one(rig)
    assert (status, at_ns) == (OK, 500 + 60_000_000)
    assert rig.sim.there.bytes_sent >= 3 * 500
    assert target.read(500, 0) == mr.read(500, 0)


@pytest.mark.parametrize("retry_cnt", [0, 1, 3, 6])
def test_r38_retries_used_up(profile: Profile, retry_cnt: int) -> None:
    rig = Rig(profile, timeout=TIMEOUT, retry_cnt=retry_cnt)
    rig.sim.fabric.links[0].set_up(False)
    rig.left.write(rig.left.buffer(500), rig.right.buffer(500))
    status, at_ns = wait_one(rig)
    assert status == e.IBV_WC_RETRY_EXC_ERR
    assert at_ns == (retry_cnt + 1) * (500 + ticks(profile, 4096 << TIMEOUT))
    assert rig.left.state() == e.IBV_QPS_ERR


def test_r38_retry_cnt_seven_is_finite_except_on_rxe(profile: Profile) -> None:
    rig = Rig(profile, timeout=TIMEOUT, retry_cnt=7)
    cut(rig, 0, 1_000 * MS)
    rig.sim.run_to(1)
    rig.left.write(rig.left.buffer(500), rig.right.buffer(500))
    status, at_ns = wait_one(rig)
    if profile.name == "rxe":
        assert status == OK
        assert at_ns > 1_000 * MS
    else:
        assert status == e.IBV_WC_RETRY_EXC_ERR
        assert at_ns == 1 + 8 * (500 + (4096 << TIMEOUT))


@pytest.mark.parametrize("host", ["left", "right"])
def test_r38_a_dead_peer_does_not_answer(rig: Rig, host: str) -> None:
    rig.left.write(rig.left.buffer(500), rig.right.buffer(500))
    rig.sim.fabric.hosts[host].kill()
    if host == "right":
        assert rig.left.wait_one().status == e.IBV_WC_RETRY_EXC_ERR
    else:
        rig.sim.run()
        assert rig.left.poll_all() == []  # nobody is there to see


def test_r38_a_peer_whose_queue_pair_is_gone_does_not_answer(rig: Rig) -> None:
    target = rig.right.buffer(500)
    rig.right.qp.close()
    rig.left.write(rig.left.buffer(500), target)
    assert rig.left.wait_one().status == e.IBV_WC_RETRY_EXC_ERR


def test_r38_nor_does_one_that_is_connected_elsewhere(rig: Rig) -> None:
    stranger = rig.end(0)
    stranger.qp.to_rts(attributes(stranger, rig.right))
    stranger.write(stranger.buffer(500), rig.right.buffer(500))
    assert stranger.wait_one().status == e.IBV_WC_RETRY_EXC_ERR


RNR_TIMES = {0: 655_360_000, 1: 10_000, 2: 20_000, 7: 120_000, 12: 640_000, 20: 10_240_000, 31: 491_520_000}


@pytest.mark.parametrize("code", list(RNR_TIMES))
def test_r39_the_rnr_timer_is_waited_for(profile: Profile, code: int) -> None:
    rig = Rig(profile, min_rnr_timer=code)
    left, right = rig.left, rig.right
    left.send(left.buffer(500))
    rig.sim.run_to(500 + LATENCY + 1)
    right.recv(right.buffer(500))  # just too late
    status, at_ns = wait_one(rig)
    assert status == OK
    assert at_ns == 2 * (500 + 2 * LATENCY) + ticks(profile, RNR_TIMES[code])


@pytest.mark.parametrize("retries", [0, 1, 3, 6])
def test_r39_rnr_retries_used_up(profile: Profile, retries: int) -> None:
    rig = Rig(profile, rnr_retry=retries)
    rig.left.send(rig.left.buffer(500))
    status, at_ns = wait_one(rig)
    assert status == e.IBV_WC_RNR_RETRY_EXC_ERR
    assert at_ns == (retries + 1) * (500 + 2 * LATENCY) + retries * ticks(profile, 640_000)
    assert rig.left.state() == e.IBV_QPS_ERR
    assert rig.right.state() == e.IBV_QPS_RTS


def test_r39_rnr_retry_seven_is_infinite(profile: Profile) -> None:
    rig = Rig(profile, rnr_retry=7)
    rig.left.send(rig.left.buffer(500))
    rig.sim.run_to(500 * MS)
    rig.right.recv(rig.right.buffer(500))
    status, at_ns = wait_one(rig)
    assert status == OK
    assert at_ns > 500 * MS


def test_r39_write_with_immediate_needs_a_receive_too(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, target = left.buffer(5000), right.buffer(5000)
    data = write_pattern(mr)
    left.write_imm(mr, target)
    rig.sim.run_to(100_000)
    right.recv(right.buffer(8))
    assert left.wait_one().status == OK
    assert target.read(5000, 0) == data


def test_r39_what_follows_waits_and_keeps_its_order(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, target, inbox = left.buffer(2000), right.buffer(2000), right.buffer(2000)
    left.write(mr, target, wr_id=1)
    left.send(mr, wr_id=2)
    for wr_id in range(3, 8):
        left.write(mr, target, wr_id=wr_id)
    rig.sim.run_to(100_000)
    assert [wc.wr_id for wc in left.poll_all()] == [1]
    right.recv(inbox)
    assert [wc.wr_id for wc in left.wait(6)] == [2, 3, 4, 5, 6, 7]


def test_r39_a_receive_counts_from_when_the_host_has_posted_it() -> None:
    """Work the host still owes time for has not been done yet, as far as the device can see."""
    rig = Rig(rnr_retry=0)
    left, right = rig.left, rig.right
    inbox = right.buffer(500)
    left.send(left.buffer(500))
    rig.devices[1].host.charge(500 + LATENCY + 1)
    right.recv(inbox)
    assert left.wait_one().status == e.IBV_WC_RNR_RETRY_EXC_ERR


def test_r40_a_gap_draws_a_nak_and_everything_from_there_is_sent_again(profile: Profile) -> None:
    rig = Rig(profile)
    left = rig.left
    mr, target = left.buffer(10_000), rig.right.buffer(10_000)
    cut(rig, 10_000)
    for wr_id in range(3):
        left.write(mr, target, wr_id=wr_id)
    times = [wait_one(rig)[1] for _ in range(3)]
    nak_ns = 20_000 + 2 * LATENCY  # drawn by the second, which arrives before the first
    began_ns = 30_000  # the third is on the wire by then
    assert times == [began_ns + (index + 1) * 10_000 + 2 * LATENCY for index in range(3)]
    assert nak_ns < began_ns
    assert rig.sim.there.bytes_sent == 6 * 10_000


def test_r40_only_one_nak_for_a_gap(profile: Profile) -> None:
    """More of them would count as retries, of which there is one."""
    rig = Rig(profile, retry_cnt=1)
    left = rig.left
    mr, target = left.buffer(1_000), rig.right.buffer(1_000)
    cut(rig, 1_000)
    for wr_id in range(10):
        left.write(mr, target, wr_id=wr_id)
    completions = left.wait(10)
    assert [(wc.wr_id, wc.status) for wc in completions] == [(wr_id, OK) for wr_id in range(10)]


def test_r40_a_nak_acknowledges_all_before_it(profile: Profile) -> None:
    rig = Rig(profile)
    left = rig.left
    mr, target = left.buffer(10_000), rig.right.buffer(10_000)
    cut(rig, 11_500, 100)  # the first's acknowledgement is on its way back, the second just leaves
    left.write(mr, target, 10_000, wr_id=1)
    left.write(mr, target, 1_550, wr_id=2)
    left.write(mr, target, 1_000, wr_id=3)
    completions = left.wait(3)
    assert [wc.wr_id for wc in completions] == [1, 2, 3]
    assert rig.sim.there.bytes_sent == 10_000 + 2 * 1_550 + 2 * 1_000


def test_r40_without_retries_a_nak_is_fatal(profile: Profile) -> None:
    rig = Rig(profile, retry_cnt=0)
    left = rig.left
    mr, target = left.buffer(10_000), rig.right.buffer(10_000)
    cut(rig, 10_000)
    for wr_id in range(2):
        left.write(mr, target, wr_id=wr_id)
    assert [wc.status for wc in left.wait(2)] == [e.IBV_WC_RETRY_EXC_ERR, e.IBV_WC_WR_FLUSH_ERR]


def test_r41_a_duplicate_write_is_acknowledged_and_not_executed(rig: Rig) -> None:
    left = rig.left
    mr, target = left.buffer(500), rig.right.buffer(500)
    mr.write(b"old", 3)
    cut(rig, 500 + LATENCY + 500)  # the acknowledgement is on its way
    left.write(mr, target)
    rig.sim.run_to(500 + LATENCY + 501)
    assert target.read(3, 0) == b"old"
    target.write(b"new", 3)
    assert left.wait_one().status == OK
    assert target.read(3, 0) == b"new"
    assert rig.sim.there.bytes_sent == 2 * 500


def test_r41_a_duplicate_send_takes_no_second_receive(rig: Rig) -> None:
    left, right = rig.left, rig.right
    inbox = right.buffer(500)
    for wr_id in (1, 2):
        right.recv(inbox, wr_id=wr_id)
    cut(rig, 500 + LATENCY + 500)
    left.send(left.buffer(500))
    assert left.wait_one().status == OK
    rig.sim.run()
    assert [wc.wr_id for wc in right.poll_all()] == [1]


def test_r41_a_duplicate_read_is_answered_again(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, source = left.buffer(5_000), right.buffer(5_000)
    data = write_pattern(source)
    cut(rig, 1_000 + 16 + 5_500)  # the data is on its way
    left.read(mr, source)
    assert left.wait_one().status == OK
    assert mr.read(5_000, 0) == data
    assert rig.sim.back.bytes_sent == 2 * 5_000


def test_r41_a_lost_read_request_is_repeated(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, source = left.buffer(5_000), right.buffer(5_000)
    data = write_pattern(source)
    cut(rig, 16)
    left.read(mr, source)
    assert left.wait_one().status == OK
    assert mr.read(5_000, 0) == data


def test_r42_any_acknowledgement_resets_both_counters(profile: Profile) -> None:
    rig = Rig(profile, retry_cnt=1, rnr_retry=1, min_rnr_timer=1)
    left, right = rig.left, rig.right
    mr, inbox = left.buffer(500), right.buffer(500)
    for _ in range(4):
        cut(rig, rig.sim.now + 500)  # one retry each
        left.send(mr)
        late_ns = rig.sim.now + 500 + ticks(profile, 4096 << TIMEOUT) + 500 + LATENCY + 1
        rig.sim.run_to(late_ns)
        right.recv(inbox)  # and one RNR retry each
        assert left.wait_one().status == OK


@pytest.mark.parametrize(
    ("length", "packets"), [(0, 1), (1, 1), (1023, 1), (1024, 1), (1025, 2), (10_240, 10), (1 << 20, 1024)]
)
@pytest.mark.parametrize("operation", ["write", "read"])
def test_r43_packet_numbers_of_a_message(rig: Rig, length: int, packets: int, operation: str) -> None:
    left, right = rig.left, rig.right
    mr, target = left.buffer(1 << 20), right.buffer(1 << 20)
    getattr(left, operation)(mr, target, length)
    left.wait_one()
    assert left.qp.query(e.IBV_QP_SQ_PSN)[0].sq_psn == packets
    assert right.qp.query(e.IBV_QP_RQ_PSN)[0].rq_psn == packets


@pytest.mark.parametrize("lossy", [False, True])
def test_r43_packet_numbers_wrap(profile: Profile, lossy: bool) -> None:
    first = 0xFFFFFF - 20
    rig = Rig(profile, sq_psn=first, rq_psn=first)
    left = rig.left
    mr, target = left.buffer(10_000), rig.right.buffer(10_000)
    data = write_pattern(mr)
    if lossy:
        cut(rig, 20_000)
    for wr_id in range(6):
        left.write(mr, target, wr_id=wr_id)
    assert [(wc.wr_id, wc.status) for wc in left.wait(6)] == [(wr_id, OK) for wr_id in range(6)]
    assert target.read(10_000, 0) == data
    assert left.qp.query(e.IBV_QP_SQ_PSN)[0].sq_psn == (first + 60) & 0xFFFFFF == 39


@pytest.mark.parametrize("difference", [-1, -1000, 1000])
def test_r43_ends_that_disagree_do_not_hear_each_other(profile: Profile, difference: int) -> None:
    rig = Rig(profile, connected=False)
    rig.left.qp.to_rts(attributes(rig.left, rig.right, sq_psn=5000))
    rig.right.qp.to_rts(attributes(rig.right, rig.left, rq_psn=5000 + difference))
    rig.left.write(rig.left.buffer(500), rig.right.buffer(500))
    assert rig.left.wait_one().status == e.IBV_WC_RETRY_EXC_ERR


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_r44_outstanding_reads_are_limited(profile: Profile, limit: int) -> None:
    """Eight short reads over a long link take a round trip for every `limit` of them."""
    spec = LinkSpec(8_000_000_000, 1_000_000, 1024)
    rig = Rig(profile, spec=spec, max_rd_atomic=limit)
    left = rig.left
    mr, source = left.buffer(64), rig.right.buffer(64)
    for wr_id in range(8):
        left.read(mr, source, 8, wr_id=wr_id)
    left.wait(8)
    round_trips = 8 // limit
    assert round_trips * 2_000_000 <= rig.sim.now < round_trips * 2_000_000 + 1_000


def test_r44_more_than_the_peer_takes_is_an_invalid_request(profile: Profile) -> None:
    rig = Rig(profile, connected=False)
    left, right = rig.left, rig.right
    left.qp.to_rts(attributes(left, right, max_rd_atomic=4))
    right.qp.to_rts(attributes(right, left, max_dest_rd_atomic=2))
    mr, source = left.buffer(1 << 16), right.buffer(1 << 16)
    for wr_id in range(4):
        left.read(mr, source, wr_id=wr_id)
    statuses = [wc.status for wc in left.wait(4)]
    assert e.IBV_WC_REM_INV_REQ_ERR in statuses


def test_r44_without_any_allowed_a_read_fails(profile: Profile) -> None:
    rig = Rig(profile, max_rd_atomic=0)
    rig.left.qp.post_send(rdma_wr(e.IBV_WR_RDMA_READ, rig.left.buffer(64), rig.right.buffer(64)))
    assert rig.left.wait_one().status == e.IBV_WC_LOC_QP_OP_ERR
