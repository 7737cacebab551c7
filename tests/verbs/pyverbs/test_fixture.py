"""The fixture that gives a test simulated devices, without the command."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize("profile", ["ideal", "mlx5"])
def test_import_pyverbs_gives_the_fixtures_devices(
    pyverbs_devices: Callable[..., list[str]], profile: str
) -> None:
    names = pyverbs_devices(3, profile=profile)
    d: Any = importlib.import_module("pyverbs.device")  # as `import pyverbs.device as d` does
    assert [device.name.decode() for device in d.get_device_list()] == names
    with d.Context(name=names[2]) as context:
        assert context.query_device().vendor_id == {"ideal": 0xFFFF, "mlx5": 0x02C9}[profile]


def test_devices_have_the_names_asked_for(pyverbs_devices: Callable[..., list[str]]) -> None:
    assert pyverbs_devices(["left", "right"]) == ["left", "right"]
