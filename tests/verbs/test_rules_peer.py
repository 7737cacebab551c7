"""Whose packets a queue pair takes (the source address: IBA volume 1, 9.6.1), and of what size (path MTUs)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.addr import AHAttr, GlobalRoute
from simmig.verbs.sim.device import Context
from simmig.verbs.sim.link import PATH_MTUS
from simmig.verbs.sim.mr import MR
from simmig.verbs.sim.profiles import RXE, Profile
from tests.verbs.rig import SPEC, End, Rig, attributes, write_pattern

KINDS = ("write", "send", "read")
STRANGE = 0x5A


class Three(Rig):
    """A rig with a third device, linked to the right one, that has never been introduced to it."""

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        fabric = self.sim.fabric
        device = fabric.add_device("rxe2", fabric.add_host("third", self.devices[0].host.costs), profile)
        fabric.connect(device, self.devices[1], SPEC)
        with fabric.use():
            self.stranger = End(Context(name="rxe2"), self.cap, 200, 0)

    def aim(self, **changes: int) -> None:
        """Have the stranger's queue pair claim to be connected to the right one."""
        self.stranger.qp.to_rts(attributes(self.stranger, self.right, **changes))


def post(end: End, kind: str, mr: MR, remote: MR, length: int) -> None:
    if kind == "send":
        end.send(mr, length, 1)
    else:
        getattr(end, kind)(mr, remote, length, 1)


def test_queue_pair_numbers_of_devices_do_not_coincide(profile: Profile) -> None:
    rig = Three(profile)
    ends = [rig.left, rig.right, rig.stranger, rig.end(0), rig.end(1)]
    numbers = [end.qp.qp_num for end in ends]
    assert len({*numbers}) == len(numbers)
    assert all(1 < number < 1 << 24 for number in numbers)


@pytest.mark.parametrize("claim", [False, True], ids=["as itself", "under the peer's number"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_strangers_packets_are_dropped(profile: Profile, kind: str, claim: bool) -> None:
    """It gets no answer; the rightful pair's memory, packet numbers and receives are as if it had never sent."""
    rig = Three(profile)
    left, right, stranger = rig.left, rig.right, rig.stranger
    rig.aim()
    if claim:
        stranger.qp.requester.qp_num = left.qp.qp_num
    target, inbox = right.buffer(3000), right.buffer(3000)
    right.recv(inbox, wr_id=7)
    mr = stranger.buffer(3000)
    mr.write(bytes([STRANGE]) * 3000, 3000)
    post(stranger, kind, mr, target, 3000)
    rig.sim.run()
    assert [(wc.wr_id, wc.status) for wc in stranger.poll_all()] == [(1, e.IBV_WC_RETRY_EXC_ERR)]
    assert stranger.state() == e.IBV_QPS_ERR
    assert right.state() == left.state() == e.IBV_QPS_RTS
    assert not any(target.read(3000, 0) + inbox.read(3000, 0))
    assert right.poll_all() == []
    data = left.buffer(3000)
    content = write_pattern(data)
    left.write(data, target, wr_id=2)
    left.send(data, wr_id=3)
    rig.sim.run()
    assert [(wc.wr_id, wc.status) for wc in left.poll_all()] == [(2, 0), (3, 0)]
    assert [wc.wr_id for wc in right.poll_all()] == [7]
    assert target.read(3000, 0) == inbox.read(3000, 0) == content


def test_packets_of_another_address_of_the_peers_are_dropped(profile: Profile) -> None:
    """The address is the one in the packet, that of the GID sent under, not the device it came from."""
    rig = Rig(profile, connected=False)
    left, right = rig.left, rig.right
    right.qp.to_rts(attributes(right, left))
    attr = attributes(left, right)
    dgid = right.context.query_gid(1, 1)
    attr.ah_attr = AHAttr(is_global=1, gr=GlobalRoute(dgid=dgid, sgid_index=0))
    left.qp.to_rts(attr)
    left.write(left.buffer(64), right.buffer(64), wr_id=1)
    rig.sim.run()
    assert [wc.status for wc in left.poll_all()] == [e.IBV_WC_RETRY_EXC_ERR]


# --- unequal path MTUs ------------------------------------------------------------------------------------------


def unequal(profile: Profile, left_mtu: int, right_mtu: int) -> Rig:
    rig = Rig(profile, spec=replace(SPEC, mtu=4096), connected=False)
    left, right = rig.left, rig.right
    left.qp.to_rts(attributes(left, right, path_mtu=PATH_MTUS[left_mtu]))
    right.qp.to_rts(attributes(right, left, path_mtu=PATH_MTUS[right_mtu]))
    return rig


@pytest.mark.parametrize("length", [0, 1, 512, 1024, 1025, 3000, 4096, 4097, 10000])
@pytest.mark.parametrize("mtus", [(4096, 1024), (1024, 4096)])
@pytest.mark.parametrize("kind", ["write", "send"])
def test_only_packets_of_the_receivers_mtu_are_taken(
    profile: Profile, kind: str, mtus: tuple[int, int], length: int
) -> None:
    """What is one packet at both ends goes through; all else is refused before any of it is placed."""
    rig = unequal(profile, *mtus)
    left, right = rig.left, rig.right
    mr, remote = left.buffer(16384), right.buffer(16384)
    data = write_pattern(mr)
    if kind == "send":
        right.recv(remote, wr_id=9)
    post(left, kind, mr, remote, length)
    rig.sim.run()
    status = [wc.status for wc in left.poll_all()]
    if length <= min(mtus):
        assert status == [e.IBV_WC_SUCCESS]
        assert remote.read(16384, 0) == data[:length] + bytes(16384 - length)
        assert left.state() == right.state() == e.IBV_QPS_RTS
    else:
        assert status == [e.IBV_WC_REM_INV_REQ_ERR]
        assert not any(remote.read(16384, 0))
        assert left.state() == right.state() == e.IBV_QPS_ERR
        assert right.next_event() == e.IBV_EVENT_QP_REQ_ERR


@pytest.mark.parametrize("length", [512, 1024, 1025, 3000, 10000])
@pytest.mark.parametrize("mtus", [(4096, 1024), (1024, 4096)])
def test_a_read_is_answered_in_packets_of_the_responders_mtu(
    profile: Profile, mtus: tuple[int, int], length: int
) -> None:
    rig = unequal(profile, *mtus)
    left, right = rig.left, rig.right
    mr, remote = left.buffer(16384), right.buffer(16384)
    data = write_pattern(remote)
    left.read(mr, remote, length, 1)
    rig.sim.run()
    status = [wc.status for wc in left.poll_all()]
    if length <= min(mtus) or (profile is RXE and mtus[0] < mtus[1]):
        assert status == [e.IBV_WC_SUCCESS]
        assert mr.read(length, 0) == data[:length]
    else:
        assert status == [e.IBV_WC_RETRY_EXC_ERR if profile is RXE else e.IBV_WC_LOC_LEN_ERR]
        assert left.state() == e.IBV_QPS_ERR
    assert right.state() == e.IBV_QPS_RTS


@pytest.mark.parametrize("mtu", [*PATH_MTUS])
def test_equal_mtus_of_any_size_carry_everything(profile: Profile, mtu: int) -> None:
    rig = unequal(profile, mtu, mtu)
    left, right = rig.left, rig.right
    mr, remote = left.buffer(16384), right.buffer(16384)
    data = write_pattern(mr)
    left.write(mr, remote, 10001, 1)
    left.wait()
    left.read(left.buffer(16384), remote, 10001, 2)
    assert left.wait_one().status == e.IBV_WC_SUCCESS
    assert remote.read(16384, 0) == data[:10001] + bytes(16384 - 10001)
