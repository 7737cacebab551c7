"""The way from a program to the world that another process keeps: a connection a thread, a proxy an object."""

from __future__ import annotations

import os
import sys
import threading
import types
import uuid
from collections import deque
from functools import cache
from multiprocessing.connection import Client, Connection
from typing import Any
from weakref import WeakValueDictionary

from simmig.verbs.pyverbs import session, wire
from simmig.verbs.pyverbs.base import PyverbsObject, Resource

_LOCAL = ("_number", "_received", "_pid")


class ServerLink:
    """Asks the server at a socket; made anew in a forked child, which shares objects but no connection."""

    def __init__(self, address: str) -> None:
        self.pid = os.getpid()
        self._address = address
        self._token = uuid.uuid4().hex
        self._thread = threading.local()
        self._known: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._dropped: deque[tuple[int, int]] = deque()

    def blank(self, kind: type) -> Any:
        """A proxy of that class that stands for nothing yet."""
        proxy: Any = object.__new__(proxy_class(kind))
        for name, value in zip(_LOCAL, (None, 0, self.pid), strict=True):
            object.__setattr__(proxy, name, value)
        return proxy

    def create(self, proxy: Any, kind: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Have the object made for which the proxy stands."""
        number = self._ask("create", kind, args, kwargs)
        object.__setattr__(proxy, "_number", number)
        object.__setattr__(proxy, "_received", 1)
        self._known[number] = proxy

    def call(self, proxy: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method of it."""
        return self._ask("call", proxy, name, args, kwargs)

    def get(self, proxy: Any, name: str) -> Any:
        """An attribute of it."""
        return self._ask("get", proxy, name)

    def set(self, proxy: Any, name: str, value: Any) -> None:
        """Set one."""
        self._ask("set", proxy, name, value)

    def function(self, module: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of a module there."""
        return self._ask("function", module, name, args, kwargs)

    def drop(self, proxy: Any) -> None:
        """Nobody refers to the proxy any more: told with the next question, for one may be under way."""
        self._dropped.append((proxy._number, proxy._received))

    def _ask(self, *question: Any) -> Any:
        connection: Connection | None = getattr(self._thread, "connection", None)
        if connection is None:
            connection = self._thread.connection = Client(self._address)
            connection.send(self._token)
        dropped = []
        while self._dropped:
            dropped.append(self._dropped.popleft())
        connection.send_bytes(wire.dumps((dropped, question), _refer))
        good, answer, changed = wire.loads(connection.recv_bytes(), self._resolve)
        arguments = [part for part in question if isinstance(part, tuple)]
        for index, value in changed:
            wire.become(arguments[0][index], value)
        if good:
            return answer
        raise answer

    def _resolve(self, reference: wire.Reference) -> Any:
        number, kind = reference
        proxy = self._known.get(number)
        if proxy is None:
            proxy = self.blank(kind)
            object.__setattr__(proxy, "_number", number)
            self._known[number] = proxy
        object.__setattr__(proxy, "_received", proxy._received + 1)
        return proxy


def _refer(obj: Any) -> wire.Reference | None:
    if isinstance(obj, _Proxy):
        return obj._number, PyverbsObject
    return None


class _Proxy:
    """Mixed into a resource's class: everything pyverbs' own is asked of the object itself."""

    _number: int
    _received: int
    _pid: int

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or name in _LOCAL:
            return object.__getattribute__(self, name)
        for base in type(self).__mro__[1:]:
            if name in vars(base):
                if (
                    base is _Proxy
                    or not issubclass(base, Resource)
                    or not _is_ours(base)
                    or name in base.client_side
                ):
                    return object.__getattribute__(self, name)  # a program's own, or what all objects have
                if isinstance(vars(base)[name], types.FunctionType):
                    if sys.is_finalizing():  # a program's own __del__, at its end: there is nobody to ask any more
                        return lambda *args, **kwargs: None
                    return lambda *args, **kwargs: _link().call(self, name, args, kwargs)
                return _link().get(self, name)
        own = object.__getattribute__(self, "__dict__")
        return own[name] if name in own else _link().get(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(getattr(type(self), name, None), property):
            _link().set(self, name, value)
        else:
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return str(_link().call(self, "__str__", (), {}))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._number}>"

    def __del__(self) -> None:
        # At the program's end modules go as well, and the world is told of it all by the connection's end.
        if self._number is not None and not sys.is_finalizing() and self._pid == os.getpid():
            link = _link()
            if link is not None:
                link.drop(self)


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith("simmig.verbs.pyverbs.")


def _link() -> Any:
    return session.link()


@cache
def proxy_class(kind: type) -> type:
    """The class of proxies for objects of that class."""
    return type.__new__(type(kind), kind.__name__, (_Proxy, kind), {"__module__": kind.__module__})
