"""Two RDMA devices joined by a link, as the lab makes them: `simmig lab -- pytest tests/device`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from simmig.verbs.rdma import device
from simmig.verbs.rdma.binding import Binding, load
from simmig.verbs.rdma.endpoint import RdmaDialer, RdmaListener
from simmig.verbs.rdma.errors import RdmaUnavailable
from simmig.verbs.rdma.runtime import RdmaRuntime

SOURCE, DESTINATION = "rxe0", "rxe1"
PORT = 4444
PATIENCE_S = 60


@pytest.fixture(scope="session")
def verbs() -> Binding:
    try:
        binding = load()
        device.check(binding, SOURCE)
        device.check(binding, DESTINATION)
    except RdmaUnavailable as reason:
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
    """Runs a coroutine in a loop of its own; nothing may take longer than a minute."""

    def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(asyncio.wait_for(coroutine, PATIENCE_S))

    return _run
