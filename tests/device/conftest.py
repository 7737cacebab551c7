"""Two RDMA devices joined by a link, as the lab makes them: `make test-device`."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import Binding, load
from simmig.verbs.rdma.endpoint import RdmaDialer, RdmaListener
from simmig.verbs.rdma.errors import RdmaUnavailable
from simmig.verbs.rdma.runtime import RdmaRuntime
from simmig.verbs.sim.profiles import PROFILES
from tests.verbs.ends import DeviceWorld, SimWorld, World

SOURCE, DESTINATION = os.environ.get("SIMMIG_TEST_DEVICES", "rxe0,rxe1").split(",")
PORT = 4444
REQUIRED = os.environ.get("SIMMIG_TEST_DEVICE") == "required"
PATIENCE_S = 240
"""Whatever takes longer hangs; emulated processors on a busy machine are slow."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes a new device is for a process that holds no old one open."""
    alone = [item for item in items if item.path.name == "test_link_taken_down.py"]
    if len(alone) < len(items):
        for item in alone:
            item.add_marker(pytest.mark.skip("needs a process of its own: name this file alone"))


@pytest.fixture(scope="session")
def verbs() -> Binding:
    try:
        binding = load()
        device.check(binding, SOURCE)
        device.check(binding, DESTINATION)
    except RdmaUnavailable as reason:
        if REQUIRED:
            pytest.fail(f"needs two RDMA devices: {reason}")
        pytest.skip(f"needs two RDMA devices: {reason}")
    return binding


@dataclass
class Ends:
    runtime: RdmaRuntime
    dialer: RdmaDialer
    listener: RdmaListener


Run = Callable[[Coroutine[Any, Any, Any]], Any]
MakeEnds = Callable[[], AbstractAsyncContextManager[Ends]]


@pytest.fixture
def ends(verbs: Binding) -> MakeEnds:
    """Makes both ends in one process, and gives everything back."""

    @asynccontextmanager
    async def make() -> AsyncIterator[Ends]:
        runtime = RdmaRuntime()
        ip = device.address(verbs, DESTINATION).ip
        listener = RdmaListener(verbs, runtime, ip, PORT)
        dialer = RdmaDialer(verbs, runtime, ip, PORT, SOURCE)
        try:
            yield Ends(runtime, dialer, listener)
        finally:
            dialer.close()
            listener.close()

    return make


@pytest.fixture
def run() -> Run:
    """Runs a coroutine in a loop of its own, with patience."""

    def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(asyncio.wait_for(coroutine, PATIENCE_S))

    return _run


@pytest.fixture(params=["device"] if REQUIRED else [*PROFILES, "device"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Two devices to ask for the rules: simulated on each profile, real; in the lab real."""
    made: World
    if request.param == "device":
        binding = request.getfixturevalue("verbs")
        made = DeviceWorld(binding.CompChannel, (SOURCE, DESTINATION))
    else:
        made = SimWorld(PROFILES[request.param])
    yield made
    made.close()
