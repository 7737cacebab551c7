"""Who is let in, before there is anything to give back."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from simmig.migration import rdma_connect, wire
from simmig.migration.config import MigrationConfig, MigrationError


class Asking:
    """A connection request; whoever is accepted needs a device, which is not here."""

    def __init__(self, flags: int) -> None:
        self.private_data = wire.encode_private_data(flags)
        self.rejected = False

    def reject(self) -> None:
        self.rejected = True


def accept(asking: Asking, pin_all: bool) -> None:
    async def request() -> Asking:
        return asking

    async def body() -> None:
        listener: Any = SimpleNamespace(request=request)
        nothing: Any = None
        verbs: Any = SimpleNamespace(PyverbsError=ZeroDivisionError)
        config = MigrationConfig(pin_all=pin_all)
        await rdma_connect.accept(config, nothing, verbs, nothing, listener, nothing, None)

    asyncio.run(body())


def test_a_stock_source_that_pins_all_is_turned_away_where_it_may_not() -> None:
    asking = Asking(wire.FLAG_PIN_ALL)
    with pytest.raises(MigrationError, match=r"migration.pin_all=true here, or .* rdma-pin-all off there"):
        accept(asking, pin_all=False)
    assert asking.rejected


@pytest.mark.parametrize(
    ("flags", "pin_all"),
    [(wire.FLAG_PIN_ALL, True), (0, False), (wire.FLAG_PIN_ALL | wire.FLAG_SIMMIG, False)],
)
def test_others_get_as_far_as_to_a_queue_pair(flags: int, pin_all: bool) -> None:
    asking = Asking(flags)
    with pytest.raises(AttributeError):
        accept(asking, pin_all)
    assert not asking.rejected
