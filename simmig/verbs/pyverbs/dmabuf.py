"""Buffers shared by devices (module pyverbs.dmabuf), which simulated devices do not have."""

from simmig.verbs.pyverbs.absent import Absent


class DmaBuf(Absent):
    """Not there."""
