"""What all verbs objects share (module pyverbs.base), and the stand-in for what is not modelled."""

from __future__ import annotations

import errno
from typing import Any, NoReturn, Self

from simmig.verbs.sim.pyverbs_error import PyverbsRDMAError


class PyverbsCM:
    """A verbs object that is a context manager: leaving the block closes it."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Destroy the object. Again is a no-op."""


def not_modelled(what: str) -> NoReturn:
    """Refuse what the simulated device cannot do, as a device without the feature does: EOPNOTSUPP."""
    raise PyverbsRDMAError(f"The simulated device does not model {what}", errno.EOPNOTSUPP)


class NotModelled:
    """A pyverbs class the simulated device does not have: making one raises PyverbsRDMAError (EOPNOTSUPP)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        not_modelled(type(self).__name__)
