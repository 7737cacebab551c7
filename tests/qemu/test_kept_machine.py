"""A virtual machine from a stock QEMU is kept by simmig, and goes on in a stock QEMU with the next number."""

from __future__ import annotations

import asyncio

import pytest

from tests.qemu import rig


@pytest.mark.parametrize("pin_all", [False, True], ids=["dynamic", "pin-all"])
def test_it_goes_on_with_the_next_number(pin_all: bool) -> None:
    async def body() -> None:
        with rig.scratch() as directory:
            saved = directory / "saved"
            async with rig.vm(directory, "a") as source:
                await source.says(2)
                capabilities = [{"capability": "rdma-pin-all", "state": pin_all}]
                await source.execute("migrate-set-capabilities", capabilities=capabilities)
                result, told = await rig.take_over(saved, source)
                assert told["status"] == "completed", source.messages
                assert (result.status, result.reason) == ("completed", "")
                assert await source.status() == "postmigrate"
                before = source.serial
            listen = f"rdma:{rig.THERE}:5555"
            async with rig.vm(directory, "b", incoming=listen) as destination:
                sent = await rig.hand_on(saved)
                assert (sent.status, sent.reason) == ("completed", ""), destination.messages
                await destination.says(5)
                rig.assert_lives(before, destination.serial)

    asyncio.run(body())


@pytest.mark.parametrize(
    ("policy", "settings"),
    [
        ("per-chunk", ("migration.registration_batch=16",)),
        ("per-round", ("migration.slice=round", "migration.control_wait=deferred")),
    ],
    ids=["batch", "round-deferred"],
)
def test_the_freedoms_that_a_stock_destination_takes(policy: str, settings: tuple[str, ...]) -> None:
    async def body() -> None:
        with rig.scratch() as directory:
            saved = directory / "saved"
            async with rig.vm(directory, "a") as source:
                await source.says(2)
                await rig.take_over(saved, source)
                before = source.serial
            async with rig.vm(directory, "b", incoming=f"rdma:{rig.THERE}:5555") as destination:
                sent = await rig.hand_on(saved, policy=policy, settings=settings)
                assert (sent.status, sent.reason) == ("completed", ""), destination.messages
                assert sent.peer is None
                assert "stock QEMU" in sent.silence
                await destination.says(5)
                rig.assert_lives(before, destination.serial)

    asyncio.run(body())
