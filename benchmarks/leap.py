"""A leap against the event model and SimPy's raw timeouts, all in one run, and whether the figures are the same.

    python benchmarks/leap.py [MEMORY_GIB]

A line a case, in raw timeouts a MiB of guest memory (a process that yields ``timeout(1)`` for ever): a leap
without a trace, with the trace's digest alone (target: 5 times that), and as `run` has it, all invariants checked;
the event model without a trace (nobody records), and as it runs where no compiled code is at hand. Then how many
times as fast as the event model a leap is, without a trace (target: 100) and as it is run, and its time without.
Processor time, the best of a few tries taken in turns.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from simmig.experiment import leap
from simmig.experiment.result import Result
from simmig.experiment.runs.run import Simulation, run
from simmig.migration import policies
from simmig.migration.policies.policy import Point, Sender
from simmig.trace.recorder import Recorder

try:
    from benchmarks.migration import scenario, timeouts_per_s
except ImportError:  # run as a script
    from migration import scenario, timeouts_per_s  # type: ignore[no-redef,import-not-found]

TRIES = 2
OF_THE_TRACE = ("trace_sha256", "engine", "invariants", "memory_identical")


class Own:
    """The default policy, as somebody would write it."""

    def drain(self, point: Point, sender: Sender) -> int | None:
        return 0 if point is Point.SLICE_END else None


OWN = policies.register("own", Own)
CASES: dict[str, dict[str, Any]] = {
    "pin-all, idle": {"migration": {"pin_all": True}},
    "pin-all, idle, one slice": {"migration": {"pin_all": True, "slice": "unlimited"}},
    "dynamic registration, idle": {},
    "the same, a policy of one's own": {"policy": {"name": OWN}},
    "dynamic, control queue pair of its own": {
        "migration": {
            "control_qp": "own",
            "control_wait": "deferred",
            "registration_batch": 4096,
            "slice": "unlimited",
        }
    },
    "dynamic, soft-RoCE's window": {"device": {"profile": "rxe"}, "link": {"latency": "1 ms"}},
    "pin-all, limits that change": {
        "migration": {
            "pin_all": True,
            "max_bandwidth": "4 GiB/s",
            "change": [{"at": "1 s", "max_bandwidth": "unlimited"}],
        }
    },
    "pin-all, sweep, 10 rounds": {
        "guest": {"workload": {"kind": "sweep", "working_set": "1 GiB", "rate": "1600 MiB/s"}},
        "migration": {"pin_all": True, "downtime_limit": "3 ms", "max_rounds": 10},
    },
    "dynamic, scattered pages": {
        "guest": {"workload": {"kind": "uniform", "working_set": "2 GiB", "rate": "256 MiB/s"}},
        "migration": {"downtime_limit": "30 ms", "max_rounds": 5},
    },
    "dynamic, uniform, 5 rounds": {
        "guest": {"workload": {"kind": "uniform", "working_set": "128 MiB", "rate": "200 MiB/s"}},
        "migration": {"downtime_limit": "3 ms", "max_rounds": 5},
    },
}


def seconds(what: Callable[[], object]) -> float:
    """Processor time of a call."""
    began_s = time.process_time()
    what()
    return time.process_time() - began_s


def leapt(what: Any) -> Result:
    """The leap's result; raises RuntimeError when there is none."""
    result = leap.untraced(what)
    if result is None:
        raise RuntimeError("numba is not installed, or the scenario is not one that a leap knows")
    return result


def by_events(what: Any) -> Result:
    """The event model's, with a trace."""
    with mock.patch.object(leap, "is_ready", return_value=False):
        return run(what)


def untraced(what: Any) -> None:
    """The event model, with nobody who records."""
    Simulation(what, None).run()


def digest(what: Any) -> str | None:
    """A leap's, of the trace that nobody reads."""
    result = leap.traced(what, Recorder, again=True)
    return result.trace_sha256 if result is not None else None


def main() -> None:
    """Print the lines."""
    memory_gib = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    began_s = time.perf_counter()
    leap.prepare()
    print(f"compiled code at hand after {time.perf_counter() - began_s:.1f} s")
    print(f"{memory_gib} GiB guest, raw timeouts a MiB: a leap untraced, with its digest, as it is run; the event")
    print(
        "model untraced, as it is run; how many times as fast a leap is untraced, as it is run; its time untraced"
    )
    for name, tables in CASES.items():
        what = scenario(memory_gib, **tables)
        traced, ours = by_events(what), leapt(what)
        theirs = traced.figures()
        same = all(theirs[key] == ours.figures()[key] for key in theirs if key not in OF_THE_TRACE)
        if not same or traced.tables() != ours.tables() or digest(what) != traced.trace_sha256:
            raise RuntimeError(f"{name}: the leap comes to other figures, or another trace, than the event model")
        ways: tuple[Callable[[Any], object], ...] = (leapt, digest, run, untraced, by_events)
        costs: list[list[float]] = [[] for _ in ways]
        timeouts_s = 0.0
        for _ in range(TRIES):
            timeouts_s = max(timeouts_s, timeouts_per_s())
            for way, taken in zip(ways, costs, strict=True):
                taken.append(seconds(lambda way=way, what=what: way(what)))  # type: ignore[misc]
        best = [min(taken) for taken in costs]
        columns = "".join(f"{each * timeouts_s / (memory_gib << 10):9.2f}" for each in best)
        faster = f"{best[3] / best[0]:8.0f}{best[4] / best[2]:6.0f}"
        print(f"  {name:38}{columns}{faster}{best[0] * 1e3:9.1f} ms", flush=True)


if __name__ == "__main__":
    main()
