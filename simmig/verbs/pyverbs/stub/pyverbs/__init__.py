"""Found first on PYTHONPATH under `simmig pyverbs`: makes way for the simulated devices' pyverbs."""

import os
import sys

try:
    import msgspec  # noqa: F401
    import simpy  # noqa: F401
except ImportError:  # another interpreter than simmig's: borrow what it needs
    sys.path += os.environ.get("SIMMIG_PYVERBS_SITE", "").split(os.pathsep)

from simmig.verbs.pyverbs import finder

finder.enter()
