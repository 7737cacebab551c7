"""What programs and the keeper of their world say to each other: pickles, a device's objects by reference."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import msgspec

Reference = tuple[int, type]
"""An object's number, and its class."""


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, refer: Callable[[Any], Reference | None]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._refer = refer

    def persistent_id(self, obj: Any) -> Reference | None:
        return self._refer(obj)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, resolve: Callable[[Reference], Any]) -> None:
        super().__init__(file)
        self._resolve = resolve

    def persistent_load(self, pid: Any) -> Any:
        return self._resolve(pid)


def dumps(message: Any, refer: Callable[[Any], Reference | None]) -> bytes:
    """The message as bytes; `refer` tells which objects stay where they are."""
    file = io.BytesIO()
    _Pickler(file, refer).dump(message)
    return file.getvalue()


def loads(data: bytes, resolve: Callable[[Reference], Any]) -> Any:
    """The message again."""
    return _Unpickler(io.BytesIO(data), resolve).load()


def become(value: Any, other: Any) -> None:
    """Have a value take over another's content: what a call wrote into its argument."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            setattr(value, name, getattr(other, name))
    else:
        value.__dict__.update(other.__dict__)
