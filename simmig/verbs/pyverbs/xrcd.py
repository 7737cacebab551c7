"""Domains of extended reliable connections (module pyverbs.xrcd), which simulated devices do not have."""

from simmig.verbs.pyverbs.absent import Absent


class XRCD(Absent):
    """Not there."""


class XRCDInitAttr:
    """What one would be made of."""

    def __init__(self, comp_mask: int, oflags: int, fd: int) -> None:
        self.comp_mask = comp_mask
        self.oflags = oflags
        self.fd = fd
