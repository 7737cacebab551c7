"""What these tests need: two devices as the lab makes them, and a stock QEMU."""

from __future__ import annotations

import shutil

import pytest

from simmig.lab.vm import BINARY
from tests.device.conftest import REQUIRED, verbs

__all__ = ["verbs"]


@pytest.fixture(autouse=True)
def qemu(verbs: object) -> None:
    if shutil.which(BINARY) is None:
        (pytest.fail if REQUIRED else pytest.skip)(f"{BINARY} is not installed")
