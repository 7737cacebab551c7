"""The errors of pyverbs (module pyverbs.pyverbs_error)."""

from simmig.verbs.sim.pyverbs_error import PyverbsError, PyverbsRDMAError, PyverbsUserError

__all__ = ["PyverbsError", "PyverbsRDMAError", "PyverbsUserError"]
