"""A virtual machine from a stock QEMU is kept by simmig, and goes on in a stock QEMU with the next number."""

from __future__ import annotations

import asyncio

import pytest

from simmig.lab.vm import BINARY, MACHINE
from tests.qemu import rig


@pytest.mark.parametrize(
    ("pin_all", "machine", "arguments", "versions"),
    [
        (False, MACHINE, (), (None, None)),
        (True, MACHINE, (), (None, None)),
        (False, f"{MACHINE},suppress-vmdesc=on", (), (None, None)),
        (False, rig.Q35, rig.DEVICES, (None, None)),
        (False, MACHINE, (), (None, "10.0")),
        (False, MACHINE, (), ("10.0", None)),
    ],
    ids=["dynamic", "pin-all", "suppress-vmdesc", "q35", "to-10.0", "from-10.0"],
)
def test_it_goes_on_with_the_next_number(
    pin_all: bool, machine: str, arguments: tuple[str, ...], versions: tuple[str | None, str | None]
) -> None:
    """`versions` are of the source and the destination; None is the system's."""
    here, there = (rig.command(version) if version else (BINARY,) for version in versions)

    async def body() -> None:
        with rig.scratch() as directory:
            saved = directory / "saved"
            async with rig.vm(directory, "a", machine=machine, arguments=arguments, binary=here) as source:
                await source.says(2)
                capabilities = [{"capability": "rdma-pin-all", "state": pin_all}]
                await source.execute("migrate-set-capabilities", capabilities=capabilities)
                result, told = await rig.take_over(saved, source)
                assert told["status"] == "completed", source.messages
                assert (result.status, result.reason) == ("completed", "")
                assert await source.status() == "postmigrate"
                before = source.serial
            listen = f"rdma:{rig.THERE}:5555"
            async with rig.vm(
                directory, "b", machine=machine, arguments=arguments, binary=there, incoming=listen
            ) as destination:
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
