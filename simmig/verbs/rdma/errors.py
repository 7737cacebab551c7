"""Why this host cannot do RDMA, said so that it can be put right."""

from __future__ import annotations


class RdmaUnavailable(OSError):
    """No device, a port that is down, no pyverbs, too little lockable memory: the text says what to do."""
