"""What a stock QEMU source may be set to and is not supported: it ends in time, and the machine runs on."""

from __future__ import annotations

import asyncio

import pytest

from tests.qemu import rig


@pytest.mark.parametrize(
    ("capability", "settings"),
    [
        ("postcopy-ram", ()),
        ("return-path", ()),
        ("x-ignore-shared", ()),
        ("rdma-pin-all", ("migration.pin_all=false",)),
    ],
)
def test_what_is_not_supported_ends_in_time_and_the_source_runs_on(
    capability: str, settings: tuple[str, ...]
) -> None:
    async def body() -> None:
        with rig.scratch() as directory:
            async with rig.vm(directory, "a", shared=True) as source:
                await source.says(1)
                capabilities = [{"capability": capability, "state": True}]
                await source.execute("migrate-set-capabilities", capabilities=capabilities)
                result, told = await asyncio.wait_for(rig.take_over(directory / "saved", source, settings), 110)
                assert (result.status, told["status"]) == ("failed", "failed")
                assert result.reason
                assert "timeout" not in source.messages  # a second connection (postcopy's) is rejected at once
                assert not (directory / "saved").exists()
                assert await source.status() == "running"
                await source.says(2)
                rig.assert_lives(source.serial)

    asyncio.run(body())
