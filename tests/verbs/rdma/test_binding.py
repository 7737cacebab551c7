"""What is put around pyverbs' classes, tried on a class of their shape."""

import ctypes
from typing import Any

import pytest

from simmig.verbs.rdma.binding import _mapped


class Region:
    """Notes what it was given."""

    def __init__(self, creator: object, length: int, access: int, address: int) -> None:
        if access < 0:
            raise OSError("no memory can be locked")
        self.address, self.open = address, True

    def close(self) -> None:
        self.open = False


def test_a_region_without_an_address_has_pages_until_it_is_closed() -> None:
    kind: Any = _mapped(Region)
    region = kind(None, 8192, 0)
    assert region.address % 4096 == 0
    assert ctypes.string_at(region.address, 8192) == bytes(8192)
    assert not region._memory.closed
    region.close()
    assert not region.open
    assert region._memory.closed
    region.close()


def test_a_region_of_somebodys_memory_is_left_to_them() -> None:
    buffer = ctypes.create_string_buffer(b"kept")
    region: Any = _mapped(Region)(None, 4, 0, ctypes.addressof(buffer))
    assert region.address == ctypes.addressof(buffer)
    region.close()
    assert buffer.value == b"kept"


def test_a_registration_that_fails_says_why() -> None:
    with pytest.raises(OSError, match="locked"):
        _mapped(Region)(None, 4096, -1)
