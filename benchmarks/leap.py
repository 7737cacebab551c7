"""A leap against the event model, both in one run: how many times as fast, and whether the figures are the same.

    python benchmarks/leap.py [MEMORY_GIB]

The event model is taken without a trace (nobody records) and as a run has it (metrics, invariants, digest). Then
what a trace costs a leap, times the leap without: the digest alone (target: 5), and with all invariants checked.
Processor time, the best of a few tries taken in turns. Target: 100 times the event rate.
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
    from benchmarks.migration import scenario
except ImportError:  # run as a script
    from migration import scenario  # type: ignore[no-redef,import-not-found]

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
    print(f"{memory_gib} GiB guest: times as fast as the event model without a trace, and as it is run with one;")
    print("then times as slow with a trace: its digest alone, and as it is run")
    for name, tables in CASES.items():
        what = scenario(memory_gib, **tables)
        traced, ours = by_events(what), leapt(what)
        theirs = traced.figures()
        same = all(theirs[key] == ours.figures()[key] for key in theirs if key not in OF_THE_TRACE)
        if not same or traced.tables() != ours.tables() or digest(what) != traced.trace_sha256:
            raise RuntimeError(f"{name}: the leap comes to other figures, or another trace, than the event model")
        untraced_s, traced_s, leap_s, digest_s, run_s = [], [], [], [], []
        for _ in range(TRIES):
            leap_s.append(seconds(lambda what=what: leapt(what)))  # type: ignore[misc]
            digest_s.append(seconds(lambda what=what: digest(what)))  # type: ignore[misc]
            run_s.append(seconds(lambda what=what: run(what)))  # type: ignore[misc]
            untraced_s.append(seconds(lambda what=what: Simulation(what, None).run()))  # type: ignore[misc]
            traced_s.append(seconds(lambda what=what: by_events(what)))  # type: ignore[misc]
        best = min(leap_s)
        print(
            f"  {name:38}{min(untraced_s) / best:6.0f}{min(traced_s) / best:6.0f}   ({best * 1e3:6.1f} ms)"
            f"{min(digest_s) / best:8.1f}{min(run_s) / best:8.1f}"
        )


if __name__ == "__main__":
    main()
