"""What posting costs the host, and when: a soft device's packets leave while the caller carries them."""

from simmig.verbs.sim import enums as e
from simmig.verbs.sim.addr import AHAttr, GlobalRoute
from simmig.verbs.sim.cq import CQ
from simmig.verbs.sim.device import Context
from simmig.verbs.sim.fabric import Fabric
from simmig.verbs.sim.host import HostCosts
from simmig.verbs.sim.link import LinkSpec
from simmig.verbs.sim.mr import MR
from simmig.verbs.sim.nic import SimDevice
from simmig.verbs.sim.pd import PD
from simmig.verbs.sim.qp import QP, QPAttr, QPCap, QPInitAttr
from simmig.verbs.sim.runtime import SimRuntime
from simmig.verbs.sim.timeline import Timeline
from simmig.verbs.sim.wr import SGE, SendWR

LENGTH = 40_960
POST_NS, BYTE_NS = 700, 2
LINK_BYTE_NS = 8  # 1 Gbit/s


class End:
    def __init__(self, device: SimDevice) -> None:
        self.context = Context(device=device)
        self.pd = PD(self.context)
        self.cq = CQ(self.context, 16, None, None, 0)
        cap = QPCap(8, 8, 1, 1, 0)
        self.qp = QP(self.pd, QPInitAttr(qp_type=e.IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=cap, sq_sig_all=1))
        self.mr = MR(self.pd, LENGTH, e.IBV_ACCESS_LOCAL_WRITE | e.IBV_ACCESS_REMOTE_WRITE)

    def connect(self, peer: "End") -> None:
        attr = QPAttr(path_mtu=e.IBV_MTU_4096)
        attr.qp_access_flags = e.IBV_ACCESS_REMOTE_WRITE
        attr.dest_qp_num = peer.qp.qp_num
        attr.ah_attr = AHAttr(is_global=1, gr=GlobalRoute(dgid=peer.context.query_gid(1, 1), sgid_index=1))
        self.qp.to_rts(attr)

    def write_to(self, peer: "End") -> None:
        sge = SGE(self.mr.buf, LENGTH, self.mr.lkey)
        wr = SendWR(opcode=e.IBV_WR_RDMA_WRITE, num_sge=1, sg=[sge], send_flags=e.IBV_SEND_SIGNALED)
        wr.set_wr_rdma(peer.mr.rkey, peer.mr.buf)
        self.qp.post_send(wr)


def test_bytes_are_carried_by_a_post_on_an_idle_queue_while_they_leave() -> None:
    env = Timeline()
    fabric = Fabric(env)
    costs = HostCosts(post_ns=POST_NS, post_byte_ns=BYTE_NS)
    devices = [fabric.add_device(f"rxe{i}", fabric.add_host(f"host{i}", costs)) for i in range(2)]
    fabric.connect(devices[0], devices[1], LinkSpec(8_000_000_000 // LINK_BYTE_NS, mtu=4096))
    source, target = (End(device) for device in devices)
    source.connect(target)
    target.connect(source)
    host = devices[0].host
    runtime = SimRuntime(host)
    debts: list[int] = []
    completed_ns: list[int] = []

    async def writer() -> None:
        source.write_to(target)  # on an idle queue: the call, and its bytes
        debts.append(host.debt_ns)
        await runtime.checkpoint()
        source.write_to(target)  # the first is still on its way: the call alone
        debts.append(host.debt_ns)
        while len(completed_ns) < 2:
            await runtime.sleep(1)
            count, _ = source.cq.poll(2)
            completed_ns.extend([int(env.now)] * count)
        source.write_to(target)  # idle again
        debts.append(host.debt_ns)

    task = runtime.start(writer(), "writer")
    env.run()
    assert task.done
    assert debts == [POST_NS + LENGTH * BYTE_NS, POST_NS, POST_NS + LENGTH * BYTE_NS]
    # Sent from the end of the call on, not from the end of carrying: the link's time for both writes, no more.
    assert completed_ns[0] <= POST_NS + LENGTH * LINK_BYTE_NS + 2
    assert completed_ns[1] <= POST_NS + 2 * LENGTH * LINK_BYTE_NS + 2
