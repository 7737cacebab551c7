"""Forking (module pyverbs.fork): simulated memory needs no protection from it."""

from simmig.verbs.pyverbs.enums import IBV_FORK_UNNEEDED


def fork_init() -> None:
    """Nothing to do: man ibv_fork_init(3) where the kernel copies pinned pages itself."""


def is_fork_initialized() -> int:
    """IBV_FORK_UNNEEDED."""
    return int(IBV_FORK_UNNEEDED)
