"""simmig from Python: the documentation's examples run, and what is wrong is told."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import simmig
from simmig.experiment.errors import InputError
from simmig.experiment.studies.sweep.spec import make_sweep
from simmig.migration.policies import Point, PolicyError, Sender, register
from tests.experiment.studies.sweep.small import write

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


def test_paths_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scenarios").mkdir()
    write(tmp_path / "scenarios", "")
    (tmp_path / "scenarios/own.py").rename(tmp_path / "own.py")
    monkeypatch.chdir(tmp_path)
    assert simmig.run("scenarios/small.toml", policy="own.py:Slow,tag=1").good
    assert simmig.run("scenarios/small.toml", set={"policy.name": "own.py:Slow"}).good


def asks_nothing(point: Point, sender: Sender) -> None:
    return None


def test_policies_of_this_process_are_not_mistaken_for_others(tmp_path: Path) -> None:
    write(tmp_path, "")
    own = [(lambda _, sender, bound=bound: bound) for bound in (0, None)]
    with pytest.raises(InputError, match="two policies are called '<lambda>'"):
        simmig.sweep(tmp_path / "small.toml", axes={"policy": own})
    for option in ({"out": tmp_path / "out"}, {"dask": "tcp://nowhere:1"}):
        with pytest.raises(InputError, match=f"{min(option)}: only this process knows policy 'asks_nothing'"):
            simmig.sweep(tmp_path / "small.toml", axes={"policy": [asks_nothing]}, **option)
    with pytest.raises(InputError, match="has no name"):
        simmig.run(tmp_path / "small.toml", policy=functools.partial(asks_nothing))
    twice = simmig.sweep(tmp_path / "small.toml", axes={"policy": [asks_nothing, "asks_nothing"]}).frame()
    assert list(twice["error"].isna()) == [True, True]
