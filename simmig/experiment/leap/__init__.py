"""The exact fast path: a migration without its events, for runs that nobody wants a trace of.

A leap keeps the order of the event model's steps and of its arithmetic, so its figures are the same to the
nanosecond. What makes it fast is that numba compiles it, once for this version of simmig; until somebody has asked
for that (`prepare`: it takes a minute), and where numba is not installed, the event model does the work.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from simmig.experiment.leap.envelope import outside
from simmig.experiment.leap.interrupt import heard
from simmig.experiment.result import Result
from simmig.experiment.scenario.schema import Scenario
from simmig.trace.recorder import Recorder

Watch = Callable[[int, int, int], None]
"""Takes how far a run is: the round, the pages left in it, and the nanoseconds simulated."""

READY = "ready"
"""A file that is there when all is compiled, in a directory for exactly this code."""
PACKAGE = Path(__file__).parents[2]
FROZEN_ROOMS = ("experiment/leap", "guest", "migration", "trace", "verbs")
"""Whose sources are compiled, or imported by what is."""
WORTHWHILE_BYTES = 256 << 20
"""Smaller guests are simulated before compiled code has been loaded."""


def untraced(scenario: Scenario) -> Result | None:
    """What the event model would say of that scenario; None where it has to say so itself.

    The figures are the same. What takes a trace is not there: its digest, the invariants, the memory compared.
    """
    if not worthwhile(scenario, 0 if _is_loaded() else WORTHWHILE_BYTES):
        return None
    from simmig.experiment.leap.leap import leap  # noqa: PLC0415  (numba is slow to import)

    return leap(scenario)


def traced(
    scenario: Scenario,
    record: Callable[[], Recorder],
    again: bool,
    most_events: int | None = None,
    watch: Watch | None = None,
) -> Result | None:
    """The same with a trace, for the recorder that `record` makes; None where the event model has to make it.

    Figures and digest are the event model's, and memory is compared; invariants are for the recorder's readers.
    A run that is given up on the way is heard of by a recorder only if there may be another one, `again`. A trace
    of more than about `most_events` is not made; `watch` is told how far the run is that counts them.
    """
    if not worthwhile(scenario):
        return None
    from simmig.experiment.leap.leap import leap_traced  # noqa: PLC0415

    return leap_traced(scenario, record, again, most_events, watch)


def worthwhile(scenario: Scenario, least_bytes: int = WORTHWHILE_BYTES) -> bool:
    """Whether a leap knows that scenario, pays, and has its code at hand: then that is loaded."""
    if scenario.guest.memory_bytes < least_bytes or outside(scenario) is not None or not is_ready():
        return False
    return prepare()


def is_ready() -> bool:
    """Whether compiled code is at hand."""
    return _is_loaded() or (has_numba() and _marker().exists())


def _is_loaded() -> bool:
    return "simmig.experiment.leap.leap" in sys.modules


def prepare() -> bool:
    """Have it compiled, which takes a minute the first time; False without numba."""
    if _is_loaded():
        return True
    if not has_numba():
        return False
    import numba  # noqa: PLC0415

    marker = _marker()
    marker.parent.mkdir(parents=True, exist_ok=True)
    config: Any = numba.config
    before = config.CACHE_DIR, config.OPT
    config.CACHE_DIR = str(marker.parent)
    config.OPT = type(config.OPT)(1)  # compiles in 41 s in place of 49, and nothing runs longer for it
    try:
        with heard():
            importlib.import_module("simmig.experiment.leap.leap")
    finally:
        config.CACHE_DIR, config.OPT = before
    marker.touch()
    return True


def has_numba() -> bool:
    """Whether there is anything to compile with."""
    return importlib.util.find_spec("numba") is not None


def key_of(package: Path) -> str:
    """What machine code made of the package's sources depends on: all that it may have frozen, and who made it.

    It holds constants and functions of every room below this one; numba and numpy compile them.
    """
    made_by = [f"{name} {importlib.metadata.version(name)}" for name in ("numba", "llvmlite", "numpy")]
    digest = hashlib.sha256("\n".join([sys.version, platform.machine(), *made_by]).encode())
    for room in FROZEN_ROOMS:
        for file in sorted((package / room).rglob("*.py")):
            digest.update(f"\n{file.relative_to(package)}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1)
def _marker() -> Path:
    """Where `READY` is: numba looks at a function's own file alone, but compiles other files' functions in.

    It keeps what it compiled for each place of that file, and so the same sources elsewhere are not ready.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = hashlib.sha256(os.fsencode(PACKAGE)).hexdigest()[:8]
    return cache / "simmig" / f"leap-{key_of(PACKAGE)}-{place}" / READY
