"""Flow steering (module pyverbs.flow), which simulated devices do not have."""

from simmig.verbs.pyverbs.absent import Absent


class Flow(Absent):
    """Not there."""


class FlowAttr(Absent):
    """Not there."""
