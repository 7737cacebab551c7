"""Whole migrations simulated, against SimPy's raw timeouts, both in one run.

    python benchmarks/migration.py [MEMORY_GIB]

Each line says what a simulated migration costs in raw timeouts (a process that yields ``timeout(1)`` for ever):
the best of a few tries taken in turns, in processor time. Targets: a chunk write at most 10, a 1 TiB idle pin-all
guest at most 15 million and 2 GiB of memory, an 8 GiB guest with 10 rounds at most 1.5 million.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import simpy

from simmig.experiment.load import build_scenario
from simmig.experiment.run import World
from simmig.experiment.schema import Scenario

TIMEOUTS = 300_000
ROUNDS = 10


def timeouts_per_s() -> float:
    """SimPy's own speed."""
    env = simpy.Environment()

    def tick() -> Generator[Any, Any, None]:
        while True:
            yield env.timeout(1)

    env.process(tick())
    began_s = time.process_time()
    env.run(until=TIMEOUTS)
    return TIMEOUTS / (time.process_time() - began_s)


def scenario(memory_gib: int, **tables: dict[str, Any]) -> Scenario:
    """An idle guest on the 2013 set-up, but for these tables."""
    raw: dict[str, Any] = {
        "guest": {"memory": f"{memory_gib} GiB"},
        "link": {"model": "qemu-docs-40g"},
        "host": {"model": "qemu-docs-2013"},
    }
    for table, values in tables.items():
        raw.setdefault(table, {}).update(values)
    return build_scenario(raw, Path("benchmark.toml"))


def measure(what: Scenario, tries: int = 3, status: str = "completed") -> float:
    """Its cost in raw timeouts; raises RuntimeError when it ends otherwise than it should."""
    rates, seconds = [], []
    for _ in range(tries):
        rates.append(timeouts_per_s())
        world = World(what, None)
        began_s = time.process_time()
        world.run()
        seconds.append(time.process_time() - began_s)
        if world.outcome.status != status or world.different_pages:
            raise RuntimeError(f"the migration ended as {world.outcome}")
    return min(seconds) * max(rates)


def main() -> None:
    """Print the lines."""
    memory_gib = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    pinned = {"pin_all": True}
    unlimited = {"pin_all": True, "slice": "unlimited"}
    cases: dict[str, dict[str, Any]] = {
        "pin-all, QEMU's slices and policy": {"migration": pinned},
        "pin-all, one slice, final-only": {"migration": unlimited, "policy": {"name": "final-only"}},
        "pin-all, one slice, pending-limit": {"migration": unlimited, "policy": {"name": "pending-limit"}},
        "dynamic registration, QEMU's": {},
    }
    print("raw timeouts a chunk, 8 GiB idle guest")
    for name, tables in cases.items():
        small, large = measure(scenario(2, **tables)), measure(scenario(8, **tables))
        cost = (large - small) / (6 << 10)
        print(f"  {name:36}{cost:6.1f}   ({1 / cost:.3f} chunk writes a raw timeout)")
    busy = scenario(
        8,
        guest={"workload": {"kind": "sweep", "working_set": "1 GiB", "rate": "1600 MiB/s"}},
        migration={**pinned, "downtime_limit": "3 ms", "max_rounds": ROUNDS},
    )
    cost = measure(busy, status="not-converging")
    print(f"8 GiB guest, {ROUNDS} rounds: {cost / 1e6:.2f} M raw timeouts")
    cost = measure(scenario(memory_gib, migration=pinned), tries=1)
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(f"{memory_gib} GiB idle pin-all guest: {cost / 1e6:.2f} M raw timeouts, {peak_gib:.2f} GiB at most")


if __name__ == "__main__":
    main()
