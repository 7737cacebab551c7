"""Specifications of flows (module pyverbs.spec), which simulated devices do not have."""

from simmig.verbs.pyverbs.absent import Absent


class Spec(Absent):
    """Not there."""


class EthSpec(Absent):
    """Not there."""


class Ipv4ExtSpec(Absent):
    """Not there."""


class Ipv6Spec(Absent):
    """Not there."""


class TcpUdpSpec(Absent):
    """Not there."""


class TunnelSpec(Absent):
    """Not there."""


class GreSpec(Absent):
    """Not there."""


class MplsSpec(Absent):
    """Not there."""


class EspSpec(Absent):
    """Not there."""


class FlowSpec(Absent):
    """Not there."""
