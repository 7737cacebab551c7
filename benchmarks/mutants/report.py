"""The score, as a table for a terminal and as docs/mutants.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.mutants.catalogue import KINDS, Mutant
from benchmarks.mutants.explorers import FIRST_SEED, NAMES, Finding

CONTROL = "unmutated"
_HEADINGS = {"protocol": "The migration", "device": "The simulated device"}


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a mutant (or, under the name CONTROL, of the code as it is)."""

    mutant: str
    digest: str
    budget_s: float
    findings: list[Finding]

    @property
    def killed(self) -> bool:
        """Whether an explorer found it."""
        return any(finding.killed for finding in self.findings)

    @property
    def last(self) -> Finding:
        """What the explorer said that found it, or the last one that did not."""
        return self.findings[-1]

    @property
    def at_once(self) -> bool:
        """Whether the very first run already broke: such a slip would not survive its first test."""
        return self.killed and self.last.runs == 1

    def line(self) -> str:
        """It in one line."""
        found = self.last
        if not self.killed:
            verb = "held by" if self.mutant == CONTROL else "survived"
            return f"{self.mutant:34} {verb} {', '.join(each.explorer for each in self.findings)}"
        steps = f"{found.steps} steps" if found.steps else ""
        once = "at once" if self.at_once else f"run {found.runs}" if found.runs else ""
        return f"{self.mutant:34} {found.explorer:10} {found.by:32.32} {found.seconds:6.1f} s  {steps:9} {once}"


def summary(mutants: Sequence[Mutant], records: Mapping[str, Record]) -> list[str]:
    """The score in a few lines."""
    lines = []
    for kind in KINDS:
        counted = [records[m.name] for m in mutants if m.kind == kind and not m.equivalent]
        if not counted:
            continue
        killed = [record for record in counted if record.killed]
        by = Counter(record.last.explorer for record in killed)
        lines.append(
            f"{_HEADINGS[kind]}: {len(killed)} of {len(counted)} killed ({len(killed) / len(counted):.0%}); "
            + ", ".join(f"{by[name]} by {name}" for name in NAMES if by[name])
            + f"; {sum(record.at_once for record in killed)} at once"
        )
    verified = [r.last for m in mutants if (r := records[m.name]).killed and r.last.runs and not m.equivalent]
    if verified:
        seconds = [finding.seconds for finding in verified]
        steps = [finding.steps for finding in verified if finding.steps]
        lines.append(
            f"Median time to a shrunk counterexample: {median(seconds):.1f} s (longest {max(seconds):.0f} s)"
        )
        lines.append(f"Median counterexample: {median(steps):g} steps (longest {max(steps)})")
    alive = [m.name for m in mutants if not m.equivalent and not records[m.name].killed]
    lines.append(f"Survivors: {', '.join(alive) or 'none'}")
    lines.append(f"Equivalent, not counted: {sum(bool(m.equivalent) for m in mutants)}")
    if (control := records.get(CONTROL)) is not None:
        held = ", ".join(
            f"{finding.explorer} ({finding.runs} runs)" if finding.runs else finding.explorer
            for finding in control.findings
        )
        broken = any(finding.by for finding in control.findings)
        lines.append(f"The unmutated code {'BREAKS' if broken else 'holds'}: {held}")
    return lines


def table(mutants: Sequence[Mutant], records: Mapping[str, Record]) -> str:
    """For a terminal."""
    return "\n".join(["", *summary(mutants, records)])


def document(mutants: Sequence[Mutant], records: Mapping[str, Record]) -> str:
    """docs/mutants.md."""
    budgets = sorted({records[mutant.name].budget_s for mutant in mutants})
    lines = [
        "# Planted bugs, and who finds them",
        "",
        "Written by `python -m benchmarks.mutants --out FILE --document`; what each mutant changes is in",
        f"`benchmarks/mutants/`. Every mutant is shown the same seeds, from {FIRST_SEED}, on one core. An",
        f"explorer has {' or '.join(f'{budget:g}' for budget in budgets)} seconds, and the next one looks only",
        'where it found nothing. "At once" means that the first run broke. Seconds include start-up, shrinking',
        "and writing the counterexample.",
        "",
        *(f"- {line}" for line in summary(mutants, records)),
    ]
    for kind in KINDS:
        chosen = [mutant for mutant in mutants if mutant.kind == kind]
        if chosen:
            lines += [
                "",
                f"## {_HEADINGS[kind]}",
                "",
                "| mutant | source | found by | what broke | s | runs | steps |",
            ]
            lines += ["| --- | --- | --- | --- | ---: | ---: | ---: |"]
            lines += [_row(mutant, records[mutant.name]) for mutant in chosen if not mutant.equivalent]
    equivalent = [mutant for mutant in mutants if mutant.equivalent]
    if equivalent:
        lines += ["", "## Equivalent", ""]
        lines += [f"- `{m.name}` ({m.source}): {m.about} {m.equivalent}" for m in equivalent]
    return "\n".join(lines) + "\n"


def _row(mutant: Mutant, record: Record) -> str:
    found = record.last
    who = found.explorer if record.killed else "**nobody**"
    runs = "at once" if record.at_once else str(found.runs or "")
    cells = [f"`{mutant.name}`: {mutant.about}", mutant.source, who]
    if record.killed:
        cells += [f"`{found.by}`", f"{found.seconds:.0f}", runs, str(found.steps or "")]
    else:
        cells += ["", "", "", ""]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
