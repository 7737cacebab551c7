"""R8 to R15: posting work requests."""

from __future__ import annotations

import errno

import pytest

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.profiles import RXE, Profile
from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError
from simmig.verbs.sim.qp import QPCap
from simmig.verbs.sim.wr import SGE, RecvWR, SendWR
from tests.verbs.rig import ALL_ACCESS, Rig, as_rxe, rdma_wr, recv_wr, refused, send_wr, sge, write_pattern

UNSIGNALED = 0


def test_r8_receives_too(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr = right.buffer(64)
    wrs = [recv_wr(mr, wr_id=wr_id) for wr_id in range(3)]
    wrs[1] = RecvWR(1, 9, [sge(mr, 1)] * 9)
    wrs[0].next_wr, wrs[1].next_wr = wrs[1], wrs[2]
    bad = RecvWR()
    refused(errno.EINVAL, right.qp.post_recv, wrs[0], bad)
    assert bad.wr_id == 1
    left.send(left.buffer(64))
    assert right.wait_one().wr_id == 0


@pytest.mark.parametrize(("sges", "inline"), [(1, 0), (4, 0), (1, 64), (2, 400), (3, 50), (32, 100)])
def test_r9_soft_roce_has_inline_data_and_elements_share_room(sges: int, inline: int) -> None:
    """rxe_qp_init_req: a slot has max(16 x elements, inline) bytes, and both limits are told from that."""
    granted = Rig(RXE, cap=QPCap(8, 8, sges, 2, inline)).left.init_attr.cap
    room = max(16 * sges, inline)
    assert (granted.max_send_sge, granted.max_inline_data) == (room // 16, room)


@pytest.mark.parametrize("asked", [1, 2, 3, 16, 100, 511, 512])
def test_r9_granted_capacities_are_at_least_those_asked_for(profile: Profile, asked: int) -> None:
    rig = Rig(profile, cap=QPCap(asked, asked, 3, 2, 20))
    granted = rig.left.init_attr.cap
    assert granted.max_send_wr >= asked
    assert granted.max_recv_wr >= asked
    assert granted.max_send_sge >= 3
    assert granted.max_recv_sge >= 2
    assert granted.max_inline_data >= 20
    queried = rig.left.qp.query(e.IBV_QP_CAP)[0].cap
    slots = profile.queue_slots(asked)  # soft-RoCE of Linux 6.1 tells them when asked again, and no sooner
    assert (queried.max_send_wr, queried.max_recv_wr) == (slots, slots)
    assert profile.name == "rxe" or queried.max_send_wr == granted.max_send_wr


def test_r9_more_than_the_device_has_is_einval(profile: Profile) -> None:
    with pytest.raises(PyverbsRDMAError) as caught:
        Rig(profile, cap=QPCap(profile.max_work_requests + 1))
    assert caught.value.error_code == errno.EINVAL


@pytest.mark.parametrize("signalled", [True, False])
def test_r10_a_full_send_queue_is_enomem(profile: Profile, signalled: bool) -> None:
    rig = Rig(profile, cap=QPCap(5, 1, 1, 1, 0))
    left = rig.left
    mr, target = left.buffer(4096), rig.right.buffer(4096)
    depth = as_rxe(rig, left.init_attr.cap.max_send_wr, 7)  # rxe: five are told, the queue has 2^3 - 1
    flags = e.IBV_SEND_SIGNALED if signalled else UNSIGNALED
    for wr_id in range(depth):
        left.write(mr, target, wr_id=wr_id, flags=flags)
    wr = rdma_wr(e.IBV_WR_RDMA_WRITE, mr, target, wr_id=depth)
    refused(errno.ENOMEM, left.qp.post_send, wr)
    refused(errno.ENOMEM, left.qp.post_send, send_wr(mr))


def test_r10_elements_are_gathered_and_scattered(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, inbox = left.buffer(5000), right.buffer(5000)
    data = write_pattern(mr)
    right.qp.post_recv(RecvWR(0, 3, [sge(inbox, 10), sge(inbox, 2000, 100), sge(inbox, 900, 3000)]))
    left.send(mr, sg=[sge(mr, 1500), sge(mr, 700, 4000)])
    assert right.wait_one().byte_len == 2200
    gathered = data[:1500] + data[4000:4700]
    assert inbox.read(10, 0) + inbox.read(2000, 100) + inbox.read(190, 3000) == gathered
    left.write(mr, inbox, sg=[sge(mr, 3, 1), sge(mr, 5, 3000)])
    left.wait(2)
    assert inbox.read(8, 0) == data[1:4] + data[3000:3005]


def test_r11_inline_data_is_copied_at_the_post(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, inbox, target = left.buffer(64), right.buffer(64), right.buffer(64)
    right.recv(inbox)
    mr.write(b"before", 6)
    left.send(mr, 6, flags=e.IBV_SEND_INLINE | e.IBV_SEND_SIGNALED)
    left.write(mr, target, 6, flags=e.IBV_SEND_INLINE | e.IBV_SEND_SIGNALED)
    mr.write(b"after!", 6)
    left.wait(2)
    assert inbox.read(6, 0) == target.read(6, 0) == b"before"


def test_r11_the_lkey_of_inline_data_is_not_looked_at(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, target = left.buffer(64), right.buffer(64)
    mr.write(b"inline", 6)
    wr = rdma_wr(e.IBV_WR_RDMA_WRITE, mr, target, sg=[SGE(mr.buf, 6, 0xDEAD)], flags=e.IBV_SEND_INLINE)
    wr.send_flags |= e.IBV_SEND_SIGNALED
    left.qp.post_send(wr)
    assert left.wait_one().status == e.IBV_WC_SUCCESS
    assert target.read(6, 0) == b"inline"


def test_r12_the_buffer_is_the_devices_until_the_completion(rig: Rig) -> None:
    """What is written to it behind the first write's back may go out with a later one."""
    left, right = rig.left, rig.right
    mr, target = left.buffer(1 << 20), right.buffer(1 << 20)
    left.write(mr, target, wr_id=1)
    left.write(mr, target, 4096, wr_id=2)
    mr.write(b"late", 4)  # the second has not begun
    left.wait(2)
    assert target.read(4, 0) == b"late"
    mr.write(b"more", 4)
    assert target.read(4, 0) == b"late"


def test_r12_posted_work_requests_are_copied(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, target = left.buffer(64), right.buffer(64)
    mr.write(b"0123456789", 10)
    element = sge(mr, 3)
    wr = SendWR(7, e.IBV_WR_RDMA_WRITE, 1, 0, [element], e.IBV_SEND_SIGNALED)
    wr.set_wr_rdma(target.rkey, target.buf)
    element.addr += 5  # too late, as in pyverbs
    left.qp.post_send(wr)
    wr.wr_id = 8
    wr.set_wr_rdma(target.rkey, target.buf + 3)
    wr.sg_list = element  # used in place from here on
    left.qp.post_send(wr)
    assert [wc.wr_id for wc in left.wait(2)] == [7, 8]
    assert target.read(6, 0) == b"012567"


def test_r14_without_any_signal_slots_come_free_only_on_rxe(rig: Rig) -> None:
    """The documented deviation: rxe frees a slot at the acknowledgement, others when a completion is polled."""
    left = rig.left
    mr, target = left.buffer(64), rig.right.buffer(64)
    depth = left.init_attr.cap.max_send_wr
    for _ in range(depth):
        left.write(mr, target, flags=UNSIGNALED)
    rig.sim.run()
    wr = rdma_wr(e.IBV_WR_RDMA_WRITE, mr, target, flags=UNSIGNALED)
    if rig.profile.name == "rxe":
        left.qp.post_send(wr)
    else:
        refused(errno.ENOMEM, left.qp.post_send, wr)
        assert left.poll_all() == []  # and nothing ever will: the queue is stuck


def test_r14_a_completion_not_polled_frees_nothing(rig: Rig) -> None:
    left = rig.left
    mr, target = left.buffer(64), rig.right.buffer(64)
    for wr_id in range(left.init_attr.cap.max_send_wr):
        left.write(mr, target, wr_id=wr_id)
    rig.sim.run()
    wr = rdma_wr(e.IBV_WR_RDMA_WRITE, mr, target)
    if rig.profile.name != "rxe":
        refused(errno.ENOMEM, left.qp.post_send, wr)
        left.wait_one()
    left.qp.post_send(wr)


def test_r15_without_a_fence_it_does_not_wait(rig: Rig) -> None:
    left, right = rig.left, rig.right
    mr, target = left.buffer(8192, ALL_ACCESS), right.buffer(8192)
    write_pattern(target)
    before = write_pattern(mr, 99)
    left.read(mr, target, 4096, wr_id=1)
    left.write(mr, target, 4096, wr_id=2, remote_offset=4096)
    assert [wc.wr_id for wc in left.wait(2)] == [1, 2]
    assert target.read(4096, 4096) == before[:4096]
