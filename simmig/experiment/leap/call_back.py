"""From compiled code back into Python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_INT = ir.IntType(64)


def _call_back(_context: Any, _address: Any, _argument: Any) -> Any:

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(_INT, [_INT]).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], function), [arguments[1]])

    return cast(Any, types.int64)(types.int64, types.int64), generate


call_back: Callable[[int, int], int] = cast(Any, intrinsic)(_call_back)
"""Call the function at that address with a number; for compiled code alone."""


class Callback:
    """A Python function for compiled code, at `address` as long as this object lives; it must not raise."""

    def __init__(self, function: Callable[[int], int]) -> None:
        self._function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(function)

    @property
    def address(self) -> int:
        """Where it is."""
        return cast(int, ctypes.cast(self._function, ctypes.c_void_p).value)
