"""``python -m benchmarks.mutants``: show each mutant to the explorers, and tell which of them found it."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from benchmarks.mutants.catalogue import ROOT, Mutant, MutantError, catalogue, copy_package
from benchmarks.mutants.explorers import EXPLORERS, Finding
from benchmarks.mutants.report import CONTROL, Record, document, table

BUDGET_S = 60.0
DOCUMENT = ROOT / "docs/mutants.md"


def main(arguments: Sequence[str]) -> int:
    """Exit status 1 when a mutant that is not equivalent survives, or the unmutated code does not hold."""
    options = _options(arguments)
    try:
        mutants = catalogue()
        if unknown := set(options.only or ()) - {mutant.name for mutant in mutants} - {CONTROL}:
            raise MutantError(f"--only {', '.join(sorted(unknown))}: no such mutant in {ROOT}/benchmarks/mutants")
        records = _read(options.out, mutants)
        wanted = [None, *mutants] if not options.only else [m for m in mutants if m.name in options.only]
        if options.only and CONTROL in options.only:
            wanted = [None, *wanted]
        todo = [mutant for mutant in wanted if (CONTROL if mutant is None else mutant.name) not in records]
        with ThreadPoolExecutor(options.jobs) as pool:  # the work is done by processes of their own
            for record in pool.map(lambda mutant: judge(mutant, options.budget), todo):
                records[record.mutant] = record
                print(record.line(), flush=True)
                if options.out is not None:
                    with options.out.open("a") as out:
                        out.write(json.dumps(asdict(record)) + "\n")
    except MutantError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    chosen = [mutant for mutant in mutants if mutant.name in records]
    print(table(chosen, records))
    if options.document:
        DOCUMENT.write_text(document(chosen, records))
    alive = [m for m in chosen if not m.equivalent and not records[m.name].killed]
    control = records.get(CONTROL)
    return 1 if alive or (control and any(finding.by for finding in control.findings)) else 0


def judge(mutant: Mutant | None, budget_s: float) -> Record:
    """Show it to one explorer after another until it is found; None is the unmutated code, shown to all."""
    kind = "device" if mutant is None else mutant.kind
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        copy_package(Path(directory), mutant)
        for explore in EXPLORERS[kind]:
            findings.append(explore(Path(directory), budget_s))
            if findings[-1].trouble:
                raise MutantError(
                    f"{findings[-1].explorer} cannot work on {_name(mutant)}: {findings[-1].trouble}"
                )
            if findings[-1].killed:
                break
    return Record(_name(mutant), "" if mutant is None else mutant.digest(), budget_s, findings)


def _name(mutant: Mutant | None) -> str:
    return CONTROL if mutant is None else mutant.name


def _read(path: Path | None, mutants: Sequence[Mutant]) -> dict[str, Record]:
    """What was measured before, of mutants that are as they were."""
    if path is None or not path.exists():
        return {}
    digests = {mutant.name: mutant.digest() for mutant in mutants} | {CONTROL: ""}
    records: dict[str, Record] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            fields = json.loads(line)
            record = Record(**fields | {"findings": [Finding(**each) for each in fields["findings"]]})
        except (ValueError, TypeError, KeyError) as error:
            raise MutantError(
                f"{path}:{number}: no result of this benchmark; name another --out ({error})"
            ) from error
        if digests.get(record.mutant) == record.digest:
            records[record.mutant] = record
    return records


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"these mutants ({CONTROL}: the unmutated code)")
    parser.add_argument("--budget", type=float, default=BUDGET_S, metavar="S", help="seconds for each explorer")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="mutants at a time")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="results, a line each; what is in it is not run again"
    )
    parser.add_argument("--document", action="store_true", help="write docs/mutants.md")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
