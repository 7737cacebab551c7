"""What all objects share (module pyverbs.base): logging, context managers, and where the object really lives.

A `Resource` is something a device has: it lives where the world does, in this process or behind `remote.Link`, and
is closed when its last reference goes, as pyverbs' `__dealloc__` does. All else are values, copied on the way.
"""

from __future__ import annotations

import errno
import functools
import logging
import types
from collections.abc import Callable, Iterable
from typing import Any, Self
from weakref import WeakSet

from simmig.verbs.pyverbs import session
from simmig.verbs.sim.pyverbs_error import PyverbsError, PyverbsRDMAError, PyverbsUserError

LOG_LEVEL = logging.INFO
LOG_FORMAT = "[%(levelname)s] %(asctime)s %(filename)s:%(lineno)s: %(message)s"


def PyverbsRDMAErrno(msg: str) -> PyverbsRDMAError:  # noqa: N802  (pyverbs' own name)
    """The error of a call that has just failed; the simulated device leaves no errno behind, hence EINVAL."""
    return PyverbsRDMAError(msg, errno.EINVAL)


def inc_rkey(rkey: int) -> int:
    """The key with its lowest byte, which is the owner's to vary, counted on; man ibv_inc_rkey(3)."""
    return rkey & ~0xFF | (rkey + 1) & 0xFF


def c_number(value: Any, bits: int) -> int:
    """The value as C would take it; raises OverflowError, as Cython does, when that many bits do not hold it."""
    number = int(value) if not hasattr(value, "__index__") else value.__index__()
    if not 0 <= number < 1 << bits:
        raise OverflowError(
            "can't convert negative value to unsigned" if number < 0 else "value too large to convert to C"
        )
    return number


def lines(*fields: tuple[str, Any], width: int = 22, indent: str = "") -> str:
    """Names and values as pyverbs prints them."""
    return "".join(f"{indent}{name:{width}}: {value!s:<20}\n" for name, value in fields)


class PyverbsObject:
    """Base of all."""

    @property
    def logger(self) -> logging.Logger:
        """Named after the class."""
        return logging.getLogger(type(self).__name__)

    def set_log_level(self, val: int) -> None:
        """Set the level of that logger."""
        self.logger.setLevel(val)


class PyverbsCM(PyverbsObject):
    """A context manager: leaving the block closes it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to give back."""


def _locked(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with session.lock:
            return function(self, *args, **kwargs)

    return call


def _made(function: Callable[..., Any], owner: list[type]) -> Callable[..., Any]:
    """An `__init__` that has the object made where the world is."""

    @functools.wraps(function)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        link = session.link()
        if link is not None:
            link.create(self, owner[0], args, type(self).in_words(kwargs))
            return
        with session.lock:
            function(self, *args, **kwargs)

    return init


class _ResourceType(type):
    """Makes the methods of a resource take turns, and an object of another process' world a proxy."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> Any:
        if namespace.get("__module__", "").startswith("simmig.verbs.pyverbs."):
            owner: list[type] = []
            for key, value in list(namespace.items()):
                if isinstance(value, types.FunctionType):
                    if key == "__init__":
                        namespace[key] = _made(value, owner)
                    elif not key.startswith("_"):
                        namespace[key] = _locked(value)
            made = super().__new__(cls, name, bases, namespace, **kwargs)
            owner.append(made)
            return made
        return super().__new__(cls, name, bases, namespace, **kwargs)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        link = session.link()
        if link is None:
            return super().__call__(*args, **kwargs)
        proxy = link.blank(cls)
        cls.__init__(proxy, *args, **kwargs)  # type: ignore[misc]
        return proxy


class Resource(PyverbsCM, metaclass=_ResourceType):
    """Something a device has. `_closed` until `__init__` has succeeded and again after `close`."""

    _closed = True
    client_side: tuple[str, ...] = ()
    """Attributes that only the program's own process can have: open files."""

    @staticmethod
    def in_words(kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments so that any process understands them, not the program's own alone."""
        return kwargs

    def __del__(self) -> None:
        if not self._closed:
            with session.lock:
                try:
                    self.close()
                except PyverbsError as error:  # as __dealloc__ does: nobody is there to catch it
                    self.logger.debug("closing it failed: %s", error)


def close_all(*sets: Iterable[Any]) -> None:
    """Close what still lives of those that hang on an object, before it goes itself."""
    for objects in sets:
        for one in list(objects):
            one.close()


def only(value: Any, kind: type, what: str = "Argument") -> Any:
    """The value, which must be one of that class; raises TypeError as Cython does."""
    if not isinstance(value, kind):
        raise TypeError(
            f"{what} has incorrect type (expected {kind.__module__}.{kind.__name__}, got {type(value).__name__})"
        )
    return value


__all__ = [
    "PyverbsCM",
    "PyverbsError",
    "PyverbsObject",
    "PyverbsRDMAErrno",
    "PyverbsRDMAError",
    "PyverbsUserError",
    "Resource",
    "WeakSet",
    "c_number",
    "close_all",
    "inc_rkey",
    "lines",
    "only",
]
