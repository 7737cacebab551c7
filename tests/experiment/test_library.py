"""simmig from Python: the documentation's examples run, and what is wrong is told."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import simmig
from simmig.experiment.sweep.spec import make_sweep
from simmig.migration.policies import PolicyError, register
from tests.experiment.sweep.small import write

DOCS = Path(__file__).parents[2] / "docs"


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / name).read_text(), re.DOTALL | re.MULTILINE)


def test_the_examples_of_the_documentation_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOCS.parent)
    names: dict[str, object] = {"__name__": "library"}
    monkeypatch.setitem(sys.modules, "library", type(sys)("library"))  # dataclasses look their module up
    examples = blocks("library.md", "python")
    assert len(examples) >= 5
    for example in examples:
        exec(compile(example, "docs/library.md", "exec"), names)


def test_the_sweep_of_the_documentation_is_one() -> None:
    (text,) = blocks("sweeps.md", "toml")
    scenarios = DOCS.parent / "scenarios"
    sweep = make_sweep(tomllib.loads(text), scenarios / "sweeps/x.toml", scenarios / "quickstart.toml", text)
    assert sweep.plan.points == 2 * 3 * 2 * 3 * 10


def test_importing_simmig_imports_nothing_slow() -> None:
    code = "import simmig, sys; assert not {'numpy', 'pydantic', 'pandas', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_name_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'rnu'"):
        simmig.rnu  # noqa: B018
    with pytest.raises(PolicyError, match="built in"):
        register("per-chunk", type("Own", (), {"drain": lambda *_: None}))
    with pytest.raises(PolicyError, match="no class with a drain"):
        register("own", int)  # type: ignore[arg-type]


def test_a_sweep_by_file_keeps_its_results(tmp_path: Path) -> None:
    path = write(tmp_path, 'axes.policy = ["final-only", "per-chunk"]')
    results = simmig.sweep(path, out=tmp_path / "out", jobs=1)
    assert results.path == tmp_path / "out/results.parquet"
    assert list(results.frame()["policy.name"]) == ["final-only", "per-chunk"]
    assert results.provenance()["axes"] == {"policy": ["policy.name"]}
    with pytest.raises(TypeError, match="goes with `axes`"):
        simmig.sweep(path, set={"seed": 3})
