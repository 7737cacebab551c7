"""Work queues of raw packets (module pyverbs.wq), which simulated devices do not have."""

from simmig.verbs.pyverbs.absent import Absent


class WQ(Absent):
    """Not there."""


class WQInitAttr(Absent):
    """Not there."""


class WQAttr(Absent):
    """Not there."""


class RwqIndTable(Absent):
    """Not there."""


class RwqIndTableInitAttr(Absent):
    """Not there."""


class RxHashConf(Absent):
    """Not there."""
