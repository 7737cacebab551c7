"""Every mutant fits the code as it is, changes it, and compiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.mutants.catalogue import KINDS, ROOT, Mutant, MutantError, catalogue, copy_package, read

MUTANTS = catalogue()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.kind}/{mutant.name}")
def test_it_fits_and_compiles(mutant: Mutant) -> None:
    texts = mutant.mutated(ROOT / "simmig")
    assert texts
    for path, text in texts.items():
        assert text != path.read_text()
        compile(text, str(path), "exec")
    assert mutant.about.endswith(".")
    assert "\n" not in mutant.about


def test_there_are_enough_and_no_name_is_used_twice() -> None:
    counts = {kind: sum(mutant.kind == kind and not mutant.equivalent for mutant in MUTANTS) for kind in KINDS}
    assert counts["protocol"] >= 35
    assert counts["device"] >= 20
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_every_rule_that_the_device_obeys_has_a_mutant() -> None:
    ruled = {mutant.source for mutant in MUTANTS if mutant.kind == "device"}
    # No shared receive queues (R20, R45); R35 and R36 are about what a program may not rely on.
    not_modelled = {20, 35, 36, 45}
    assert ruled >= {f"R{number}" for number in range(1, 46) if number not in not_modelled}


def test_a_mutant_that_no_longer_fits_says_so(tmp_path: Path) -> None:
    (tmp_path / "device").mkdir()
    path = tmp_path / "device/stray.toml"
    path.write_text(
        'about = "A."\nsource = "R1"\n[[edit]]\nfile = "verbs/sim/qp.py"\nbefore = "no such text"\nafter = ""\n'
    )
    with pytest.raises(
        MutantError, match=r"device/stray.toml.* 0 times in simmig/verbs/sim/qp.py.*'no such text'"
    ):
        read(path).mutated(ROOT / "simmig")
    path.write_text('about = "A."\n')
    with pytest.raises(MutantError, match=r"device/stray.toml: cannot be read"):
        read(path)


def test_a_copy_differs_where_it_is_to(tmp_path: Path) -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "no-final-drain")
    copy_package(tmp_path, mutant)
    changed = [
        path.relative_to(tmp_path / "simmig")
        for path in sorted((tmp_path / "simmig").rglob("*.py"))
        if path.read_text() != (ROOT / "simmig" / path.relative_to(tmp_path / "simmig")).read_text()
    ]
    assert changed == [Path("migration/source.py")]
