"""Programs under `simmig pyverbs`, as they are: in one process, in several, with threads, and gone too soon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from simmig.verbs.sim.profiles import PROFILES

PRELUDE = """
import errno, gc, os, sys, threading
import pyverbs.device as d
import pyverbs.enums as e
from pyverbs.addr import AHAttr, GlobalRoute
from pyverbs.cq import CQ, CompChannel
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsRDMAError
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, RecvWR, SendWR

ACCESS = e.IBV_ACCESS_LOCAL_WRITE | e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_REMOTE_READ
NAMES = [device.name.decode() for device in d.get_device_list()]

class End:
    def __init__(self, name):
        self.ctx = d.Context(name=name)
        self.pd = PD(self.ctx)
        self.channel = CompChannel(self.ctx)
        self.cq = CQ(self.ctx, 64, None, self.channel)
        init = QPInitAttr(qp_type=e.IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=QPCap(8, 8, 2, 2, 0), sq_sig_all=0)
        self.qp = QP(self.pd, init)
        self.mr = MR(self.pd, 4096, ACCESS)
        self.gid_index = next(i for i in range(8) if "ffff" in str(self.ctx.query_gid(1, i))
                              and self.ctx.query_gid_type(1, i) == e.IBV_GID_TYPE_SYSFS_ROCE_V2)

    def connect(self, qp_num, gid):
        attr = QPAttr()
        attr.qp_access_flags, attr.dest_qp_num = ACCESS, qp_num
        attr.ah_attr = AHAttr(is_global=1, gr=GlobalRoute(gid, sgid_index=self.gid_index))
        attr.max_rd_atomic = attr.max_dest_rd_atomic = 1
        attr.min_rnr_timer, attr.timeout, attr.retry_cnt, attr.rnr_retry = 12, 14, 6, 6
        self.qp.to_rts(attr)

    def gid(self):
        return self.ctx.query_gid(1, self.gid_index)

    def write(self, rkey, addr, length=64, wr_id=1):
        wr = SendWR(wr_id, e.IBV_WR_RDMA_WRITE, 1, 0, [SGE(self.mr.buf, length, self.mr.lkey)])
        wr.set_wr_rdma(rkey, addr)
        self.qp.post_send(wr)

    def status(self):
        count, found = self.cq.poll(1)
        return found[0].status if count else None

def pair():
    left, right = End(NAMES[0]), End(NAMES[1])
    left.connect(right.qp.qp_num, right.gid())
    right.connect(left.qp.qp_num, left.gid())
    return left, right
"""


def run(tmp_path: Path, body: str, *options: str, python: str = sys.executable) -> str:
    """Run that program; returns what it printed."""
    program = tmp_path / "program.py"
    program.write_text(PRELUDE + body)
    command = [sys.executable, "-m", "simmig.cli", "pyverbs", *options, "--", python, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.parametrize("profile", [*PROFILES])
def test_one_poll_after_a_handshake_sees_what_has_arrived(tmp_path: Path, profile: str) -> None:
    body = """
left, right = pair()
left.mr.write("here", 4)
left.write(right.mr.rkey, right.mr.buf)
print(left.status(), right.mr.read(4, 0).decode())
"""
    assert run(tmp_path, body, "--profile", profile) == "0 here"


@pytest.mark.parametrize("profile", [*PROFILES])
def test_what_nobody_refers_to_is_closed(tmp_path: Path, profile: str) -> None:
    """pyverbs closes on deallocation: a region is REM_ACCESS_ERR at the peer then, a queue pair answers nobody."""
    body = """
left, right = pair()
rkey, addr = right.mr.rkey, right.mr.buf
del right.mr
left.write(rkey, addr)
print(left.status())
left, right = pair()
rkey, addr = right.mr.rkey, right.mr.buf
del right.qp
left.write(rkey, addr)
while (status := left.status()) is None:
    pass
print(status)
"""
    assert run(tmp_path, body, "--profile", profile).split() == ["10", "12"]


def test_memory_can_be_polled_for_arrival(tmp_path: Path) -> None:
    body = """
left, right = pair()
left.mr.write("!", 1)
left.write(right.mr.rkey, right.mr.buf)
while right.mr.read(1, 0) != b"!":
    pass
print("arrived")
"""
    assert run(tmp_path, body) == "arrived"


def test_processes_share_the_devices_and_a_dead_ones_are_given_back(tmp_path: Path) -> None:
    body = """
ours, theirs = os.pipe(), os.pipe()
if os.fork() == 0:
    right = End(NAMES[1])
    os.write(ours[1], f"{right.qp.qp_num} {right.mr.rkey} {right.mr.buf}\\n".encode())
    right.connect(int(os.read(theirs[0], 64)), d.Context(name=NAMES[0]).query_gid(1, right.gid_index))
    os.write(ours[1], b"connected")
    while right.mr.read(1, 0) != b"x":
        pass
    os._exit(0)
left = End(NAMES[0])
qp_num, rkey, addr = map(int, os.read(ours[0], 64).split())
os.write(theirs[1], str(left.qp.qp_num).encode())
left.connect(qp_num, d.Context(name=NAMES[1]).query_gid(1, left.gid_index))
os.read(ours[0], 64)
left.mr.write("x", 1)
left.write(rkey, addr, 1)
while (status := left.status()) is None:
    pass
os.wait()
left.write(rkey, addr, 1)
while (after := left.status()) is None:
    pass
print(status, after)
"""
    assert run(tmp_path, body).split() == ["0", "12"]


def test_a_thread_waits_while_another_sends(tmp_path: Path) -> None:
    body = """
left, right = pair()
right.cq.req_notify()
right.qp.post_recv(RecvWR(7, 1, [SGE(right.mr.buf, 64, right.mr.lkey)]))
def wait():
    right.channel.get_cq_event(right.cq)
    right.cq.ack_events(1)
    print("woken", right.cq.poll(1)[1][0].wr_id)
waiter = threading.Thread(target=wait)
waiter.start()
left.qp.post_send(SendWR(1, e.IBV_WR_SEND, 1, 0, [SGE(left.mr.buf, 64, left.mr.lkey)]))
waiter.join(60)
"""
    assert run(tmp_path, body) == "woken 7"


def test_waiting_for_what_cannot_happen_is_an_error(tmp_path: Path) -> None:
    body = """
end = End(NAMES[0])
try:
    end.channel.get_cq_event(end.cq)
except PyverbsRDMAError as error:
    print(error.error_code == errno.EDEADLK)
"""
    assert run(tmp_path, body) == "True"


NUMBERS = {
    "SendWR(-1, num_sge=1, sg=[SGE(0, 0, 0)])": "OverflowError",
    "SendWR(1 << 64, num_sge=1, sg=[SGE(0, 0, 0)])": "OverflowError",
    "SGE(0, 1 << 32, 0)": "OverflowError",
    "SGE(-1, 0, 0)": "OverflowError",
    "SGE(0, 0, 1 << 32)": "OverflowError",
    "RecvWR(0, 3, [SGE(0, 0, 0)])": "IndexError",
    "SendWR(0, e.IBV_WR_SEND, 2, 0, [SGE(0, 0, 0)])": "IndexError",
    "SendWR(num_sge=1, sg=[SGE(0, 0, 0)]).set_wr_rdma(1 << 32, 0)": "OverflowError",
    "setattr(QPAttr(), 'dest_qp_num', 1 << 32)": "OverflowError",
    "QPCap(-1)": "OverflowError",
}


def test_numbers_that_c_does_not_hold_are_refused(tmp_path: Path) -> None:
    body = f"""
for what in {list(NUMBERS)!r}:
    try:
        eval(what)
    except (OverflowError, IndexError) as error:
        print(type(error).__name__)
    else:
        print("taken", what)
"""
    assert run(tmp_path, body).splitlines() == list(NUMBERS.values())


def test_the_commands_and_files_say_what_the_devices_are(tmp_path: Path) -> None:
    body = """
import json, subprocess
links = json.loads(subprocess.check_output(["rdma", "link", "show", "-j"]))
net = os.listdir(f"/sys/class/infiniband/{NAMES[1]}/device/net")[0]
address = json.loads(subprocess.check_output(["ip", "-j", "addr", "show", net]))[0]["addr_info"][0]["local"]
print([link["ifname"] for link in links] == NAMES, links[1]["netdev"] == net, address)
"""
    assert run(tmp_path, body, "--profile", "rxe", "--devices", "3") == "True True 198.18.0.2"


def test_gid_tables_are_the_profiles(tmp_path: Path) -> None:
    body = """
ctx = d.Context(name=NAMES[0])
print([entry.gid_type for entry in ctx.query_gid_table(1024)], ctx.query_device().vendor_id)
"""
    assert run(tmp_path, body, "--profile", "rxe") == "[2, 2] 16777215"
    assert run(tmp_path, body, "--profile", "mlx5") == "[1, 2, 1, 2] 713"


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simmig.cli", "pyverbs", "--", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 126
    assert done.stderr.count("\n") == 1
