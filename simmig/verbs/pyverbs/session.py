"""Which world this process' verbs objects are in: its own, or one that another process keeps for it."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from simmig.verbs.sim.pyverbs_error import PyverbsUserError

if TYPE_CHECKING:
    from simmig.verbs.pyverbs.remote import ServerLink
    from simmig.verbs.pyverbs.world import World

P = ParamSpec("P")
R = TypeVar("R")

lock = threading.RLock()
"""Held while the world is touched; those who wait for something wait on `changed`, which lets it go."""
changed = threading.Condition(lock)

_world: World | None = None
_address = ""
_link: ServerLink | None = None


def use(world: World | None) -> World | None:
    """Have this process' objects live in that world; returns the one before."""
    global _world
    before, _world = _world, world
    return before


def use_remote(address: str) -> None:
    """Have them live in the world that is served at that socket."""
    global _address  # noqa: PLW0603
    _address = address


def world() -> World:
    """This process' world; raises PyverbsUserError when there is none."""
    if _world is None:
        raise PyverbsUserError("No simulated devices are in use: run the program with `simmig pyverbs -- PROGRAM`")
    return _world


def link() -> ServerLink | None:
    """The way to another process' world; None when this one has its own. A forked child gets one of its own."""
    global _link  # noqa: PLW0603
    if not _address:
        return None
    if _link is None or _link.pid != os.getpid():
        from simmig.verbs.pyverbs.remote import ServerLink  # noqa: PLC0415  (needs the modules that need this one)

        _link = ServerLink(_address)
    return _link


def in_world(function: Callable[P, R]) -> Callable[P, R]:
    """A function that runs where the world is."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        way = link()
        if way is not None:
            return cast(R, way.function(function.__module__, function.__qualname__, args, kwargs))
        with lock:
            return function(*args, **kwargs)

    return call
