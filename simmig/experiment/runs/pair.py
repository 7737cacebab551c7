"""Both ends of a migration on this host, each in a process of its own, as they would be on two hosts.

In one process the ends take turns; in two they work at the same time, as a simulation's two hosts do.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from simmig.experiment.runs.ends import Address, EndResult, receive, send
from simmig.experiment.runs.run_rdma import CONTROL_BYTES, PORT
from simmig.experiment.scenario.machine import Devices, machine_of
from simmig.experiment.scenario.schema import Scenario
from simmig.guest import forking
from simmig.guest.api import PAGE_BYTES
from simmig.trace.readers import Reader
from simmig.trace.recorder import Sink
from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import load

_PATIENCE_S = 30.0


class PeerFailed(Exception):
    """The other process ended before it could do its part; the text says what it said."""


def run_pair(
    scenario: Scenario,
    devices: Devices,
    live: Sequence[Reader] = (),
    readers: Sequence[Reader] = (),
    sink: Sink | None = None,
) -> EndResult:
    """Migrate from this process to another. Arguments as of `send`; raises what it does, and PeerFailed.

    Ctrl-C raises KeyboardInterrupt once the migration has been cancelled.
    """
    binding = load()
    for name in (devices.source, devices.destination):
        device.check(binding, name)
    device.check_memlock(machine_of(scenario).pages * PAGE_BYTES + CONTROL_BYTES)
    at = Address(device.address(binding, devices.destination).ip, PORT)

    def serve(ready: Callable[[], None]) -> None:
        receive(scenario, at, devices.destination, lambda _: ready())

    with beside(serve):
        result = send(scenario, at, devices.source, live, readers, sink)
    if result.status == "cancelled":
        raise KeyboardInterrupt
    return result


@contextmanager
def beside(serve: Callable[[Callable[[], None]], None]) -> Iterator[None]:
    """Run `serve` in a process forked for it, from when it has called its argument to when it has ended.

    It gets some time to end when the block has. It ends with this process, and leaves Ctrl-C to it. What librdmacm
    has open here it shares; should it be killed, what it made by that is there until this process ends. Raises
    PeerFailed when it ends before it is ready.
    """
    reading, writing = os.pipe()
    lifeline, held = os.pipe()
    child = forking.fork()
    if child == 0:
        try:
            os.setpgrp()  # out of the reach of a terminal's Ctrl-C
            os.close(reading)
            os.close(held)
            threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
            serve(functools.partial(_say, writing, b"\0"))
        except BaseException as error:
            _say(writing, (str(error) or type(error).__name__).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.close(lifeline)
    try:
        said = os.read(reading, 1 << 12)
        if not said.startswith(b"\0"):
            raise PeerFailed(said.decode(errors="replace") or "the other process ended without a word")
        yield
        _await(child)
    finally:
        os.close(held)
        os.close(reading)
        _bury(child)


def _say(descriptor: int, what: bytes) -> None:
    os.write(descriptor, what)


def _end_with(lifeline: int) -> None:
    os.read(lifeline, 1)  # returns when the parent has closed it, or is gone
    os._exit(1)


def _await(child: int) -> None:
    """Until it has ended, or should have."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.01)


def _bury(child: int) -> None:
    os.kill(child, signal.SIGKILL)  # not reaped yet: the number is still its own
    os.waitpid(child, 0)
