"""The score: who found what, what is left, and what was measured before."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.mutants.__main__ import main
from benchmarks.mutants.catalogue import Mutant, catalogue
from benchmarks.mutants.explorers import Finding
from benchmarks.mutants.report import CONTROL, Record, document, summary

MUTANTS = catalogue()
EQUIVALENT = next(mutant for mutant in MUTANTS if mutant.equivalent)
FOUND, LEFT = [mutant for mutant in MUTANTS if mutant.kind == "protocol" and not mutant.equivalent][:2]
DEVICE = next(mutant for mutant in MUTANTS if mutant.kind == "device")


def record(mutant: Mutant, *findings: Finding) -> Record:
    return Record(mutant.name, mutant.digest(), 20.0, list(findings))


RECORDS = [
    record(FOUND, Finding("seeds", True, "one_side_runs", 2.5, 1, 12)),
    record(LEFT, Finding("seeds", False, seconds=20.0, runs=500), Finding("exhaustive", False, runs=900)),
    record(EQUIVALENT, Finding("seeds", False, runs=500)),
    record(DEVICE, Finding("rules", True, "test_r1", 3.0)),
    Record(CONTROL, "", 20.0, [Finding("seeds", False, runs=700)]),
]
BY_NAME = {each.mutant: each for each in RECORDS}
CHOSEN = [mutant for mutant in MUTANTS if mutant.name in BY_NAME]


def test_equivalent_ones_are_not_counted_and_survivors_named() -> None:
    lines = summary(CHOSEN, BY_NAME)
    assert lines[0].startswith("The migration: 1 of 2 killed (50%); 1 by seeds; 1 at once")
    assert lines[1].startswith("The simulated device: 1 of 1 killed (100%); 1 by rules")
    assert f"Survivors: {LEFT.name}" in lines
    assert lines[-1] == "The unmutated code holds: seeds (700 runs)"


def test_the_document_tells_each_of_them() -> None:
    text = document(CHOSEN, BY_NAME)
    assert (
        f"| `{FOUND.name}`: {FOUND.about} | {FOUND.source} | seeds | `one_side_runs` | 2 | at once | 12 |" in text
    )
    assert f"`{LEFT.name}`: {LEFT.about} | {LEFT.source} | **nobody** |" in text
    assert EQUIVALENT.equivalent in text


def test_what_was_measured_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.jsonl"
    out.write_text("".join(json.dumps(asdict(each)) + "\n" for each in RECORDS))
    assert main(["--only", FOUND.name, "--out", str(out)]) == 1  # for the other one it knows of is alive
    assert "1 of 2 killed" in capsys.readouterr().out
    assert len(out.read_text().splitlines()) == len(RECORDS)


def test_wrong_names_and_files_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no-such"]) == 2
    assert "no-such: no such mutant" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("something else\n")
    assert main(["--out", str(tmp_path / "notes.txt")]) == 2
    assert "notes.txt:1: no result of this benchmark" in capsys.readouterr().err
