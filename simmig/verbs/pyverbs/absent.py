"""What a simulated device does not have: classes that answer EOPNOTSUPP, and whole modules of them.

Providers' extensions belong to other devices. A program may import them, and name their constants; making an
object of theirs is refused as it is by a device of another make (pyverbs: "This is not an MLX5 device").
"""

from __future__ import annotations

import errno
from enum import IntEnum
from types import ModuleType
from typing import Any

from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError, PyverbsUserError


class Absent:
    """Refuses to be made. Named `Mlx5Context` and the like, it is no device of that make."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        if name.endswith("Context"):
            raise PyverbsUserError(f"{name}: this is not a device of that make")
        raise PyverbsRDMAError(f"The simulated device has no {name}", errno.EOPNOTSUPP)


class _AnyMembers(type(IntEnum)):  # type: ignore[misc]
    """An enum of which every member asked for exists: what it is worth nobody on this device will ask."""

    def __getattr__(cls, name: str) -> int:
        if name.startswith("_"):
            raise AttributeError(name)
        return 0


class Constants(IntEnum, metaclass=_AnyMembers):
    """Constants of a provider."""


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.lower() == name:
            found: Any = Constants
        elif name.isupper() or name.startswith("_"):
            found = 0
        else:
            found = type(name, (Absent,), {"__module__": self.__name__})
        setattr(self, name, found)
        return found


def module(name: str) -> ModuleType:
    """A module whose every name is something absent."""
    made = _Module(name, "A provider's extension, which simulated devices do not have.")
    made.__path__ = []
    return made
