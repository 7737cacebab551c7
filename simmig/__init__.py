"""simmig: write a drain policy once; simulate it, try to break it, run it on RDMA.

    import simmig

    result = simmig.run("scenario.toml", policy="per-chunk")
    frame = simmig.sweep("scenario.toml", axes={"policy": ["per-chunk", "final-only"]}).frame()

See docs/library.md. What is slow to import is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simmig.experiment.errors import InputError
    from simmig.experiment.library import SweepResults, run, sweep
    from simmig.migration.policies import FULLY, Point, Sender

__version__ = "0.1.0"
__all__ = ["FULLY", "InputError", "Point", "Sender", "SweepResults", "__version__", "run", "sweep"]

_HOMES = {
    **dict.fromkeys(("run", "sweep", "SweepResults"), "simmig.experiment.library"),
    "InputError": "simmig.experiment.errors",
    **dict.fromkeys(("FULLY", "Point", "Sender"), "simmig.migration.policies"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'simmig' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
