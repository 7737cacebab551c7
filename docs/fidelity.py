"""Simulated against measured in the lab, hits and misses: `python docs/fidelity.py` writes docs/fidelity.md.

In one boot of the lab, for each link: the devices are calibrated, and every policy migrates every workload. Models
and runs are lines of docs/fidelity.jsonl as soon as they are made: what is there is not run again. The page is
made from these lines: each run is simulated, with the model that was calibrated before it. `--links`,
`--workloads`, `--policies` (names with commas between them) and `--repeats` choose a part; `--table` only writes
the page anew.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from statistics import correlation, mean, median, pstdev
from typing import Any

from simmig.experiment.fit.calibrate import Model, calibrate_devices
from simmig.experiment.fit.compare import downtime_hit, total_time_hit
from simmig.experiment.runs.pair import run_pair
from simmig.experiment.runs.run import run
from simmig.experiment.scenario.load import Overrides, load_scenario
from simmig.experiment.scenario.machine import Devices
from simmig.experiment.scenario.schema import Scenario

HERE = Path(__file__).resolve().parent
ROWS, PAGE = HERE / "fidelity.jsonl", HERE / "fidelity.md"
SCENARIO = HERE.parent / "scenarios" / "fidelity.toml"
DEVICES = Devices("rxe0", "rxe1")
LINKS = {f"{rate}mbit-{delay}ms": (rate, delay) for rate in (40, 100, 200) for delay in (0, 2, 10)}
MEMORY = {40: "12 MiB", 100: "32 MiB", 200: "48 MiB"}
"""By the link's rate: each takes two or three seconds to be sent, long beside what else takes time."""
POLICIES = {
    "final-only": "final-only",
    "per-iteration": "per-iteration",
    "per-round": "per-round",
    "per-chunk": "per-chunk",
    "pending-limit": "pending-limit,limit=2 MiB",
    "every-bytes": "every-bytes,interval=4 MiB",
    "at-switch": "at-switch",
    "downtime-budget": "downtime-budget",
}
WORKLOADS = {
    "sweep": "{ kind = 'sweep', working_set = '2 MiB', rate = '256 KiB/s' }",
    "idle": "{ kind = 'idle' }",
    "uniform": "{ kind = 'uniform', working_set = '2 MiB', rate = '64 KiB/s' }",
}
KEYS = ("status", "reason", "setup_time_ns", "total_time_ns", "downtime_ns", "downtime_parts", "memory_identical")
PARTS = {
    "setup": "",
    "live": "",
    "residual pages": "residual_pages_ns",
    "drain": "drain_ns",
    "device state": "device_state_ns",
    "switch": "switch_ns",
}
ABOUT = """\
Made by `python docs/fidelity.py`: the lab's two soft-RoCE devices, a veth pair, netem's rate and delay (each
way). On each link the devices are calibrated by writes, registrations and migrations of a 4 MiB guest; the
simulation knows nothing else: the link as calibrated there; the hosts, which are the same on all links, by the
medians of all calibrations. The guests have 12, 32 and 48 MiB on 40, 100 and 200 Mbit/s. A hit: total time
within 5 %, downtime within 15 % or 20 ms of the measured median.
"""
AT_BEST = """\
## What can be expected at best

Two repeats of a cell differ, and no prediction is near both of two runs that are far from each other. Half their
difference is how far their median is off what is typical of the cell, errors being as likely long as short: a
predictor that knew what is typical of every cell, but not its runs, could expect to hit as many as there are in
which that is within the tolerance. Run by run: the first is the prediction of the last. More can be expected of
more repeats only, or of a machine that does nothing else meanwhile. In common: the correlation, over the cells of
a link, of what the total of the first repeat is off by with what that of the last is. This share of the variance a
better model could know, be it of the processors that both ends and their software devices share, or of anything
else that is not the same for all cells of a link; the rest differs from run to run.
"""
Cell = tuple[str, str, str, int]
Score = Counter[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, and write the page."""
    parser = argparse.ArgumentParser(description="Simulated against measured, in the lab.")
    parser.add_argument("--links", type=_names(LINKS), default=list(LINKS), help=", ".join(LINKS))
    parser.add_argument("--policies", type=_names(POLICIES), default=list(POLICIES))
    parser.add_argument("--workloads", type=_names(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only write the page")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.inside:
        return _carry_out(asked)
    left = 0 if asked.table else sum(len(_missing(asked, link)) for link in asked.links)
    status = 0
    if left:
        _tell(f"{left} migrations to do")
        status = _boot(asked)
    if ROWS.exists():
        PAGE.write_text("\n".join([*_page(_predicted()), ""]), encoding="utf-8")
        _tell(f"{PAGE} is written")
    return status


def _names(known: dict[str, Any]) -> Any:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return names

    return parse


def _tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _lines(kind: str) -> list[dict[str, Any]]:
    """What was run ("run") or calibrated ("model"); a line cut short by a crash does not count."""
    lines = []
    for line in ROWS.read_text().splitlines() if ROWS.exists() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [line for line in lines if line["kind"] == kind]


def _keep(kind: str, **values: Any) -> None:
    with ROWS.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"kind": kind} | values) + "\n")


def _scenario(link: str, workload: str, policy: str) -> Scenario:
    settings = f"guest.memory={MEMORY[LINKS[link][0]]}", f"guest.workload={WORKLOADS[workload]}"
    return load_scenario(SCENARIO, Overrides(settings, POLICIES[policy]))


def _missing(asked: argparse.Namespace, link: str) -> list[Cell]:
    done = {(row["link"], row["workload"], row["policy"], row["repeat"]) for row in _lines("run")}
    cells = [
        (link, workload, policy, repeat)
        for repeat in range(asked.repeats)
        for workload in asked.workloads
        for policy in asked.policies
    ]
    return [cell for cell in cells if cell not in done]


def _boot(asked: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "simmig.cli", "lab", "--", sys.executable, str(Path(__file__).resolve())]
    command += ["--inside", "--repeats", str(asked.repeats)]
    for option in ("links", "policies", "workloads"):
        command += [f"--{option}", ",".join(getattr(asked, option))]
    status = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, cwd=HERE.parent).returncode
    if status:
        _tell(f"the lab ended with status {status}; run this again to go on")
    return status


def _carry_out(asked: argparse.Namespace) -> int:
    """In the lab: what is missing, link by link."""
    return sum(_carry_out_on(asked, link) for link in asked.links) and 1


def _carry_out_on(asked: argparse.Namespace, link: str) -> int:
    """Calibrate, and run what is missing of one link; returns how many runs could not be made."""
    left = _missing(asked, link)
    if not left:
        return 0
    rate, delay = LINKS[link]
    for end in ("veth0", "veth1"):
        netem = f"tc qdisc replace dev {end} root netem rate {rate}mbit delay {delay}ms limit 20000"
        subprocess.run(netem.split(), check=True)
    _tell(f"{link}: {len(left)} migrations to do")
    model = calibrate_devices(DEVICES, _tell)
    _keep("model", made=model.made, kernel=model.kernel, link=link, tables=model.tables)
    failed = 0
    for _, workload, policy, repeat in left:
        name = f"{link} {workload} {policy} {repeat}"
        try:
            figures = run_pair(model.applied_to(_scenario(link, workload, policy)), DEVICES).figures()
        except Exception as error:  # one bad run is told, and is not the end of the others
            _tell(f"{name}: {type(error).__name__}: {error}")
            failed += 1
            continue
        measured = {key: figures[key] for key in KEYS}
        _keep(
            "run", made=model.made, link=link, workload=workload, policy=policy, repeat=repeat, measured=measured
        )
        _tell(f"{name}: {figures['status']}, {figures['total_time_ns'] / 1e9:.2f} s")
    return failed


def _predicted() -> list[dict[str, Any]]:
    """What was run, each run with what a simulation says that knows the calibrations and no more."""
    models = _models()

    @functools.cache
    def figures(made: str, *cell: str) -> dict[str, Any]:
        return run(models[made].applied_to(_scenario(*cell))).figures()

    rows = _lines("run")
    for row in rows:
        row["predicted"] = figures(row["made"], row["link"], row["workload"], row["policy"])
    return rows


def _models() -> dict[str, Model]:
    """By when they were made: each link's own, but the hosts' costs by all of them: the hosts are the same."""
    lines = _lines("model")
    hosts = {side: _medians([line["tables"][side] for line in lines]) for side in ("host", "destination_host")}
    return {line["made"]: Model(DEVICES, line["made"], line["kernel"], line["tables"] | hosts) for line in lines}


def _medians(tables: Sequence[dict[str, str]]) -> dict[str, str]:
    return {
        key: f"{median(float(table[key].removesuffix(' ns')) for table in tables):.9g} ns" for key in tables[0]
    }


def _page(rows: list[dict[str, Any]]) -> Iterator[str]:
    groups: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    bad = [row for row in rows if not _sound(row["measured"])]
    for row in rows:
        if row not in bad:
            groups.setdefault((row["link"], row["workload"]), {}).setdefault(row["policy"], []).append(row)
    lines: list[str] = []
    scores: dict[str, Score] = {link: Counter() for link, _ in groups}
    orders: Counter[int] = Counter()
    for (link, workload), policies in groups.items():
        for policy, runs in policies.items():
            lines.append(_line(link, workload, policy, runs, scores[link]))
        for one, other in combinations(policies.values(), 2):
            orders.update(_order(one, other))
    yield "# Simulated against measured"
    yield ""
    yield ABOUT
    score = sum(scores.values(), Score())
    cells = score["cells"]
    for name, what in (("total", "total time"), ("downtime", "downtime")):
        yield f"- {what}: {score[name]} of {cells} hit; {score[f'{name} at best']} can be expected at best"
    pairs = f"{orders[1]} of {orders.total()} pairs agree"
    yield f"- order of policies by downtime, where repeats separate them: {pairs},"
    yield f"  {orders[0]} are predicted to be equal and {orders[-1]} the other way round (two equal policies'"
    yield "  repeats, two of each, lie apart by chance every third time)"
    yield f"- migrations that did not complete with identical memory: {len(bad)} of {len(rows)}"
    yield ""
    sound = [row for row in rows if row not in bad]
    yield from _best(scores | {"all": score}, sound)
    yield ""
    yield "## By part"
    yield ""
    yield "What the prediction of each part of a migration is off by, over all runs on a link: the median, and the"
    yield "standard deviation around it. The first is the calibration's error, the second mostly how one run here"
    yield "differs from the next; the setup, in which no policy has a part, shows it best."
    yield ""
    yield "| link | " + " | ".join(PARTS) + " |"
    yield "| --- |" + " --- |" * len(PARTS)
    for link in dict.fromkeys(row["link"] for row in rows):
        yield f"| {link} | " + " | ".join(_off(list(PARTS), [row for row in rows if row["link"] == link])) + " |"
    yield ""
    yield "## Every cell"
    yield ""
    columns = ["link", "workload", "policy", "runs", "total: predicted", "measured", "off", ""]
    yield "| " + " | ".join([*columns, "downtime: predicted", "measured", "off", ""]) + " |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    yield from lines


def _best(scores: dict[str, Score], rows: list[dict[str, Any]]) -> Iterator[str]:
    """How many hits a predictor could expect that knew what is typical of every cell, but not its runs."""
    yield AT_BEST
    yield "| link | total: hit | at best | run by run | downtime: hit | at best | run by run | cells | in common |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    kinds = [f"{name}{kind}" for name in ("total", "downtime") for kind in ("", " at best", " run by run")]
    for link, score in scores.items():
        common = _in_common([row for row in rows if link in (row["link"], "all")])
        yield f"| {link} | " + " | ".join(f"{score[kind]}" for kind in [*kinds, "cells"]) + f" | {common:.2f} |"


def _in_common(rows: list[dict[str, Any]]) -> float:
    """How well what cells' first runs are off by, beside their link's others, tells what their last are off by."""
    cells: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        measured, predicted = (row[side]["total_time_ns"] for side in ("measured", "predicted"))
        cells.setdefault((row["link"], row["workload"], row["policy"]), []).append(measured / predicted)
    pairs: dict[str, list[tuple[float, float]]] = {}
    for (link, *_), offs in cells.items():
        pairs.setdefault(link, []).append((offs[0], offs[-1]))
    centred = [[off - mean(side) for off in side] for link in pairs.values() for side in zip(*link, strict=True)]
    firsts, lasts = ([off for side in centred[at::2] for off in side] for at in (0, 1))
    return correlation(firsts, lasts) if any(firsts) and any(lasts) else 0.0


def _off(parts: Sequence[str], rows: list[dict[str, Any]]) -> Iterator[str]:
    for part in parts:
        off = [(_part(row["predicted"], part) - _part(row["measured"], part)) / 1e6 for row in rows]
        yield f"{median(off):+.0f} ms ± {pstdev(off):.0f}"


def _part(figures: dict[str, Any], part: str) -> int:
    if part == "live":
        return int(figures["total_time_ns"] - figures["setup_time_ns"] - figures["downtime_ns"])
    return int(figures["setup_time_ns"] if part == "setup" else figures["downtime_parts"][PARTS[part]])


def _sound(figures: dict[str, Any]) -> bool:
    return bool(figures["status"] == "completed" and figures["memory_identical"])


def _typical(runs: list[dict[str, Any]], side: str, key: str) -> float:
    return float(median(run[side][key] for run in runs))


def _line(link: str, workload: str, policy: str, runs: list[dict[str, Any]], score: Score) -> str:
    score["cells"] += 1
    text = f"| {link} | {workload} | {policy} | {len(runs)} "
    for name, key, judge, unit, scale in (
        ("total", "total_time_ns", total_time_hit, "s", 1e9),
        ("downtime", "downtime_ns", downtime_hit, "ms", 1e6),
    ):
        predicted, measured = (_typical(runs, side, key) for side in ("predicted", "measured"))
        hit = judge(predicted, measured)
        values = [run["measured"][key] for run in runs]
        even = len(values) // 2 * 2
        error = abs(sum(values[:even:2]) - sum(values[1:even:2])) / max(even, 1)
        score[name] += hit
        score[f"{name} at best"] += judge(measured + error, measured)
        score[f"{name} run by run"] += judge(values[0], values[-1])
        off = f"{100 * (predicted / measured - 1):+.1f} %"
        text += f"| {predicted / scale:.3g} {unit} | {measured / scale:.3g} {unit} | {off} "
        text += f"| {'hit' if hit else '**miss**'} "
    return text + "|"


def _order(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> Iterator[int]:
    """1 where the prediction orders two policies as the device does, 0 or -1; none where repeats do not tell."""
    if min(len(one), len(other)) < 2:
        return
    first, second = ([run["measured"]["downtime_ns"] for run in runs] for runs in (one, other))
    if max(first) >= min(second) and max(second) >= min(first):
        return
    shorter, longer = (one, other) if max(first) < min(second) else (other, one)
    predicted = [_typical(runs, "predicted", "downtime_ns") for runs in (shorter, longer)]
    yield (predicted[0] < predicted[1]) - (predicted[0] > predicted[1])


if __name__ == "__main__":
    sys.exit(main())
