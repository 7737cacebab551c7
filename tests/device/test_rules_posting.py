"""R8 to R15 on simulated and real devices: posting work requests."""

import errno
from itertools import pairwise
from typing import Any

import pytest

from simmig.verbs.sim import enums as e
from tests.verbs.ends import End, World, refused, write_pattern

OK = e.IBV_WC_SUCCESS
FLUSHED = e.IBV_WC_WR_FLUSH_ERR
WRITE = e.IBV_WR_RDMA_WRITE
UNSIGNALED = 0
INLINE = e.IBV_SEND_INLINE | e.IBV_SEND_SIGNALED


def _unanswered(world: World, **kwargs: Any) -> tuple[End, End]:
    """A pair whose left queue fills up: nobody answers at the right, and the left never gives up (R37)."""
    left, right = world.pair(connected=False, **kwargs)
    left.qp.to_rts(world.attributes(left, right, timeout=0))
    return left, right


def _slots(world: World, granted: int) -> int:
    """What a queue that was granted five really takes."""
    return 7 if world.deviates("more-slots-than-granted") else granted


def test_r8_a_list_stops_at_the_first_bad_one_and_names_it(world: World) -> None:
    left, right = world.pair()
    mr, target = left.buffer(64), right.buffer(64)
    wrs = [left.wr(WRITE, mr, target, wr_id=wr_id) for wr_id in range(4)]
    wrs[2] = left.wr(WRITE, mr, target, wr_id=2, sg=[left.sge(mr, 1)] * 9)
    for one, following in pairwise(wrs):
        one.next_wr = following
    bad = left.wr(WRITE, mr, target, wr_id=99)
    refused(world, world.oversized, left.qp.post_send, wrs[0], bad)
    assert bad.wr_id == 2
    assert [wc.wr_id for wc in left.wait(2)] == [0, 1]
    assert left.poll_all() == []


@pytest.mark.parametrize("asked", [1, 3, 16, 100, 511, 512])
def test_r9_granted_capacities_are_at_least_those_asked_for(world: World, asked: int) -> None:
    left = world.end(0, (asked, asked, 3, 2, 20))
    granted = left.init_attr.cap
    assert granted.max_send_wr >= asked
    assert granted.max_recv_wr >= asked
    assert granted.max_send_sge >= 3
    assert granted.max_recv_sge >= 2
    assert granted.max_inline_data >= 20


@pytest.mark.parametrize("signalled", [True, False])
def test_r10_a_full_send_queue_is_enomem(world: World, signalled: bool) -> None:
    left, right = _unanswered(world, cap=(5, 1, 1, 1, 0))
    mr, target = left.buffer(64), right.buffer(64)
    flags = e.IBV_SEND_SIGNALED if signalled else UNSIGNALED
    slots = _slots(world, left.init_attr.cap.max_send_wr)
    for wr_id in range(slots):
        left.write(mr, target, wr_id=wr_id, flags=flags)
    refused(world, errno.ENOMEM, left.qp.post_send, left.wr(WRITE, mr, target))


def test_r10_a_full_receive_queue_is_enomem(world: World) -> None:
    left, right = world.pair(cap=(5, 5, 1, 1, 0))
    mr = right.buffer(64)
    for _ in range(_slots(world, right.init_attr.cap.max_recv_wr)):
        right.recv(mr)
    refused(world, errno.ENOMEM, right.qp.post_recv, right.recv_wr(mr))
    left.send(left.buffer(64))
    right.wait_one()
    right.recv(mr)


def test_r9_a_queue_holds_what_was_granted(world: World) -> None:
    """And no more: rxe tells what was asked for, and has the slots of the next power of two but one."""
    left, right = _unanswered(world, cap=(5, 1, 1, 1, 0))
    mr, target = left.buffer(64), right.buffer(64)
    granted = left.init_attr.cap.max_send_wr
    assert granted >= 5
    for _ in range(granted):
        left.write(mr, target)
    extra = left.wr(WRITE, mr, target)
    if world.deviates("more-slots-than-granted"):
        assert granted == 5
        left.qp.post_send(extra)
        left.qp.post_send(extra)
    refused(world, errno.ENOMEM, left.qp.post_send, extra)


def test_r10_too_many_elements_are_refused(world: World) -> None:
    left, _ = world.pair()
    mr = left.buffer(64)
    too_many = [left.sge(mr, 1)] * (left.init_attr.cap.max_send_sge + 1)
    refused(world, world.oversized, left.qp.post_send, left.wr(e.IBV_WR_SEND, mr, sg=too_many))
    too_many = [left.sge(mr, 1)] * (left.init_attr.cap.max_recv_sge + 1)
    refused(world, errno.EINVAL, left.qp.post_recv, left.recv_wr(mr, sg=too_many))


def test_r10_elements_are_gathered_and_scattered(world: World) -> None:
    left, right = world.pair()
    mr, inbox = left.buffer(5000), right.buffer(5000)
    data = write_pattern(mr)
    scattered = [right.sge(inbox, 10), right.sge(inbox, 2000, 100), right.sge(inbox, 900, 3000)]
    right.qp.post_recv(right.recv_wr(inbox, sg=scattered))
    left.send(mr, sg=[left.sge(mr, 1500), left.sge(mr, 700, 4000)])
    assert right.wait_one().byte_len == 2200
    gathered = data[:1500] + data[4000:4700]
    assert inbox.read(10, 0) + inbox.read(2000, 100) + inbox.read(190, 3000) == gathered


def test_r11_inline_data_is_copied_at_the_post(world: World) -> None:
    left, right = world.pair()
    mr, target = left.buffer(64), right.buffer(64)
    mr.write(b"before", 6)
    left.qp.post_send(left.wr(WRITE, mr, target, flags=INLINE, sg=[world.v.SGE(mr.buf, 6, 0xDEAD)]))
    mr.write(b"after!", 6)
    assert left.wait_one().status == OK
    assert target.read(6, 0) == b"before"


def test_r11_inline_is_for_sends_and_writes_and_has_a_limit(world: World) -> None:
    left, right = world.pair()
    mr, target = left.buffer(4096), right.buffer(4096)
    limit = left.init_attr.cap.max_inline_data
    for opcode in (WRITE, e.IBV_WR_SEND):
        refused(world, world.oversized, left.qp.post_send, left.wr(opcode, mr, target, limit + 1, flags=INLINE))
    left.write(mr, target, limit, flags=INLINE)
    assert left.wait_one().status == OK


def test_r11_an_inline_read_is_refused(world: World) -> None:
    left, right = world.pair()
    wr = left.wr(e.IBV_WR_RDMA_READ, left.buffer(64), right.buffer(64), 8, flags=INLINE)
    if world.deviates("inline-reads-are-taken"):
        left.qp.post_send(wr)
    else:
        refused(world, errno.EINVAL, left.qp.post_send, wr)


def test_r13_only_signalled_ones_complete_visibly(world: World) -> None:
    left, right = world.pair()
    mr, target = left.buffer(64), right.buffer(64)
    for wr_id in range(6):
        left.write(mr, target, wr_id=wr_id, flags=e.IBV_SEND_SIGNALED if wr_id % 3 == 2 else UNSIGNALED)
    assert [wc.wr_id for wc in left.wait(2)] == [2, 5]
    assert left.poll_all() == []


def test_r13_sq_sig_all_makes_all_of_them_complete(world: World) -> None:
    left, right = world.pair(signal_all=1)
    mr, target = left.buffer(64), right.buffer(64)
    for wr_id in range(3):
        left.write(mr, target, wr_id=wr_id, flags=UNSIGNALED)
    assert [wc.wr_id for wc in left.wait(3)] == [0, 1, 2]


def test_r13_an_error_always_completes(world: World) -> None:
    left, right = world.pair()
    mr, target = left.buffer(64), right.buffer(64)
    left.write(mr, target, wr_id=1, flags=UNSIGNALED)
    left.write(mr, target, wr_id=2, flags=UNSIGNALED, rkey=target.rkey ^ 0xFF)
    left.write(mr, target, wr_id=3, flags=UNSIGNALED)
    failed = left.wait(2)
    assert [(wc.wr_id, wc.status) for wc in failed] == [(2, e.IBV_WC_REM_ACCESS_ERR), (3, FLUSHED)]


def test_r14_polling_a_completion_retires_the_unsignalled_before_it(world: World) -> None:
    left, right = world.pair(cap=(7, 1, 1, 1, 0))
    mr, target = left.buffer(64), right.buffer(64)
    depth = left.init_attr.cap.max_send_wr
    for rounds in range(3):
        for index in range(depth):
            flags = e.IBV_SEND_SIGNALED if index == depth - 1 else UNSIGNALED
            left.write(mr, target, wr_id=rounds * depth + index, flags=flags)
        assert left.wait_one().wr_id == rounds * depth + depth - 1


def test_r14_without_any_signal_slots_never_come_free(world: World) -> None:
    left, right = world.pair(cap=(7, 1, 1, 1, 0))
    mr, target = left.buffer(64), right.buffer(64)
    for _ in range(left.init_attr.cap.max_send_wr):
        left.write(mr, target, flags=UNSIGNALED)
    assert left.poll_all() == []
    wr = left.wr(WRITE, mr, target, flags=UNSIGNALED)
    if world.deviates("slots-free-at-ack"):
        left.qp.post_send(wr)
    else:
        refused(world, errno.ENOMEM, left.qp.post_send, wr)


def test_r15_a_fence_waits_for_earlier_reads(world: World) -> None:
    left, right = world.pair()
    mr, target = left.buffer(8192), right.buffer(8192)
    data = write_pattern(target)
    left.read(mr, target, 4096, wr_id=1)
    left.write(mr, target, 4096, wr_id=2, remote_offset=4096, flags=e.IBV_SEND_FENCE | e.IBV_SEND_SIGNALED)
    assert [wc.wr_id for wc in left.wait(2)] == [1, 2]
    assert target.read(4096, 4096) == data[:4096]  # what was read, not what was there before
