"""The memory keys that the model's devices give out."""

from __future__ import annotations

from simmig.verbs.sim.nic import KEY_STEP


def key_at(slots: int, ordinal: int) -> int:
    """The key of a piece of RAM, in the order of registering: they go up, the control buffers' come first."""
    return (3 + slots + ordinal) * KEY_STEP & 0xFFFFFFFF
