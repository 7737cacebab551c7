"""The mirror of pyverbs: names, arguments, defaults, errors, blocking; and what is not modelled."""

from __future__ import annotations

import errno
import importlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any, get_args, get_type_hints

import pytest

import simmig.verbs.sim as verbs
from simmig.verbs import ProfileName, api
from simmig.verbs.api import Verbs
from simmig.verbs.rdma.binding import load
from simmig.verbs.rdma.errors import RdmaUnavailable
from simmig.verbs.sim import addr, cq, device, enums, mr, pd, qp, wr
from simmig.verbs.sim import enums as e
from simmig.verbs.sim.pyverbs_error import PyverbsError, PyverbsRDMAError, PyverbsUserError
from simmig.verbs.sim.timeline import Timeline
from tests.verbs.rig import ALL_ACCESS, End, Rig, attributes, rdma_wr, refused, send_wr

SIGNATURES = {
    qp.QPCap: "max_send_wr=1, max_recv_wr=10, max_send_sge=1, max_recv_sge=1, max_inline_data=0",
    qp.QPInitAttr: "qp_type=4, qp_context=None, scq=None, rcq=None, srq=None, cap=None, sq_sig_all=1",
    qp.QPAttr: "qp_state=1, cur_qp_state=0, port_num=1, path_mtu=3",
    qp.QP: "creator, init_attr, qp_attr=None",
    qp.QP.post_send: "wr, bad_wr=None",
    qp.QP.post_recv: "wr, bad_wr=None",
    qp.QP.modify: "qp_attr, comp_mask",
    qp.QP.query: "attr_mask",
    qp.QP.to_init: "qp_attr",
    qp.QP.to_rtr: "qp_attr",
    qp.QP.to_rts: "qp_attr",
    cq.CQ: "context, cqe, cq_context=None, channel=None, comp_vector=0",
    cq.CQ.poll: "num_entries=1",
    cq.CQ.req_notify: "solicited_only=False",
    cq.CQ.ack_events: "num_events",
    cq.CQ.resize: "cqe",
    cq.CompChannel: "context",
    cq.CompChannel.get_cq_event: "expected_cq",
    mr.MR: "creator, length=0, access=0, address=None, implicit=False, **kwargs",
    mr.MR.read: "length, offset",
    mr.MR.write: "data, length, offset=0",
    pd.PD: "creator, **kwargs",
    wr.SGE: "addr, length, lkey",
    wr.SendWR.set_wr_rdma: "rkey, addr",
    addr.AHAttr: "dlid=0, sl=0, src_path_bits=0, static_rate=0, is_global=0, port_num=1, gr=None",
    addr.GlobalRoute: "dgid=None, flow_label=0, sgid_index=0, hop_limit=1, traffic_class=0",
    addr.GID: "val=None",
    device.Context: "**kwargs",
    device.Context.query_gid: "port_num, index",
    device.Context.query_port: "port_num",
}
"""As pyverbs has them (rdma-core 44 and 59)."""


@pytest.mark.parametrize("call", list(SIGNATURES), ids=lambda call: call.__qualname__)
def test_signatures_are_pyverbs(call: Callable[..., Any]) -> None:
    shown = []
    for name, parameter in inspect.signature(call).parameters.items():
        if name == "self":
            continue
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        value = parameter.default
        value = int(value) if isinstance(value, int) and not isinstance(value, bool) else value
        shown.append(f"{stars}{name}" + ("" if parameter.default is parameter.empty else f"={value}"))
    assert ", ".join(shown) == SIGNATURES[call]


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (wr.SendWR, "wr_id opcode num_sge imm_data sg send_flags next_wr"),
        (wr.RecvWR, "wr_id num_sge sg next_wr"),
        (
            cq.WC,
            "wr_id status opcode vendor_err byte_len qp_num src_qp imm_data wc_flags pkey_index slid sl "
            "dlid_path_bits",
        ),
    ],
)
def test_leading_arguments_are_pyverbs(call: Callable[..., Any], names: str) -> None:
    expected = names.split()
    assert list(inspect.signature(call).parameters)[: len(expected)] == expected


def test_defaults_hide_selective_signalling_as_in_pyverbs() -> None:
    assert qp.QPInitAttr().sq_sig_all == 1
    assert wr.SendWR(num_sge=1, sg=[wr.SGE(0, 0, 0)]).send_flags == e.IBV_SEND_SIGNALED


SEAM: dict[str, type] = {
    name: kind
    for name, kind in vars(api).items()
    if inspect.isclass(kind) and kind.__module__ == api.__name__ and name[0] != "_" and name != "Verbs"
}


def _members(kind: type) -> dict[str, Any]:
    return {name: member for each in kind.__mro__[:-3] for name, member in vars(each).items() if name[0] != "_"}


def _of(namespace: ModuleType, name: str) -> Any:
    return getattr(namespace, name, None) or getattr(cq, name)


@pytest.fixture
def objects() -> dict[str, object]:
    """One of each of the seam's, as the simulator makes them."""
    end = Rig().left
    sge = wr.SGE(0, 8, 0)
    return {
        "Context": end.context,
        "PD": end.pd,
        "CompChannel": end.channel,
        "CQ": end.cq,
        "MR": end.buffer(8),
        "QP": end.qp,
        "QPHandle": end.qp,
        "WC": cq.WC(),
        "SGE": sge,
        "SendWR": wr.SendWR(num_sge=1, sg=[sge]),
        "RecvWR": wr.RecvWR(),
        "QPCap": qp.QPCap(),
        "QPInitAttr": qp.QPInitAttr(),
    }


@pytest.mark.parametrize("name", SEAM)
def test_simulated_objects_have_what_the_seam_says(name: str, objects: dict[str, object]) -> None:
    """Members by name, methods by their arguments; each takes the simulator's own where the seam says which."""
    for member, declared in _members(SEAM[name]).items():
        found = getattr(objects[name], member)
        if isinstance(declared, property):
            wanted = get_type_hints(declared.fget)["return"]
            assert isinstance(found, _of(verbs, wanted.__name__) if wanted in SEAM.values() else wanted)
            continue
        ours, theirs = (list(inspect.signature(each).parameters.values()) for each in (declared, found))
        assert [(each.name, each.default) for each in ours[1:]] == [(each.name, each.default) for each in theirs]
        declared_types, simulated_types = get_type_hints(declared), get_type_hints(found)
        for each in theirs:
            if (kind := declared_types[each.name]) in SEAM.values():
                assert simulated_types[each.name] is _of(verbs, kind.__name__)


SEAM_MAKERS = [name for name in _members(Verbs) if name in SEAM]


@pytest.mark.parametrize("name", SEAM_MAKERS)
def test_what_makes_simulated_objects_takes_what_the_seam_says(name: str) -> None:
    ours = list(inspect.signature(getattr(Verbs, name)).parameters.values())[1:]
    theirs = inspect.signature(_of(verbs, name)).parameters
    for place, each in enumerate(ours):
        if each.kind is each.POSITIONAL_ONLY:
            (found,) = list(theirs.values())[place : place + 1]
        else:
            found = theirs[each.name]
        if each.default is not each.empty:
            assert found.default == each.default


def test_the_profiles_are_those_that_have_a_name() -> None:
    assert tuple(verbs.PROFILES) == get_args(ProfileName)


def test_the_namespace_is_what_the_migration_wants() -> None:
    assert set(SEAM) - set(SEAM_MAKERS) == {"Context", "WC", "QPHandle"}
    for name in _members(Verbs):
        assert hasattr(verbs, name)
    assert verbs.enums is enums


@pytest.mark.parametrize("name", [name for name in SEAM if name != "QPHandle"])
def test_pyverbs_own_classes_have_what_the_seam_says(name: str) -> None:
    try:
        binding = load()
    except RdmaUnavailable as reason:
        pytest.skip(str(reason))
    kind = getattr(binding, name, None) or importlib.import_module("pyverbs.cq").WC
    missing = [member for member in _members(SEAM[name]) if not hasattr(kind, member)]
    assert not missing


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IBV_WC_SUCCESS", 0),
        ("IBV_WC_WR_FLUSH_ERR", 5),
        ("IBV_WC_REM_ACCESS_ERR", 10),
        ("IBV_WC_RNR_RETRY_EXC_ERR", 13),
        ("IBV_WC_RECV", 128),
        ("IBV_WC_RECV_RDMA_WITH_IMM", 129),
        ("IBV_WR_RDMA_WRITE", 0),
        ("IBV_WR_RDMA_READ", 4),
        ("IBV_QPT_RC", 2),
        ("IBV_QPS_ERR", 6),
        ("IBV_QP_DEST_QPN", 1 << 20),
        ("IBV_ACCESS_REMOTE_READ", 4),
        ("IBV_SEND_INLINE", 8),
        ("IBV_EVENT_SQ_DRAINED", 5),
        ("IBV_EVENT_PORT_ERR", 10),
        ("IBV_MTU_4096", 5),
    ],
)
def test_constants(name: str, value: int) -> None:
    """Against infiniband/verbs.h."""
    assert getattr(enums, name) == value
    assert getattr(enums, name).name == name


def test_errors_are_pyverbs() -> None:
    error = PyverbsRDMAError("It failed", errno.EINVAL)
    assert str(error) == f"It failed. Errno: {errno.EINVAL}, Invalid argument"
    assert error.error_code == errno.EINVAL
    assert PyverbsRDMAError("It failed").error_code == -1
    assert isinstance(error, PyverbsError)
    assert not issubclass(PyverbsUserError, PyverbsRDMAError)


@pytest.mark.parametrize(
    "make",
    [
        lambda end: mr.DMMR(end.pd, 64),
        lambda end: mr.MR(end.pd, 4096, e.IBV_ACCESS_ON_DEMAND),
        lambda end: mr.MR(end.pd, 4096, ALL_ACCESS, None, True),
        lambda end: cq.CQEX(end.context, None),
        lambda end: qp.QPEx(end.context, None),
        lambda end: qp.QPInitAttrEx(),
        lambda end: addr.AH(end.pd, attr=addr.AHAttr()),
        lambda end: qp.QP(end.context, qp.QPInitAttr(qp_type=e.IBV_QPT_RC, scq=end.cq, rcq=end.cq)),
        lambda end: send_wr(end.buffer(8)).set_qp_type_xrc(1),
        lambda end: device.Context(name="rxe0", attr=object()),
        lambda end: pd.PD(end.context, handle=3),
        lambda end: pd.ParentDomain(end.context),
        lambda end: device.DM(end.context, None),
    ],
)
def test_what_is_not_modelled_is_eopnotsupp(make: Callable[[End], object]) -> None:
    refused(errno.EOPNOTSUPP, make, Rig().left)


@pytest.mark.parametrize("opcode", [e.IBV_WR_TSO, e.IBV_WR_FLUSH])
def test_opcodes_not_modelled_are_eopnotsupp(opcode: int) -> None:
    rig = Rig()
    wr_ = rdma_wr(opcode, rig.left.buffer(64), rig.right.buffer(64))
    refused(errno.EOPNOTSUPP, rig.left.qp.post_send, wr_)


def test_devices_are_found_by_name_in_the_fabric_in_use() -> None:
    rig = Rig()
    with pytest.raises(PyverbsUserError, match=r"fabric\.use"):
        device.Context(name="rxe0")
    with rig.sim.fabric.use():
        names = [found.name for found in device.get_device_list()]
        assert names == [b"rxe0", b"rxe1"]
        with device.Context(name="rxe1") as context:
            assert context.name == "rxe1"
        with pytest.raises(PyverbsRDMAError, match="Failed to find device mlx5_0"):
            device.Context(name="mlx5_0")
        with pytest.raises(PyverbsUserError, match="Device name must be provided"):
            device.Context()
    with pytest.raises(PyverbsUserError):
        device.get_device_list()


def test_queries(rig: Rig) -> None:
    context = rig.left.context
    attr = context.query_device()
    assert attr.max_qp_wr == rig.profile.max_work_requests
    assert attr.max_qp_rd_atom == rig.profile.max_outstanding_reads
    port = context.query_port(1)
    assert (port.state, port.active_mtu, port.link_layer) == (e.IBV_PORT_ACTIVE, e.IBV_MTU_1024, 2)
    assert port.max_msg_sz == rig.profile.max_message_bytes
    gids = [context.query_gid(1, index).gid for index in range(2)]
    assert gids[0].startswith("fe80:")
    assert "ffff" in gids[1]
    assert context.query_pkey(1, 0) == 0xFFFF
    refused(errno.EINVAL, context.query_port, 2)
    assert context.query_gid(1, 2).gid == ":".join(["0000"] * 8)  # an empty entry, as sysfs shows it
    with pytest.raises(PyverbsRDMAError):
        context.query_gid(1, port.gid_tbl_len)


def test_a_message_longer_than_the_device_takes_is_loc_len_err(rig: Rig) -> None:
    limit = rig.profile.max_message_bytes
    left = rig.left
    memory = rig.devices[0].host.memory

    class Endless:
        length_bytes = limit + 1

        def dma_read(self, offset: int, length: int) -> bytes:
            raise AssertionError("never sent")

        def dma_write(self, offset: int, payload: Any) -> None:
            raise AssertionError("never written")

    address = memory.map(Endless(), limit + 1)
    long = mr.MR(left.pd, limit + 1, e.IBV_ACCESS_LOCAL_WRITE, address)
    left.write(long, rig.right.buffer(64), limit + 1)
    assert left.wait_one().status == e.IBV_WC_LOC_LEN_ERR


def test_addresses() -> None:
    gid = addr.GID("FE80:0000:0000:0000:0000:00ff:0000:0001")
    assert str(gid) == gid.gid == "fe80:0000:0000:0000:0000:00ff:0000:0001"
    for wrong in ("fe80::1", "fe80:0000:0000:0000:0000:00ff:0000:000g", ""):
        with pytest.raises(PyverbsUserError, match="Invalid GID"):
            addr.GID(wrong)
    with pytest.raises(PyverbsUserError):
        addr.AHAttr(is_global=1)
    route = addr.GlobalRoute(dgid=gid, sgid_index=1)
    attr = addr.AHAttr(is_global=1, gr=route)
    route.dgid = "fe80:0000:0000:0000:0000:00ff:0000:0009"  # copied, as in pyverbs
    assert attr.dgid == gid.gid
    assert addr.AHAttr().dgid is None


@pytest.mark.parametrize("dgid", ["fe80:0000:0000:0000:0000:00ff:0000:0077", None])
def test_an_address_no_link_leads_to_is_einval(dgid: str | None) -> None:
    rig = Rig(connected=False)
    attr = attributes(rig.left, rig.right)
    if dgid is None:
        attr.ah_attr = addr.AHAttr()
    else:
        attr.ah_attr = addr.AHAttr(is_global=1, gr=addr.GlobalRoute(dgid=addr.GID(dgid)))
    refused(errno.EINVAL, rig.left.qp.to_rtr, attr)


# --- plain blocking code ----------------------------------------------------------------------------------------


def test_polling_an_empty_cq_lets_time_go_on_to_the_next_event() -> None:
    rig = Rig()
    times = [1_000, 2_500]
    for at_ns in times:
        rig.sim.env.timeout(at_ns)
    for at_ns in times:
        assert rig.left.cq.poll() == (0, [])
        assert rig.sim.now == at_ns
    assert rig.left.cq.poll() == (0, [])  # nothing left: as a device that stays silent
    assert rig.sim.now == times[-1]


def test_a_spinning_loop_gets_its_completion(rig: Rig) -> None:
    rig.left.write(rig.left.buffer(64), rig.right.buffer(64))
    spins = 0
    while not (found := rig.left.cq.poll())[0]:
        spins += 1
    assert found[1][0].status == e.IBV_WC_SUCCESS
    assert spins < 10


def test_get_cq_event_blocks(rig: Rig) -> None:
    left = rig.left
    left.cq.req_notify()
    left.write(left.buffer(1000), rig.right.buffer(1000))
    left.channel.get_cq_event(left.cq)
    assert rig.sim.now == 1000 + 2 * 1000
    assert left.cq.poll()[0] == 1


def test_get_async_event_blocks_and_gives_up(rig: Rig) -> None:
    left = rig.left
    refused(errno.EDEADLK, left.context.get_async_event)
    rig.sim.at(5_000, lambda: rig.sim.fabric.links[0].set_up(False))
    event = left.context.get_async_event()
    assert (event.event_type, rig.sim.now) == (e.IBV_EVENT_PORT_ERR, 5_000)
    assert "IBV_EVENT_PORT_ERR" in str(event)


def test_inside_a_task_nothing_blocks() -> None:
    """The environment is being run: a call that would wait is an error there, and a poll lets no time pass."""
    rig = Rig()
    seen: list[Any] = []

    def process() -> Any:
        seen.append(rig.left.cq.poll())
        for call, args in (
            (rig.left.channel.get_cq_event, (rig.left.cq,)),
            (rig.left.context.get_async_event, ()),
        ):
            try:
                call(*args)
            except PyverbsRDMAError as error:
                seen.append(error.error_code)
        yield rig.sim.env.timeout(1)

    rig.sim.env.process(process())
    rig.sim.run()
    assert seen == [(0, []), errno.EAGAIN, errno.EAGAIN]


def test_comm_est_is_raised_before_rts(rig: Rig) -> None:
    fresh = Rig(rig.profile, connected=False)
    left, right = fresh.left, fresh.right
    right.qp.to_rtr(attributes(right, left))
    left.qp.to_rts(attributes(left, right))
    for _ in range(2):
        left.write(left.buffer(64), right.buffer(64))
    left.wait(2)
    assert right.next_event() == e.IBV_EVENT_COMM_EST
    refused(errno.EDEADLK, right.context.get_async_event)  # once


def test_closing_a_context_closes_all_that_was_made_on_it() -> None:
    rig = Rig()
    left, sim_device = rig.left, rig.devices[0]
    left.buffer(64)
    left.context.close()
    assert not sim_device.mrs
    assert not sim_device.qps
    assert not sim_device.contexts
    left.context.close()
    for obj in (left.qp, left.cq, left.channel, left.pd):
        obj.close()


def test_closing_a_pd_takes_its_regions() -> None:
    rig = Rig()
    region = rig.left.buffer(64)
    rig.left.pd.close()
    assert not rig.devices[0].mrs
    with pytest.raises(PyverbsUserError, match="isn't allocated"):
        region.read(1, 0)


def test_memory_reading_and_writing() -> None:
    rig = Rig()
    region = rig.left.buffer(100)
    region.write("text", 4, 10)
    assert region.read(4, 10) == b"text"
    region.write(b"longer", 3)
    assert region.read(6, 0) == b"lon\0\0\0"
    with pytest.raises(PyverbsUserError):
        region.write(b"x" * 200, 200)
    with pytest.raises(PyverbsUserError):
        region.read(4, -1)


def test_resize() -> None:
    rig = Rig(depth=10)
    rig.left.cq.resize(50)
    assert rig.left.cq.cqe >= 50
    rig.left.cq.entries.extend(cq.WC(index) for index in range(5))
    refused(errno.EINVAL, rig.left.cq.resize, 4)


def test_printing_does_not_fail() -> None:
    rig = Rig()
    rig.left.write(rig.left.buffer(64), rig.right.buffer(64))
    shown = [
        str(thing)
        for thing in (
            rig.left.wait_one(),
            send_wr(rig.left.buffer(8)),
            wr.RecvWR(),
            wr.SGE(1, 2, 3),
            rig.left.init_attr.cap,
        )
    ]
    assert all(shown)
    assert "WR ID" in shown[0]


def test_names_are_unique() -> None:
    fabric = verbs.Fabric(Timeline())
    host = fabric.add_host("a")
    fabric.add_device("x", host)
    with pytest.raises(ValueError, match="'a'"):
        fabric.add_host("a")
    with pytest.raises(ValueError, match="'x'"):
        fabric.add_device("x", host)


def test_a_device_can_talk_to_itself() -> None:
    env = Timeline()
    fabric = verbs.Fabric(env)
    loop = fabric.add_device("rxe0", fabric.add_host("a"))
    fabric.connect(loop, loop, verbs.LinkSpec(8_000_000_000, mtu=1024))
    ends = [End(device.Context(device=loop), qp.QPCap(8, 8), 16, 0) for _ in range(2)]
    Rig.connect(*ends)
    source, target = ends[0].buffer(5000), ends[1].buffer(5000)
    source.write(b"around", 6)
    for wr_id in range(4):
        ends[0].write(source, target, wr_id=wr_id)
    assert [completion.wr_id for completion in ends[0].wait(4)] == [0, 1, 2, 3]
    assert target.read(6, 0) == b"around"
