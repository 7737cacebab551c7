"""Whole migrations simulated, against SimPy's raw timeouts, both in one run.

    python benchmarks/migration.py [MEMORY_GIB]

Each line says what a simulated migration costs in raw timeouts (a process that yields ``timeout(1)`` for ever),
untraced as sweeps run it, by the event model with nobody recording, and with a trace: the best of a few tries,
each beside raw timeouts of its own, in processor time. Targets: a chunk write at most 10, a 1 TiB idle pin-all
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

from simmig.experiment import leap
from simmig.experiment.runs.run import Simulation, run
from simmig.experiment.scenario.load import build_scenario
from simmig.experiment.scenario.schema import Scenario

TIMEOUTS = 300_000
ROUNDS = 10
UNTRACED, TRACED = "run(traced=False)", "simmig run, traced"
WAYS = (UNTRACED, "event model, no trace", TRACED)
"""How a migration is simulated: as sweeps do (a leap), by events nobody records, and with a trace's readers."""


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


def seconds_of(what: Scenario, way: str, status: str) -> float:
    """Processor time of one run; raises RuntimeError when it ends otherwise than it should."""
    if way == "event model, no trace":
        world = Simulation(what, None)
        began_s = time.process_time()
        world.run()
        seconds = time.process_time() - began_s
        ended, good = str(world.outcome.status), not world.different_pages
    else:
        began_s = time.process_time()
        result = run(what, traced=way == TRACED)
        seconds = time.process_time() - began_s
        ended, good = result.status, all(result.invariants.values())
    if ended != status or not good:
        raise RuntimeError(f"the migration ended as {ended}")
    return seconds


def measure(what: Scenario, way: str, tries: int = 4, status: str = "completed") -> float:
    """Its cost in raw timeouts: the best of a few tries, each taken with the machine's speed at that moment."""
    costs = []
    for _ in range(tries):
        before = timeouts_per_s()
        seconds = seconds_of(what, way, status)
        costs.append(seconds * max(before, timeouts_per_s()))
    return min(costs)


def main() -> None:
    """Print the lines."""
    memory_gib = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    leap.prepare()
    pinned = {"pin_all": True}
    unlimited = {"pin_all": True, "slice": "unlimited"}
    cases: dict[str, dict[str, Any]] = {
        "pin-all, QEMU's slices and policy": {"migration": pinned},
        "pin-all, one slice, final-only": {"migration": unlimited, "policy": {"name": "final-only"}},
        "pin-all, one slice, pending-limit": {"migration": unlimited, "policy": {"name": "pending-limit"}},
        "dynamic registration, QEMU's": {},
    }
    print("raw timeouts a chunk, idle guest (in brackets chunk writes a raw timeout)")
    for name, tables in cases.items():
        print(f"  {name}")
        for way in WAYS:
            few, many = (16, 128) if way == UNTRACED else (2, 8)  # GiB: what differs must outlast the noise
            small, large = measure(scenario(few, **tables), way), measure(scenario(many, **tables), way)
            cost = (large - small) / ((many - few) << 10)
            print(f"    {way:24}{cost:8.2f}   ({1 / cost:.3f})")
    busy = scenario(
        8,
        guest={"workload": {"kind": "sweep", "working_set": "1 GiB", "rate": "1600 MiB/s"}},
        migration={**pinned, "downtime_limit": "3 ms", "max_rounds": ROUNDS},
    )
    print(f"8 GiB guest, {ROUNDS} rounds")
    for way in WAYS:
        print(f"  {way:24}{measure(busy, way, tries=2, status='not-converging') / 1e6:8.3f} M raw timeouts")
    print(f"{memory_gib} GiB idle pin-all guest")
    for way in (UNTRACED, "event model, no trace"):  # the frugal one first: the peak only ever grows
        cost = measure(scenario(memory_gib, migration=pinned), way, tries=1)
        peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
        print(f"  {way:24}{cost / 1e6:8.2f} M raw timeouts, {peak_gib:.2f} GiB at most")


if __name__ == "__main__":
    main()
