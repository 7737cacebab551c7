"""Sweeps over a guest so small that a point takes milliseconds."""

from __future__ import annotations

from pathlib import Path

SCENARIO = """# small
seed = 1
[guest]
memory = "8 MiB"
workload = { kind = "uniform", working_set = "2 MiB", rate = "20 MiB/s" }
[link]
bandwidth = "1 Gbit/s"
latency = "2 us"
[migration]
downtime_limit = "5 ms"
"""

POLICIES = '''
import os
import time
from dataclasses import dataclass
from pathlib import Path

from simmig.migration.policies import Point


@dataclass
class Slow:
    """Sleeps once a migration, and writes down that it ran."""

    tag: int = 0

    def drain(self, point, sender):
        if point is Point.BEFORE_STOP:
            with (Path(__file__).parent / "ran.txt").open("a") as file:
                file.write(f"{self.tag}\\n")
            time.sleep(0.05)
        return None


@dataclass
class Bad:
    """Raises, or kills its process."""

    tag: int = 0

    def drain(self, point, sender):
        if self.tag == 1:
            raise RuntimeError("no such luck")
        if self.tag == 2:
            os._exit(9)
        return None
'''


def write(directory: Path, text: str) -> Path:
    """A sweep file beside its scenario and policies."""
    (directory / "small.toml").write_text(SCENARIO)
    (directory / "own.py").write_text(POLICIES)
    path = directory / "sweep.toml"
    path.write_text(f'scenario = "small.toml"\n{text}')
    return path
