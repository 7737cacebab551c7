"""Who looks for a mutant, and what they answer: `simmig verify` in its ways, and the tests of the device rules."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mutants.catalogue import ROOT

GRACE_S = 240
"""What an explorer may take beyond its budget to shrink and report, before it counts as hanging."""
FIRST_SEED = 1
"""All mutants, and the unmutated code, are shown the same seeds."""
BROKEN_ANYWAY = "broken without it"
"""Said of a counterexample that breaks the unmutated code as well."""
_RULES = ("state", "posting", "completion", "cq", "memory", "transport")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one explorer said of one copy.

    `by` names the invariant (or the test) that broke, `seconds` are those to a shrunk counterexample, `runs`
    counts migrations up to the first that broke it, `steps` are what is left of it after shrinking; 0 where an
    explorer has no such thing. `complete` says that an exhaustive search came to its end, `trouble` why an
    explorer could not work.
    """

    explorer: str
    killed: bool
    by: str = ""
    seconds: float = 0.0
    runs: int = 0
    steps: int = 0
    complete: bool = False
    trouble: str = ""


def rules(copy: Path, budget_s: float) -> Finding:
    """The tests of the device's rules: the oracle for what is in no migration's trace."""
    files = [str(file) for name in _RULES for file in sorted(copy.glob(f"tests/*/test_rules_{name}.py"))]
    command = ["-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-q", "-x", "--tb=no", *files]
    began = time.perf_counter()
    code, output, errors = _run(copy, command, budget_s + GRACE_S)
    seconds = time.perf_counter() - began
    if code is None:
        return Finding("rules", True, "hangs", seconds)
    failed = re.search(r"^(?:FAILED|ERROR) \S*?::?(\w+)", output, re.MULTILINE)
    if code not in (0, 1, 2) or (code == 2 and failed is None):
        return Finding("rules", False, trouble=(errors or output).strip().splitlines()[-1])
    return Finding("rules", code != 0, failed[1] if failed else "", seconds)


def seeds(copy: Path, budget_s: float) -> Finding:
    """Random cases from FIRST_SEED on."""
    began = time.perf_counter()
    first = FIRST_SEED
    while True:
        left_s = max(1.0, budget_s - (time.perf_counter() - began))
        finding = _verify("seeds", copy, ["--seed", str(first)], left_s, began)
        if finding.by != BROKEN_ANYWAY or time.perf_counter() - began > budget_s:
            return finding
        first = finding.runs + FIRST_SEED  # go on behind it


def exhaustive(copy: Path, budget_s: float) -> Finding:
    """Everything within the bound, or as much of it as the budget allows."""
    return _verify("exhaustive", copy, ["--exhaustive"], budget_s, time.perf_counter())


def _verify(explorer: str, copy: Path, options: list[str], budget_s: float, began: float) -> Finding:
    """A counterexample only counts when the unmutated code holds on it."""
    command = ["-m", "simmig.cli", "verify", *options, "--budget", f"{budget_s:g} s", "--jobs", "1", "--json"]
    code, output, errors = _run(copy, [*command, "--out", str(copy / f"found-{explorer}")], budget_s + GRACE_S)
    seconds = time.perf_counter() - began
    if code is None:
        return Finding(explorer, True, "hangs", seconds)
    try:
        said = json.loads(output)
    except json.JSONDecodeError:
        words = (errors or output).strip().splitlines() or ["nothing said"]
        return Finding(explorer, False, seconds=seconds, trouble=words[-1])
    found = said["counterexample"]
    if found is None:
        return Finding(explorer, False, "", seconds, said["runs"], complete=said.get("complete", False))
    runs = said["runs"] if found["seed"] is None else found["seed"] - FIRST_SEED + 1
    replay = ["-m", "simmig.cli", "verify", "--replay", str(copy / found["replay"]), "--json"]
    _, output, errors = _run(ROOT, replay, GRACE_S)
    if not output:
        return Finding(explorer, False, trouble=(errors or "nothing said").strip().splitlines()[-1])
    if json.loads(output)["broken"]:
        return Finding(explorer, False, BROKEN_ANYWAY, seconds, runs)
    return Finding(explorer, True, found["invariant"], seconds, runs, found["steps"])


EXPLORERS: dict[str, tuple[Callable[[Path, float], Finding], ...]] = {
    "protocol": (seeds, exhaustive),
    "device": (rules, seeds, exhaustive),
}
"""Who looks for a mutant of that kind, one after the other until it is found."""
NAMES = ("rules", "seeds", "exhaustive")


def _run(copy: Path, arguments: list[str], limit_s: float) -> tuple[int | None, str, str]:
    """Exit status (None when it was stopped at the limit), standard output and standard error."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, "", ""
    return done.returncode, done.stdout, done.stderr
