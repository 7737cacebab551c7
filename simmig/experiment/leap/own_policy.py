"""A policy of one's own within compiled code: back to Python where it is asked, and nowhere else."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from simmig.experiment.leap.state import NONE
from simmig.migration.policies.own_code import RAISED
from simmig.migration.policies.policy import Point, Policy

_POINTS = tuple(Point)
_NO_ANSWER = NONE - 1
_MOST = 1 << 62
_INT = ir.IntType(64)


def _call_back(_context: Any, _address: Any, _point: Any) -> Any:

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(_INT, [_INT]).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], function), [arguments[1]])

    return cast(Any, types.int64)(types.int64, types.int64), generate


call_back: Callable[[int, int], int] = cast(Any, intrinsic)(_call_back)
"""Call the function at that address with the point's number; for compiled code alone."""


class OwnPolicy:
    """Stands between compiled code and a policy: to that it is the `Sender`, read from the state as it is.

    What the policy raises, or answers that is no number of bytes, ends the leap: the event model asks it again and
    tells what is wrong.
    """

    def __init__(self, policy: Policy, state: Any) -> None:
        self._policy = policy
        self._state = state
        self._function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(self._ask)

    @property
    def address(self) -> int:
        """Where compiled code calls it; good as long as this object lives."""
        return cast(int, ctypes.cast(self._function, ctypes.c_void_p).value)

    def _ask(self, point: int) -> int:
        try:
            target = self._policy.drain(_POINTS[point], self)
            if target is None:
                return NONE
            return min(target, _MOST) if isinstance(target, int) and target >= 0 else _NO_ANSWER
        except RAISED:
            return _NO_ANSWER

    @property
    def posted_bytes(self) -> int:
        """RAM bytes posted as writes."""
        return int(self._state["posted_bytes"])

    @property
    def completed_bytes(self) -> int:
        """RAM bytes whose completion was polled."""
        return int(self._state["completed_bytes"])

    @property
    def pending_bytes(self) -> int:
        """RAM bytes posted and not completed."""
        return int(self._state["pending"])

    @property
    def chunks(self) -> int:
        """Chunks left behind."""
        return int(self._state["chunks"])

    @property
    def slice(self) -> int:
        """The slice, from 1."""
        return int(self._state["slices"])

    @property
    def round(self) -> int:
        """The pass over the bitmap, from 1."""
        return int(self._state["rounds"])

    @property
    def bandwidth_bytes_s(self) -> int:
        """The estimate."""
        return int(self._state["bandwidth"])

    @property
    def downtime_limit_ns(self) -> int:
        """How long the guest may stand still."""
        return int(self._state["downtime_limit"])

    @property
    def now_ns(self) -> int:
        """The source host's clock."""
        return int(self._state["now"]) + int(self._state["debt"][0])
