"""Protection domains (module pyverbs.pd)."""

from __future__ import annotations

import errno
from typing import Any

from simmig.verbs.pyverbs import session
from simmig.verbs.pyverbs.base import (
    PyverbsObject,
    PyverbsRDMAError,
    PyverbsUserError,
    Resource,
    WeakSet,
    close_all,
    only,
)
from simmig.verbs.pyverbs.device import Context
from simmig.verbs.sim import pd as sim


class PD(Resource):
    """What keys and queue pairs must have in common; of a Context or a CMID. `handle` imports another's."""

    def __init__(self, creator: Any, **kwargs: Any) -> None:
        handle = kwargs.get("handle")
        self._imported = handle is not None
        self._children: WeakSet[Any] = WeakSet()
        if self._imported:
            found = session.world().handles.get(handle) if isinstance(handle, int) else None
            if not isinstance(found, sim.PD):
                raise PyverbsRDMAError("Failed to import PD", errno.ENOENT)
            self.sim: sim.PD = found
            self._ctx: Context | None = creator
        elif isinstance(creator, Context):
            self.sim = sim.PD(creator.sim)
            self._ctx = creator
        elif hasattr(creator, "context"):  # a CMID: its domain is the device's own
            self.sim = sim.PD(creator.context.sim)
            self._ctx = creator.context
        else:
            raise PyverbsUserError(f"Cannot create PD from {type(creator)}")
        self.handle: int = handle if handle is not None else session.world().register(self.sim)
        """What `PD(ctx, handle=...)` imports it by."""
        assert self._ctx is not None
        self._ctx.add_ref(self)
        self._closed = False

    @property
    def ctx(self) -> Context | None:
        """Where it was made."""
        return self._ctx

    def add_ref(self, obj: Any) -> None:
        """Something was made in it."""
        self._children.add(obj)

    def advise_mr(self, advise: int, flags: int, sg_list: list[Any]) -> int:
        """On-demand paging: refused (EOPNOTSUPP), the device has none."""
        raise PyverbsRDMAError("Failed to advise MR", errno.EOPNOTSUPP)

    def unimport(self) -> None:
        """Forget it without destroying it."""
        self._ctx = None
        self._closed = True

    def close(self) -> None:
        """Destroy it, what is in it first."""
        if self._closed:
            return
        close_all(self._children)
        self._closed = True
        if not self._imported:
            session.world().handles.pop(self.handle, None)
            self.sim.close()
        self._ctx = None

    def __str__(self) -> str:
        return f"PD handle {self.handle}"


class ParentDomainContext(PyverbsObject):
    """A program's own allocators, which the simulated device never needs."""

    def __init__(self, pd: PD, alloc_func: Any, free_func: Any, user_data: Any = None) -> None:
        self.pd = pd
        self.p_alloc = alloc_func
        self.p_free = free_func
        self.user_data = user_data

    def __getstate__(self) -> dict[str, Any]:
        return {"pd": self.pd, "p_alloc": None, "p_free": None, "user_data": None}


class ParentDomainInitAttr(PyverbsObject):
    """What a parent domain is made of."""

    def __init__(self, pd: PD, pd_context: ParentDomainContext | None = None) -> None:
        self.pd = only(pd, PD, "pd")
        self.pd_context = pd_context
        self.comp_mask = 0
        if pd_context is not None:
            self.comp_mask = 1 | 2  # IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS, _PD_CONTEXT


class ParentDomain(PD):
    """A domain above another: whose keys are its own as well."""

    def __init__(self, context: Context, attr: ParentDomainInitAttr) -> None:
        if not only(context, Context, "context").sim.device.profile.has_parent_domains:
            raise PyverbsRDMAError("Failed to allocate Parent Domain", errno.EOPNOTSUPP)
        self._children = WeakSet()
        self._imported = True  # the domain below is destroyed by its owner
        self._below = attr.pd
        self.sim = attr.pd.sim
        self.handle = attr.pd.handle
        self._ctx = context
        context.add_ref(self)
        self._closed = False
