"""What public pyverbs programs were found to do (docs/pyverbs.md names them), each in the fewest lines."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from simmig.cli.pyverbs import pyverbs
from tests.verbs.pyverbs.test_programs import run


def test_a_server_waits_at_any_address_before_its_client_has_started(tmp_path: Path) -> None:
    """Both without saying a queue pair's kind, which rdma_cm takes from the port space; man rdma_create_ep(3)."""
    body = """
import time
import pyverbs.cm_enums as ce
from pyverbs.cmid import CMID, AddrInfo

def exchange(cmid, text):
    inbox, outbox = cmid.reg_msgs(100), cmid.reg_msgs(100)
    cmid.post_recv(inbox)
    outbox.write(text, len(text))
    cmid.post_send(outbox)
    cmid.get_send_comp()
    found = cmid.get_recv_comp()
    return inbox.read(found.byte_len, 0).rstrip(bytes(1)).decode()

init = QPInitAttr(cap=QPCap(max_recv_wr=1))
if os.fork() == 0:
    time.sleep(2)
    info = AddrInfo(src="0.0.0.0", dst="198.18.0.1", dst_service="7777", port_space=ce.RDMA_PS_TCP)
    cmid = CMID(creator=info, qp_init_attr=init)
    cmid.connect()
    exchange(cmid, "hello")
    os._exit(0)
info = AddrInfo(src="0.0.0.0", src_service="7777", port_space=ce.RDMA_PS_TCP, flags=ce.RAI_PASSIVE)
listener = CMID(creator=info, qp_init_attr=init)
listener.listen(1)
cmid = listener.get_request()
cmid.accept()
listener.close()
print(exchange(cmid, "and to you"))
os.wait()
"""
    assert run(tmp_path, body) == "hello"


def test_programs_name_their_devices(tmp_path: Path) -> None:
    body = "print(*NAMES, d.Context(name='rocep1s0f1').name)"
    assert run(tmp_path, body, "--devices", "mlx5_7,rocep1s0f1") == "mlx5_7 rocep1s0f1 rocep1s0f1"


@pytest.mark.parametrize("devices", ["0", "65", "rxe0,rxe0", "rxe0,", "../x", "-1"])
def test_devices_that_cannot_be(devices: str) -> None:
    done = CliRunner().invoke(pyverbs, [f"--devices={devices}", "--", "true"])
    assert done.exit_code == 2
    assert "--devices" in done.output


def test_nothing_is_said_at_the_end_of_a_program_that_closed_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, "import subprocess\nkept = pair()\nprint('done')") == "done"


def test_what_is_closed_by_a_destructor_at_the_very_end_is_no_error(tmp_path: Path) -> None:
    body = """
class Connection:
    def __init__(self):
        self.cq = CQ(d.Context(name=NAMES[0]), 4)
    def __del__(self):
        self.cq.close()
kept = Connection()
print("done")
"""
    assert run(tmp_path, body) == "done"


def test_queue_pair_numbers_have_as_many_digits_on_every_device(tmp_path: Path) -> None:
    """A message with one's own number is as long as the peer's, whose length the receive was given."""
    body = "print({len(str(End(name).qp.qp_num)) for name in NAMES})"
    assert run(tmp_path, body, "--devices", "64") == "{7}"


def test_sigterm_is_passed_on_and_leaves_nothing_behind(tmp_path: Path) -> None:
    program = "import os, time; print(os.environ['SIMMIG_PYVERBS'], flush=True); time.sleep(60)"
    command = [sys.executable, "-m", "simmig.cli", "pyverbs", "--", sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = Path(process.stdout.readline().strip())
        assert address.exists()
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not address.parent.exists()


def test_an_events_arrival_can_be_selected_for(tmp_path: Path) -> None:
    """man ibv_get_cq_event(3): a program polls the channel's file descriptor among others."""
    body = """
import select
left, right = pair()
poller = select.poll()
poller.register(right.channel.fd, select.POLLIN)
right.cq.req_notify()
right.qp.post_recv(RecvWR(7, 1, [SGE(right.mr.buf, 64, right.mr.lkey)]))
before = poller.poll(0)
left.qp.post_send(SendWR(1, e.IBV_WR_SEND, 1, 0, [SGE(left.mr.buf, 64, left.mr.lkey)]))
woken = poller.poll(60_000)
right.channel.get_cq_event(right.cq)
right.cq.ack_events(1)
print(len(before), len(woken), right.cq.poll(1)[1][0].wr_id, len(poller.poll(0)))
"""
    assert run(tmp_path, body) == "0 1 7 0"
