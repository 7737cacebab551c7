"""The link's own interface is taken down, with a migration under way.

On Linux 6.1 no connection can be made from a soft-RoCE device any more once it had to send without a route; only
a new device in its place helps. Deleting the old one waits until nobody has it open any more, which librdmacm has
to the end of its process. So each test has a device of its own, its migration a process of its own, and this file
a session of pytest to itself (`conftest.py` sees to it, and `make test-device`).
"""

import multiprocessing
import subprocess
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from simmig.experiment.result import Result
from tests.device import link
from tests.device.conftest import PATIENCE_S, SOURCE
from tests.device.test_link_faults import Break, check_failed
from tests.device.test_migration import check_completed, migrate

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.device.test_link_taken_down"])


@pytest.fixture(autouse=True)
def _device_of_its_own(verbs: object) -> Iterator[None]:
    link.need()
    yield
    link.up()
    for words in (f"delete {SOURCE}", f"add {SOURCE} type rxe netdev {link.VETH[0]}"):
        subprocess.run(f"rdma link {words}".split(), check=True, capture_output=True, timeout=PATIENCE_S)


def _live(pipe: Connection, directory: Path, for_good: bool) -> None:
    broken = Break(link.down, None if for_good else link.up)
    result = migrate(directory, policy="per-chunk", live=[broken])
    broken.finish(result)
    pipe.send(result)


def _migrate(directory: Path, for_good: bool) -> Result:
    ours, theirs = _SERVER.Pipe()
    process = _SERVER.Process(target=_live, args=(theirs, directory, for_good))
    process.start()
    theirs.close()
    try:
        assert ours.poll(PATIENCE_S)
        result: Any = ours.recv()
        assert isinstance(result, Result)
        return result
    finally:
        process.kill()
        process.join()


def test_for_a_while(tmp_path: Path) -> None:
    """Without a route soft-RoCE fails a packet at once, but for those on their way: either end is right."""
    result = _migrate(tmp_path, for_good=False)
    if result.status == "failed":
        check_failed(result)
    else:
        check_completed(result)


def test_for_good(tmp_path: Path) -> None:
    check_failed(_migrate(tmp_path, for_good=True))


def test_from_the_beginning(tmp_path: Path) -> None:
    link.down()
    with pytest.raises(Exception, match="ip link set veth0 up"):
        migrate(tmp_path)
