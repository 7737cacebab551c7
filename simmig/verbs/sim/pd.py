"""Protection domains (module pyverbs.pd)."""

from __future__ import annotations

from typing import Any

from simmig.verbs.sim.base import NotModelled, PyverbsCM, not_modelled
from simmig.verbs.sim.device import Context
from simmig.verbs.sim.pyverbs_error import PyverbsUserError


class PD(PyverbsCM):
    """What keys and queue pairs must have in common (R32)."""

    def __init__(self, creator: Context, **kwargs: Any) -> None:
        if not isinstance(creator, Context):
            raise PyverbsUserError(f"Cannot create PD from {type(creator)}")
        if kwargs.get("handle") is not None:
            not_modelled("importing a PD")
        self.ctx = creator
        self.device = creator.device
        self._objects: dict[PyverbsCM, None] = {}  # in the order they were made
        self._closed = False
        creator.add_ref(self)

    @property
    def closed(self) -> bool:
        """Whether it has been destroyed."""
        return self._closed

    def add_ref(self, obj: PyverbsCM) -> None:
        """An object lives in this domain."""
        self._objects[obj] = None

    def remove_ref(self, obj: PyverbsCM) -> None:
        """It no longer does."""
        del self._objects[obj]

    def close(self) -> None:
        """Destroy the domain, its queue pairs and regions first, as pyverbs does."""
        if self._closed:
            return
        for obj in [*self._objects][::-1]:
            obj.close()
        self._closed = True
        self.ctx.remove_ref(self)


class ParentDomain(NotModelled):
    """Parent domains."""
