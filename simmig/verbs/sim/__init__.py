"""The simulated verbs device: `import simmig.verbs.sim as verbs` gives the classes of `simmig.verbs.api.Verbs`."""

from simmig.verbs.sim import datagrams, enums
from simmig.verbs.sim.cq import CQ, CompChannel
from simmig.verbs.sim.device import Context, get_device_list
from simmig.verbs.sim.fabric import Fabric
from simmig.verbs.sim.host import Host, HostCosts
from simmig.verbs.sim.link import Link, LinkSpec
from simmig.verbs.sim.mr import MR
from simmig.verbs.sim.pd import PD
from simmig.verbs.sim.profiles import IDEAL, MLX5, PROFILES, RXE, Profile
from simmig.verbs.sim.pyverbs_error import PyverbsError, PyverbsRDMAError, PyverbsUserError
from simmig.verbs.sim.qp import QP, QPAttr, QPCap, QPInitAttr
from simmig.verbs.sim.runtime import SimRuntime
from simmig.verbs.sim.timeline import Timeline
from simmig.verbs.sim.wr import SGE, RecvWR, SendWR

__all__ = [
    "CQ",
    "IDEAL",
    "MLX5",
    "MR",
    "PD",
    "PROFILES",
    "QP",
    "RXE",
    "SGE",
    "CompChannel",
    "Context",
    "Fabric",
    "Host",
    "HostCosts",
    "Link",
    "LinkSpec",
    "Profile",
    "PyverbsError",
    "PyverbsRDMAError",
    "PyverbsUserError",
    "QPAttr",
    "QPCap",
    "QPInitAttr",
    "RecvWR",
    "SendWR",
    "SimRuntime",
    "Timeline",
    "datagrams",
    "enums",
    "get_device_list",
]
